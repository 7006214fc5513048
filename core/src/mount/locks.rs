//! The mount's side of file locks: who may hold some, who waits, and what is lost with a session.
//!
//! A lock that must be waited for is a ticket in the state. The node says when locks on the object passed on, and the mount
//! asks whether its turn has come; it also asks now and then by itself, so a hint that got lost costs a moment, not a hang.
//!
//! When the session ends, so do its locks, and others may hold them now. What a program wrote under a lock that it lost must
//! not reach the file any more: until every handle on such an object is closed, changes of its bytes fail with EIO. The same
//! where an operator broke the locks on one object. There the state refuses such changes too, from that moment on, because
//! this mount hears of it later; when the last handle is closed the mount says so, and may use the object again.

use super::flow::{Got, Running, Want};
use super::{Call, CallId, Done, Handle, MountMachine, Opened, Output};
use crate::meta::Query;
use crate::meta::locks::InTheWay;
use crate::meta::ops::{AwaitsLock, ForgetBroken};
use crate::types::{Cred, Errno, Ino};
use std::collections::{BTreeMap, BTreeSet};

/// Who waits asks this often.
const ASK_US: u64 = 1_000_000;

#[derive(Default)]
pub(super) struct Locks {
    /// Owners that may hold something: what else they close needs no command.
    owners: BTreeSet<(Ino, u64)>,
    /// Owners by the open file they locked through, where the kernel does not say when a process closes it.
    through: BTreeMap<Handle, BTreeSet<u64>>,
    /// Objects on which locks were lost, with the session or broken.
    lost: BTreeSet<Ino>,
    /// Those of them on which they were broken: the state waits to hear that nobody has them open.
    broken: BTreeSet<Ino>,
    /// Those that nobody here has open: the state hears so when no call is left that relied on the locks. Told earlier, it would
    /// take what is broken for given.
    to_forget: BTreeSet<Ino>,
    last_ask: u64,
    /// Calls whose turn is to be asked about once more.
    ask_again: BTreeSet<CallId>,
    /// Calls that had a command on its way when the locks were broken that they rely on: what they would do next, they do not.
    in_vain: BTreeSet<CallId>,
    own_calls: u64,
}

/// The mount's own calls are numbered from here; programs' never get that far.
const OWN_CALLS: u64 = 1 << 62;

/// Whether somebody waits for its outcome.
pub(super) fn is_a_programs(id: CallId) -> bool {
    id.0 < OWN_CALLS
}

impl MountMachine {
    /// What needs no node: giving back where nothing was taken, and relying on locks that are lost.
    pub(super) fn settled_by_locks(&mut self, call: &Call) -> Option<Result<Done, Errno>> {
        if let Some(ino) = call.relies_on_locks()
            && self.locks.lost.contains(&ino)
        {
            return Some(Err(Errno::EIO));
        }
        match call {
            Call::Lock { ino, owner, handle, .. } => {
                self.note_owner(*ino, *owner, *handle);
                None
            }
            Call::Unlock { ino, owner, start: 0, end: u64::MAX } => {
                (!self.locks.owners.remove(&(*ino, *owner))).then_some(Ok(Done::Nothing))
            }
            _ => None,
        }
    }

    /// An owner may hold something from now on. Where it locked last through a file of whose closes the kernel tells, these end
    /// all it holds; else the end of that open file does.
    pub(super) fn note_owner(&mut self, ino: Ino, owner: u64, handle: Option<Handle>) {
        self.locks.owners.insert((ino, owner));
        let handles = &self.handles;
        for (handle, owners) in &mut self.locks.through {
            if handles.get(handle).is_some_and(|opened| opened.ino == ino) {
                owners.remove(&owner);
            }
        }
        if let Some(handle) = handle.filter(|handle| handles.get(handle).is_some_and(|opened| opened.quiet)) {
            self.locks.through.entry(handle).or_default().insert(owner);
        }
    }

