//! # The mount's machine
//!
//! What a mount asks of its node, in one deterministic `step(now, input) -> outputs`.
//!
//! A [`Call`] is carried out by straight-line code (`calls`) over a [`Flow`](flow): where the code needs something that is
//! not there yet (an answer, a command's reply, a slice), it stops and names it; when that has come, the code runs again from
//! its first line, over what is known by then. So no call is a hand-made state machine.
//!
//! ```text
//!   program -> Call -> calls::run ---------------------> Done -> program
//!                        |  ^                                 (over what came so far)
//!                   Want |  | Got
//!                        v  |
//!     Ask, Command ---> node      Put, Get ---> slices      Groups ---> the caller's process
//! ```
//!
//! What was fetched outlives the call that asked for it only under a copy ([`copies`]): every other answer is the node's, and
//! writes go through before they return. So every call takes effect at one moment between its begin and its end.
//!
//! Invariants:
//! * commands are numbered without gaps, and each is sent until it is answered; a reply is taken once;
//! * a mount says that it does not hold an object only when no open that began before could still succeed.

mod call;
mod calls;
mod copies;
mod flow;
mod locks;
mod patience;
mod places;
mod session;
mod unanswered;

pub use call::{Call, Done, Handle};
pub use copies::{Forget, Pages, Valid};
pub use flow::{SliceFault, SlicePart};
pub use patience::{Patience, Slow};

use crate::meta::{Answer, Query};
use crate::session::{Reply, ToMount, ToNode};
use crate::types::{Cred, Errno, Ino, NodeId, Object, SessionId, SliceId};
use bytes::Bytes;
use copies::Copies;
use flow::{Flow, Got, Halt, Running, Want};
use locks::Locks;
use places::Places;
use session::Link;
use std::collections::{BTreeMap, VecDeque};
use unanswered::Unanswered;

/// One call under way, named by the shell; ids grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

#[derive(Clone, Debug)]
pub enum Input {
    Tick,
    Call {
        id: CallId,
        cred: Cred,
        call: Call,
    },
    /// The stream to a node stands: the mount may greet.
    Linked,
    /// It broke.
    Unlinked,
    Node(ToMount),
    /// A slice is on its nodes' disks.
    Put {
        call: CallId,
        id: SliceId,
        outcome: Result<Vec<NodeId>, SliceFault>,
    },
    /// The parts asked for, in order.
    Got {
        call: CallId,
        outcome: Result<Vec<Bytes>, SliceFault>,
    },
    /// The supplementary groups of a call's caller.
    Groups {
        call: CallId,
        groups: Vec<u32>,
    },
    /// The kernel knows nothing of this any more, or did not know the object at all.
    Forgot {
        object: Object,
        knew: bool,
    },
    /// A program does not want to wait any longer for what others hold.
    Interrupt {
        call: CallId,
    },
}

#[derive(Clone, Debug)]
pub enum Output {
    Respond {
        call: CallId,
        outcome: Result<Done, Errno>,
        /// For how long the kernel may answer the same by itself.
        valid: Valid,
    },
    /// Have the kernel forget this, then say [`Input::Forgot`] of its object. May take long.
    Forget(Forget),
    Tell(ToNode),
    Put {
        call: CallId,
        id: SliceId,
        data: Bytes,
    },
    Get {
        call: CallId,
        parts: Vec<SlicePart>,
    },
    Groups {
        call: CallId,
    },
    /// A call waits for long; for the log.
    Slow(Slow),
    /// The session was over before the mount knew: said once, for the log.
    Fenced {
        lost: usize,
        /// Objects on which the mount's programs held locks, which are gone.
        unlocked: Vec<Ino>,
    },
    /// An operator took away the locks on an object, which programs have open: said once, for the log.
    LocksBroken {
        ino: Ino,
    },
}

#[derive(Clone, Debug)]
pub struct Config {
    /// Host and mount point, for people.
    pub client: String,
    /// Drawn when the process starts.
    pub nonce: u64,
    pub patience: Patience,
}

