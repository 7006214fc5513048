//! Carries out committed entries: the same on every node, from the same state to the same state.

use super::NodeMachine;
use super::io::Output;
use super::messages::{Batch, Item};
use super::version::decode_batch;
use crate::meta::{Key, Op, Step, Stop, Txn, Value, locks};
use crate::session::{Command, Reply, Session, Turn};
use crate::types::{ClusterId, Cred, Errno, Ino, Owner, SessionId, SliceId, Stamp};
use raft::eraftpb::Entry;
use std::collections::{BTreeMap, BTreeSet};

impl NodeMachine {
    /// A leader's mounts wait for what is applied; a follower has its own log to write first, which a leader waits for.
    pub(super) fn apply_committed(&mut self, entries: Vec<Entry>) {
        self.deferred.extend(entries);
        if self.is_leader() {
            self.apply_deferred();
        }
    }

    pub(super) fn apply_deferred(&mut self) {
        if self.snapshot.is_some() {
            return;
        }
        let entries = std::mem::take(&mut self.deferred);
        if entries.is_empty() {
            return;
        }
        for entry in entries {
            let at = (entry.index, entry.term);
            if entry.index > self.applied.0 {
                if !entry.data.is_empty() {
                    match decode_batch(&entry.data) {
                        Ok((version, batch)) => self.apply_batch(version, batch),
                        Err(e) => return self.stop(format!("log entry {} cannot be understood: {e}", entry.index)),
                    }
                }
                self.applied = at;
                self.shared.has_applied(at);
                self.freeze_what_was_asked();
            }
            self.lead.applied_entry(at.1);
        }
        self.tell_applied();
        if self.is_leader() {
            self.lead_after_apply();
        }
    }

    /// What is done about an item may depend on the version in force, and on nothing else that differs from build to build.
    /// `written_by` is that one or, where it was raised while the entry was on its way, the one before.
    fn apply_batch(&mut self, written_by: u32, batch: Batch) {
        debug_assert!(
            self.in_force.is_none_or(|version| written_by <= version),
            "an entry ahead of the version in force"
        );
        self.last_stamp = self.last_stamp.max(batch.stamp);
        let mut touched = BTreeSet::new();
        for item in batch.items {
            match item {
                Item::Form { cluster, owner } => self.apply_form(written_by, batch.stamp, cluster, owner),
                Item::Raise(version) => self.apply_raise(version),
                Item::Founders(members) => self.apply_founders(members),
                Item::OpenSession { client, nonce } => self.apply_open_session(batch.stamp, client, nonce),
                Item::EndSession(session) => self.apply_end_session(session),
                Item::Members { request, change } => self.apply_members(request, &change),
                Item::DropSpare(id) => self.apply_drop_spare(id),
                Item::Copied { slice, node, instead_of } => self.apply_copied(slice, node, instead_of),
                Item::Command { command, deny } => {
                    let session = command.session;
                    if self.apply_command(batch.stamp, command, deny) {
                        touched.insert(session);
                    }
                }
                Item::Own(op) => {
                    let reply = self.run(batch.stamp, None, &Cred::ROOT, &op);
                    match &op {
                        Op::BreakLocks(order) => self.locks_were_broken(order, reply),
                        Op::Merge(merge) => self.merge_was_applied(merge, &reply),
                        _ => {}
                    }
                }
            }
        }
        let mut view = self.shared.write();
        for id in touched {
            if let Some(session) = self.sessions.get(&id) {
                view.fresh.insert(Key::Session(id), Some(Value::Session(session.clone())));
            }
        }
    }

    /// Runs one operation and keeps its changes, if it came to its end.
    fn run(&mut self, stamp: Stamp, session: Option<SessionId>, cred: &Cred, op: &Op) -> Reply {
        let view = self.shared.read();
        let mut txn = Txn::new(&*view, stamp);
        txn.session = session;
        let outcome = op.run(&mut txn, cred);
        let changes = txn.into_changes();
        drop(view);
        match outcome {
            Ok(answer) => {
                self.keep(changes);
                Reply::Done(answer)
            }
            Err(Stop::Errno(errno)) => Reply::Failed(errno),
            Err(Stop::NeedGroups) => Reply::NeedGroups,
            Err(Stop::Fault(fault)) => {
                // Going on would make this node's state differ from the others'.
                self.stop(format!("the state store cannot be read: {fault:?}"));
                Reply::Failed(Errno::EIO)
            }
        }
    }