    pub(super) fn has_lost_locks_on(&self, ino: Ino) -> bool {
        self.locks.lost.contains(&ino)
    }

    pub(super) fn call_ended(&mut self, id: CallId) {
        self.locks.ask_again.remove(&id);
        self.locks.in_vain.remove(&id);
        self.forget_broken();
    }

    fn forget_broken(&mut self) {
        let relies = |ino: &Ino| self.running.values().any(|running| running.call.relies_on_locks() == Some(*ino));
        let idle: Vec<Ino> = self.locks.to_forget.iter().filter(|ino| !relies(ino)).copied().collect();
        for ino in idle {
            self.locks.to_forget.remove(&ino);
            self.begin_own(Call::Do(ForgetBroken { ino }.into()));
        }
    }

    /// Whether anybody here may hold a lock on an object.
    pub(super) fn has_locks_on(&self, ino: Ino) -> bool {
        self.locks.lost.contains(&ino) || self.locks.owners.range((ino, 0)..=(ino, u64::MAX)).next().is_some()
    }

    /// With the last handle on an object ends whatever is held on it: the kernel does not say so of every kind of lock (it is
    /// silent about those of an open file description that `fcntl` took).
    pub(super) fn released(&mut self, handle: Handle) {
        let Some(Opened { ino, .. }) = self.handles.remove(&handle) else { return };
        for owner in self.locks.through.remove(&handle).unwrap_or_default() {
            if self.locks.owners.remove(&(ino, owner)) {
                self.begin_own(Call::Unlock { ino, owner, start: 0, end: u64::MAX });
            }
        }
        let (touched, lost) = (self.locks.owners.iter().any(|(on, _)| *on == ino), self.locks.lost.contains(&ino));
        if (!touched && !lost) || self.handles.values().any(|open| open.ino == ino) {
            return;
        }
        let owners: Vec<u64> = self.locks.owners.iter().filter(|(on, _)| *on == ino).map(|(_, owner)| *owner).collect();
        for owner in owners {
            self.locks.owners.remove(&(ino, owner));
            self.begin_own(Call::Unlock { ino, owner, start: 0, end: u64::MAX });
        }
        self.locks.lost.remove(&ino);
        if self.locks.broken.remove(&ino) {
            self.begin_own(Call::Do(ForgetBroken { ino }.into()));
        }
    }

    /// An operator took the locks on this object away. What was sent already is the state's to refuse; nothing more is begun,
    /// and nobody waits any longer. It may be old news, from a node that is behind: then what was opened since is refused
    /// without need, until it is closed, and gives back what it really holds.
    pub(super) fn locks_broken(&mut self, ino: Ino) {
        let relying = self.running.iter().filter(|(_, r)| r.call.relies_on_locks() == Some(ino));
        let (sent, not_sent): (Vec<_>, Vec<_>) = relying.partition(|(_, r)| matches!(r.want, Some(Want::Do(_))));
        let not_sent: Vec<CallId> = not_sent.into_iter().map(|(id, _)| *id).collect();
        self.locks.in_vain.extend(sent.into_iter().map(|(id, _)| *id));
        not_sent.into_iter().for_each(|id| self.stop_relying(id));
        if !self.handles.values().any(|opened| opened.ino == ino) {
            self.locks.to_forget.insert(ino);
            self.forget_broken();
        } else if self.locks.broken.insert(ino) {
            self.locks.lost.insert(ino);
            self.out.push(Output::LocksBroken { ino });
        }
    }

    pub(super) fn is_in_vain(&self, id: CallId) -> bool {
        self.locks.in_vain.contains(&id)
    }

    /// It fails; or if it waits for a lock, it does not any longer: only the state knows whether that was broken too, or given
    /// out meanwhile.
    pub(super) fn stop_relying(&mut self, id: CallId) {
        self.locks.in_vain.remove(&id);
        if matches!(self.running.get(&id), Some(Running { want: Some(Want::Turn { .. }), .. })) {
            return self.interrupted(id);
        }
        self.asks.retain(|_, asked| asked.call != id);
        self.finish(id, Err(Errno::EIO));
    }