pub struct MountMachine {
    config: Config,
    now: u64,
    out: Vec<Output>,
    link: Link,
    session: Option<SessionId>,
    next_number: u64,
    /// Commands without a reply, in order; each with the call it belongs to.
    unanswered: Unanswered,
    /// Commands that wait for room in the session's window.
    held_back: VecDeque<CallId>,
    next_ask: u64,
    asks: BTreeMap<u64, Asked>,
    next_slice: u64,
    running: BTreeMap<CallId, Running>,
    handles: BTreeMap<Handle, Opened>,
    next_handle: u64,
    /// Questions of the leader about orphans, each with the last call that began before it came.
    who_holds: Vec<(u64, Vec<Ino>, CallId)>,
    last_call: CallId,
    locks: Locks,
    copies: Copies,
    places: Places,
    stats: Stats,
}

/// What the machine counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Questions answered from copies, and those that a node was asked.
    pub answered_here: u64,
    pub asked: u64,
    /// Copies that were asked back.
    pub recalled: u64,
    /// Objects of which there are copies.
    pub copies: u64,
    /// Programs' calls under way.
    pub running: u64,
    /// Files and directories that programs have open.
    pub open: u64,
    pub linked: bool,
}

/// What programs have open.
#[derive(Clone, Copy, Debug)]
struct Opened {
    ino: Ino,
    /// The kernel may keep what is read through it.
    cached: bool,
    /// The kernel does not say when a process closes it.
    quiet: bool,
}

/// A question without an answer.
struct Asked {
    call: CallId,
    cred: Cred,
    query: Query,
    keep: bool,
    /// When it was sent last.
    at: u64,
}

impl MountMachine {
    pub fn new(config: Config) -> MountMachine {
        MountMachine {
            config,
            now: 0,
            out: Vec::new(),
            link: Link::default(),
            session: None,
            next_number: 1,
            unanswered: Unanswered::default(),
            held_back: VecDeque::new(),
            next_ask: 1,
            asks: BTreeMap::new(),
            next_slice: 1,
            running: BTreeMap::new(),
            handles: BTreeMap::new(),
            next_handle: 1,
            who_holds: Vec::new(),
            last_call: CallId(0),
            locks: Locks::default(),
            copies: Copies::default(),
            places: Places::default(),
            stats: Stats::default(),
        }
    }

    /// Takes what happened at `now` (microseconds of a clock that never goes back) and answers what to do, in order.
    pub fn step(&mut self, now: u64, input: Input) -> Vec<Output> {
        self.now = now;
        self.expire_copies();
        match input {
            Input::Tick => self.tick(),
            Input::Call { id, cred, call } => self.begin(id, cred, call),
            Input::Linked => self.linked(),
            Input::Unlinked => self.unlinked(),
            Input::Node(message) => self.node_says(message),
            Input::Put { call, id, outcome } => self.slice_stored(call, id, outcome),
            Input::Got { call, outcome } => self.slice_came(call, outcome.map(Got::Parts)),
            Input::Groups { call, groups } => self.groups_came(call, groups),
            Input::Forgot { object, knew } => self.forgot(object, knew),
            Input::Interrupt { call } => self.interrupted(call),
        }
        std::mem::take(&mut self.out)
    }

    /// Whether the mount has a session: what `ready` means.
    pub fn is_ready(&self) -> bool {
        self.link.is_up()
    }

    pub fn stats(&self) -> Stats {
        Stats {
            copies: self.copies.count() as u64,
            running: self.running.len() as u64,
            open: self.handles.len() as u64,
            linked: self.link.is_up(),
            ..self.stats
        }
    }

    pub fn session(&self) -> Option<SessionId> {
        self.session
    }