    pub(super) fn keep(&mut self, changes: BTreeMap<Key, Option<Value>>) {
        let (mut dropped, mut unlinked): (Vec<SliceId>, Vec<Ino>) = (Vec::new(), Vec::new());
        for (key, value) in &changes {
            match (key, value) {
                (Key::Locks(ino), _) => self.locks_changed(*ino),
                (Key::LockUse(session, ino), Some(Value::LocksBroken)) => self.tell_of_broken(*session, *ino),
                (Key::Slice(id), None) => dropped.push(*id),
                (Key::Extent(ino, end), Some(Value::Extent(extent))) => self.note_inline(*ino, *end, extent),
                (Key::Orphan(ino), value) => {
                    let is_new = self.lead.orphans.changed(*ino, value.is_some(), self.now.mono);
                    unlinked.extend(Some(*ino).filter(|_| is_new && self.is_leader()));
                }
                _ => {}
            }
        }
        if !dropped.is_empty() {
            self.out.push(Output::DropSlices(dropped));
        }
        let mut view = self.shared.write();
        view.just_unlinked.extend(unlinked);
        view.absorb(changes);
    }

    /// The first entry of a cluster's life. A second one, proposed by a leader who did not know of the first, is nothing.
    fn apply_form(&mut self, version: u32, stamp: Stamp, cluster: ClusterId, owner: Owner) {
        if self.cluster.is_some() {
            return;
        }
        let mut changes: BTreeMap<Key, Option<Value>> = crate::meta::format(stamp, owner).into_iter().collect();
        if let Some(Some(Value::Volume(volume))) = changes.get_mut(&Key::Volume) {
            volume.cluster = cluster;
        }
        self.keep(changes);
        self.found_version(version);
        self.cluster = Some(cluster);
        self.out.push(Output::Cluster(cluster));
    }

    fn apply_open_session(&mut self, stamp: Stamp, client: String, nonce: u64) {
        let known = self.sessions.iter().find(|(_, s)| s.nonce == nonce && s.client == client).map(|(id, _)| *id);
        let id = match known {
            Some(id) => id, // the greeting came twice
            None => {
                let Some(id) = self.next_session() else { return };
                let session = Session::new(client, nonce, stamp);
                self.keep(BTreeMap::from([(Key::Session(id), Some(Value::Session(session.clone())))]));
                self.sessions.insert(id, session);
                self.lead.heard(id, self.now.mono);
                id
            }
        };
        self.session_opened(id, nonce);
    }

    fn next_session(&mut self) -> Option<SessionId> {
        let mut view = self.shared.write();
        let Ok(Some(Value::Volume(mut volume))) = crate::meta::Store::get(&*view, &Key::Volume) else {
            drop(view);
            self.stop("the volume's record cannot be read");
            return None;
        };
        let id = volume.next_session;
        volume.next_session = SessionId(id.0 + 1);
        view.fresh.insert(Key::Volume, Some(Value::Volume(volume)));
        Some(id)
    }

    fn apply_end_session(&mut self, id: SessionId) {
        if self.sessions.remove(&id).is_some() {
            let view = self.shared.read();
            let mut txn = Txn::new(&*view, Stamp::default());
            txn.delete(Key::Session(id));
            let outcome = locks::end_session(&mut txn, id);
            let changes = txn.into_changes();
            drop(view);
            if outcome.is_err() {
                self.stop("the locks of a session cannot be read");
            }
            self.keep(changes);
        }
        self.lead.session_ended(id);
        self.nothing_more_of(id);
        self.session_gone(id);
    }

    /// Answers whether the session's record changed.
    fn apply_command(&mut self, stamp: Stamp, command: Command, deny: Option<Errno>) -> bool {
        let Command { session: id, number, acked, cred, op } = command;
        self.settled(id, number);
        let turn = match self.sessions.get(&id) {
            None => {
                self.session_gone(id);
                return false;
            }
            Some(session) => match session.turn(number) {
                Turn::Next => None,
                Turn::Again(reply) => Some(reply.clone()),
                Turn::Settled => return false,
                Turn::Early => {
                    self.again(&[id]);
                    return false;
                }
            },
        };
        if let Some(reply) = turn {
            self.reply(id, number, reply);
            return false;
        }
        *self.carried_out.entry(op.name()).or_default() += 1;
        let reply = match deny {
            Some(errno) => Reply::Failed(errno),
            None => self.run(stamp, Some(id), &cred, &op),
        };
        if let Some(session) = self.sessions.get_mut(&id) {
            session.record(reply.clone(), acked);
        }
        self.reply(id, number, reply);
        true
    }
}