    /// A call that no program made and nobody waits for.
    pub(super) fn begin_own(&mut self, call: Call) {
        let id = CallId(OWN_CALLS + self.locks.own_calls);
        self.locks.own_calls += 1;
        self.running.insert(id, Running::new(Cred::ROOT, call, self.now));
        self.run(id);
    }

    /// The session is over: the objects on which something may have been held, as far as anybody has them open.
    pub(super) fn lose_locks(&mut self) -> Vec<Ino> {
        let open: BTreeSet<Ino> = self.handles.values().map(|opened| opened.ino).collect();
        let owners = std::mem::take(&mut self.locks.owners);
        let lost: BTreeSet<Ino> = owners.into_iter().map(|(ino, _)| ino).filter(|ino| open.contains(ino)).collect();
        self.locks.lost.extend(&lost);
        self.locks.broken.clear();
        self.locks.to_forget.clear();
        lost.into_iter().collect()
    }

    /// Places in the queues are gone with the session: who waits queues again, unless its object's locks are lost.
    pub(super) fn queue_for_locks_again(&mut self) {
        for (id, _) in self.waiting_for_turns(None) {
            self.asks.retain(|_, asked| asked.call != id);
            let lost = self.running.get(&id).and_then(|r| r.call.relies_on_locks());
            if lost.is_some_and(|ino| self.locks.lost.contains(&ino)) {
                self.finish(id, Err(Errno::EIO));
            } else {
                self.restart(id);
            }
        }
    }

    fn waiting_for_turns(&self, on: Option<Ino>) -> Vec<(CallId, AwaitsLock)> {
        let turn = |want: &Option<Want>| match want {
            Some(Want::Turn { ino, by, ticket }) => Some(AwaitsLock { ino: *ino, by: *by, ticket: *ticket }),
            _ => None,
        };
        let waiting = self.running.iter().filter_map(|(id, r)| Some((*id, turn(&r.want)?)));
        waiting.filter(|(_, turn)| on.is_none_or(|ino| ino == turn.ino)).collect()
    }

    /// Asks whether the turn of those who wait (on one object, or at all) has come.
    pub(super) fn ask_for_turns(&mut self, on: Option<Ino>) {
        for (id, turn) in self.waiting_for_turns(on) {
            // That it is there cannot become untrue; that it is not may be of before what is asked about.
            if self.asks.values().any(|asked| asked.call == id) {
                self.locks.ask_again.insert(id);
                continue;
            }
            self.ask_node(id, Cred::ROOT, Query::from(turn), false);
        }
    }

    /// The turn of a call had not come, and this is why.
    pub(super) fn still_behind(&mut self, id: CallId, what: InTheWay) {
        let Some(running) = self.running.get_mut(&id) else { return };
        if running.in_the_way.as_ref().is_none_or(|(before, _)| *before != what) {
            running.in_the_way = Some((what, self.now));
        }
        self.not_yet(id);
    }

    /// The turn of a call had not come.
    pub(super) fn not_yet(&mut self, id: CallId) {
        if self.locks.ask_again.remove(&id)
            && let Some(running) = self.running.get(&id)
            && let Some(Want::Turn { ino, .. }) = running.want
        {
            self.ask_for_turns(Some(ino));
        }
    }

    pub(super) fn tick_locks(&mut self) {
        if self.now >= self.locks.last_ask + ASK_US {
            self.locks.last_ask = self.now;
            self.ask_for_turns(None);
        }
    }

    /// Only waiting ends: what was sent is carried out.
    pub(super) fn interrupted(&mut self, id: CallId) {
        let Some(running) = self.running.get_mut(&id) else { return };
        if matches!(running.want, Some(Want::Turn { .. })) {
            self.asks.retain(|_, asked| asked.call != id);
            running.known.push(Got::Interrupted);
            self.run(id);
        }
    }
}