    fn begin(&mut self, id: CallId, cred: Cred, call: Call) {
        self.last_call = self.last_call.max(id);
        if let Call::Release(handle) = call {
            self.released(handle);
            self.respond(id, Ok(Done::Nothing), Valid::default());
            return;
        }
        if let Some(outcome) = self.settled_by_locks(&call) {
            self.respond(id, outcome, Valid::default());
            return;
        }
        if let Call::Write { ino, mapped: true, .. } = call {
            self.writes_mapped(ino);
        }
        self.running.insert(id, Running::new(cred, call, self.now));
        self.run(id);
    }

    /// Runs a call from its first line, over what is known; it ends, or names what it needs.
    fn run(&mut self, id: CallId) {
        let Some(running) = self.running.get_mut(&id) else { return };
        running.want = None;
        let mut flow = Flow::new(running, self.session.unwrap_or(SessionId(0)), id);
        match calls::run(&running.call, &mut flow) {
            Ok(done) => self.finish(id, Ok(done)),
            Err(Halt::Errno(errno)) => self.finish(id, Err(errno)),
            Err(Halt::Restart) => self.restart(id),
            Err(Halt::Want(want)) => {
                running.want = Some(want);
                self.fetch(id);
            }
        }
    }

    /// What was found has changed meanwhile: everything once more.
    fn restart(&mut self, id: CallId) {
        const RESTARTS_MAX: u32 = 1_000;
        let Some(running) = self.running.get_mut(&id) else { return };
        running.restarts += 1;
        if running.restarts > RESTARTS_MAX {
            return self.finish(id, Err(Errno::EIO));
        }
        self.begin_again(id);
    }

    /// The same, however often.
    fn begin_again(&mut self, id: CallId) {
        let Some(running) = self.running.get_mut(&id) else { return };
        running.known.clear();
        running.in_the_way = None;
        self.run(id);
    }

    fn finish(&mut self, id: CallId, outcome: Result<calls::End, Errno>) {
        if let Ok(calls::End::Done(done)) = &outcome
            && self.is_held_back(id, done)
        {
            return self.tell_kernel();
        }
        let Some(running) = self.running.remove(&id) else { return };
        let outcome = match outcome {
            Err(Errno::EINTR) if running.gave_up => Err(Errno::ETIMEDOUT),
            outcome => outcome,
        };
        if let Call::Lock { ino, owner, handle, .. } = &running.call
            && outcome.is_ok()
        {
            // Another thread may have closed the file meanwhile.
            self.note_owner(*ino, *owner, *handle);
        }
        let valid = match &running.call {
            Call::Ask(query) if running.under_copies => self.validity(query),
            Call::Open { ino, write, .. } if running.under_copies && outcome.is_ok() => self.pages_of(*ino, *write),
            _ => Valid::default(),
        };
        self.call_ended(id);
        let outcome = outcome.map(|end| match end {
            calls::End::Done(done) => done,
            calls::End::Opened(attr) => {
                let handle = Handle(self.next_handle);
                self.next_handle += 1;
                let (cached, quiet) = (valid.pages != Pages::No, valid.quiet);
                self.handles.insert(handle, Opened { ino: attr.ino, cached, quiet });
                Done::Opened { handle, attr }
            }
        });
        if let Ok(done) = &outcome {
            self.note_places(&running.call, done);
        }
        if locks::is_a_programs(id) {
            self.respond(id, outcome, valid);
        }
        match running.call {
            Call::Read { ino, offset, len, pages: true } => self.pages_read(ino, offset, len),
            Call::Write { ino, mapped: true, .. } => self.writes_mapped(ino),
            _ => {}
        }
        if let Call::Ask(Query::ReadDir(list)) = &running.call {
            self.listing_read(list.ino);
        }
        self.tell_kernel();
        self.answer_who_holds();
    }

    fn respond(&mut self, call: CallId, outcome: Result<Done, Errno>, valid: Valid) {
        self.out.push(Output::Respond { call, outcome, valid });
    }

    /// Sets out to get what a call needs.
    fn fetch(&mut self, id: CallId) {
        if self.is_in_vain(id) {
            return self.stop_relying(id);
        }
        let Some(running) = self.running.get_mut(&id) else { return };
        let Some(want) = &running.want else { return };
        match want {
            Want::Ask(query) => {
                let (cred, query) = (running.cred.clone(), query.clone());
                self.ask(id, cred, query);
            }
            Want::Do(_) => self.send_command(id),
            Want::Put(data) => {
                let Some(session) = self.session else {
                    running.lost_at = Some(self.now);
                    return;
                };
                let data = data.clone();
                let slice = *running.slice.get_or_insert_with(|| {
                    let number = self.next_slice;
                    self.next_slice += 1;
                    SliceId { session, number }
                });
                self.out.push(Output::Put { call: id, id: slice, data });
            }
            Want::Get(parts) => self.out.push(Output::Get { call: id, parts: parts.clone() }),
            Want::Turn { .. } => {} // it is told, or asks when it is time
        }
    }

    /// Answers from copies, or asks the node.
    fn ask(&mut self, call: CallId, cred: Cred, query: Query) {
        if let Some(reply) = self.answer_here(&cred, &query) {
            self.stats.answered_here += 1;
            return self.answered(call, reply, true);
        }
        self.stats.asked += 1;
        let keep = self.wants_copies(&query);
        self.renew_if_due();
        self.ask_node(call, cred, query, keep);
    }

    fn answered(&mut self, call: CallId, reply: Reply, under_copies: bool) {
        if let Some(running) = self.running.get_mut(&call) {
            running.under_copies = under_copies;
        }
        self.replied(call, reply);
    }

    /// An outcome that is not of the slice the call waits for is of one it gave up, when its session ended: never to be taken
    /// for the other.
    fn slice_stored(&mut self, call: CallId, id: SliceId, outcome: Result<Vec<NodeId>, SliceFault>) {
        let Some(running) = self.running.get_mut(&call) else { return };
        if running.slice == Some(id) && matches!(running.want, Some(Want::Put(_))) {
            if outcome.is_ok() {
                running.slice = None;
            }
            self.slice_came(call, outcome.map(|nodes| Got::Stored { id, nodes }));
        }
    }

    fn slice_came(&mut self, id: CallId, outcome: Result<Got, SliceFault>) {
        let Some(running) = self.running.get_mut(&id) else { return };
        match outcome {
            Ok(got) => {
                running.known.push(got);
                self.run(id);
            }
            Err(SliceFault::Missing) => self.restart(id),
            Err(SliceFault::Unreachable) => running.lost_at = Some(self.now),
            Err(SliceFault::Full) => self.finish(id, Err(Errno::ENOSPC)),
            Err(SliceFault::Damaged) => self.slice_damaged(id),
        }
    }

    /// One copy is damaged, and the others may be missing because the slice was replaced: then the file refers to another now.
    fn slice_damaged(&mut self, id: CallId) {
        let Some(running) = self.running.get_mut(&id) else { return };
        let Some(Want::Get(parts)) = &running.want else { return };
        let slices: Vec<SliceId> = parts.iter().map(|part| part.id).collect();
        if running.damaged == slices {
            return self.finish(id, Err(Errno::EIO));
        }
        running.damaged = slices;
        self.restart(id);
    }

    fn replied(&mut self, id: CallId, reply: Reply) {
        let Some(running) = self.running.get_mut(&id) else { return };
        match reply {
            Reply::NeedGroups if running.cred.groups.is_none() => self.out.push(Output::Groups { call: id }),
            // Asked too early.
            Reply::Done(Answer::Queued) if matches!(running.want, Some(Want::Turn { .. })) => self.not_yet(id),
            Reply::Done(Answer::Behind(what)) if matches!(running.want, Some(Want::Turn { .. })) => {
                self.still_behind(id, what);
            }
            reply => {
                running.known.push(Got::Reply(reply));
                self.run(id);
            }
        }
    }

    fn groups_came(&mut self, id: CallId, groups: Vec<u32>) {
        if let Some(running) = self.running.get_mut(&id) {
            running.cred.groups = Some(groups);
            self.fetch(id);
        }
    }
}

#[cfg(test)]
mod tests;
