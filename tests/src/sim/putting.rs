//! A slice on its way to the nodes that keep it.
//!
//! As the real nodes do it (`Slices::put`): the node that gets it asks as many as should have it at the same time, each stores it in
//! its own time and answers when it is synced. Who refuses, or does not answer for 5 s, is replaced by the next one. When enough
//! have it, the others get 0.3 s more, and go on by themselves after that. So whatever dies or is cut off in between leaves one copy
//! or two, or copies that nobody heard of.

use super::network::Place;
use super::planted::Planted;
use super::world::{Event, Life, World};
use baton_core::meta::ops::SliceRef;
use baton_core::mount::{CallId, SliceFault};
use baton_core::node::{Asking, Looked, MergeOrder, Merged, copies_wanted, enough_copies, is_full};
use baton_core::types::{NodeId, SliceId};
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};

const REPLICA_PATIENCE_US: u64 = 5_000_000;
const LAST_REPLICA_PATIENCE_US: u64 = 300_000;
/// A replica that let a slice wait in vain is not asked first again for this long.
const SULK_US: u64 = 3_000_000;

/// Which of the slices that are under way.
pub(super) type PutId = u64;

#[derive(Debug)]
pub(super) struct Putting {
    /// The node that got it, and in which life.
    pub(super) primary: usize,
    life: Life,
    id: SliceId,
    data: Bytes,
    /// Nodes that stay: how many copies are enough follows from that.
    staying: usize,
    spare: VecDeque<NodeId>,
    waiting: BTreeSet<NodeId>,
    have: Vec<NodeId>,
    full: usize,
    answers: u64,
    whom: For,
}

/// Who waits for it.
#[derive(Debug)]
pub(super) enum For {
    Mount(usize, Life, CallId),
    Merge(Box<(MergeOrder, Looked)>),
}

/// Whose time is over.
#[derive(Clone, Copy, Debug)]
pub(super) enum Late {
    Replica(NodeId),
    /// All who have not answered, if this is still the last answer.
    Last(u64),
}

impl World {
    pub(super) fn put(&mut self, primary: usize, id: SliceId, data: Bytes, whom: For) {
        let members = self.nodes[primary].members.clone().unwrap_or_default();
        let (slow, now, rng) = (&self.nodes[primary].slow, self.now, &mut self.rng);
        let sulks = |node: NodeId| slow.get(&node).is_some_and(|at| at + SULK_US > now);
        let Asking { order, at_once } = Asking::of(NodeId(primary as u64 + 1), &members, sulks, |_| rng.next());
        let put = self.next_put;
        self.next_put += 1;
        let putting = Putting {
            primary,
            life: self.nodes[primary].life,
            id,
            data,
            staying: members.staying().len(),
            spare: order.into(),
            waiting: BTreeSet::new(),
            have: Vec::new(),
            full: 0,
            answers: 0,
            whom,
        };
        self.puts.insert(put, putting);
        for _ in 0..at_once {
            self.ask_next(put);
        }
        self.ends_if_nobody_is_waited_for(put);
    }

    fn ask_next(&mut self, put: PutId) {
        let Some(putting) = self.puts.get_mut(&put) else { return };
        let Some(node) = putting.spare.pop_front() else { return };
        putting.waiting.insert(node);
        let (from, id, data) = (putting.primary, putting.id, putting.data.clone());
        let Some(to) = self.node_at(node) else { return };
        let way = if to == from { 50 } else { (self.net.delay_us + 500) * self.net.slow };
        let delay = self.rng.delay(way);
        self.after(delay, Event::ReplicaAsked { put, from, to, id, data });
        self.after(REPLICA_PATIENCE_US, Event::ReplicaLate(put, Late::Replica(node)));
    }

    /// A slice reaches one of its nodes.
    pub(super) fn replica_asked(&mut self, put: PutId, from: usize, to: usize, id: SliceId, data: Bytes) {
        let other = from != to;
        if other && (!self.net.reaches(Place::Node(from), Place::Node(to)) || self.rng.one_in(100)) {
            return;
        }
        if self.nodes[to].machine.is_none() || other && self.rng.one_in(20) {
            return self.replica_answers(put, from, to, Err(SliceFault::Unreachable));
        }
        if self.nodes[to].full {
            return self.replica_answers(put, from, to, Err(SliceFault::Full));
        }
        let forgotten = self.plan.planted == Some(Planted::SliceNotStored) && !self.rng.one_in(4);
        if forgotten || self.nodes[to].disk.slices.contains_key(&id) {
            return self.replica_answers(put, from, to, Ok(()));
        }
        let write = self.nodes[to].disk.write_slice(id, data);
        let early = self.plan.planted == Some(Planted::SliceUnsynced);
        if early {
            self.replica_answers(put, from, to, Ok(()));
        }
        let slow = self.nodes[to].slow_disk || early;
        let hangs = self.nodes[to].disk_hangs_until.saturating_sub(self.now);
        let delay = hangs + self.rng.delay(if slow { 60_000 } else { 400 });
        self.syncs(to, true, delay);
        let life = self.nodes[to].life;
        self.after(delay, Event::SliceSynced { put, from, node: to, life, write });
    }

    /// A slice is on a node's disk, and the node says so.
    pub(super) fn slice_synced(&mut self, put: PutId, from: usize, node: usize, life: Life, write: u64) {
        if self.nodes[node].life != life || self.nodes[node].machine.is_none() {
            return;
        }
        self.nodes[node].disk.slice_synced(write);
        self.replica_answers(put, from, node, Ok(()));
    }

    fn replica_answers(&mut self, put: PutId, from: usize, node: usize, outcome: Result<(), SliceFault>) {
        if self.net.reaches(Place::Node(node), Place::Node(from)) {
            let way = if node == from { 10 } else { self.net.delay_us * self.net.slow };
            let delay = self.rng.delay(way);
            self.after(delay, Event::ReplicaAnswered(put, NodeId(node as u64 + 1), outcome));
        }
    }

    pub(super) fn replica_answered(&mut self, put: PutId, node: NodeId, outcome: Result<(), SliceFault>) {
        let Some(putting) = self.puts.get_mut(&put) else { return };
        if !putting.waiting.remove(&node) {
            return;
        }
        putting.answers += 1;
        match outcome {
            Ok(()) => putting.have.push(node),
            Err(fault) => {
                putting.full += usize::from(fault == SliceFault::Full);
                self.ask_next(put);
            }
        }
        self.ends_if_nobody_is_waited_for(put);
        if let Some(putting) = self.puts.get(&put).filter(|p| p.have.len() >= enough_copies(p.staying)) {
            self.after(LAST_REPLICA_PATIENCE_US, Event::ReplicaLate(put, Late::Last(putting.answers)));
        }
    }

    pub(super) fn replica_late(&mut self, put: PutId, late: Late) {
        let Some(putting) = self.puts.get(&put) else { return };
        let primary = putting.primary;
        match late {
            Late::Replica(node) => self.replica_answered(put, node, Err(SliceFault::Unreachable)),
            Late::Last(answers) if answers == putting.answers => {
                let slow: Vec<(NodeId, u64)> = putting.waiting.iter().map(|node| (*node, self.now)).collect();
                self.nodes[primary].slow.extend(slow);
                self.put_ends(put);
            }
            Late::Last(_) => {}
        }
    }

    fn ends_if_nobody_is_waited_for(&mut self, put: PutId) {
        if self.puts.get(&put).is_some_and(|putting| putting.waiting.is_empty()) {
            self.put_ends(put);
        }
    }

    fn put_ends(&mut self, put: PutId) {
        let Some(putting) = self.puts.remove(&put) else { return };
        let Putting { primary, life, id, data, staying, mut have, full, whom, .. } = putting;
        have.sort_by_key(|node| (node.0 != primary as u64 + 1, *node));
        self.stats.count(match have.len() {
            0 => "slice stored by nobody",
            1 => "slice stored by one",
            some if some < copies_wanted(staying) => "slice stored by too few",
            _ => "slice stored by all",
        });
        let outcome = match () {
            () if have.len() >= enough_copies(staying) => Ok(have),
            () if is_full(staying, full) => Err(SliceFault::Full),
            () => Err(SliceFault::Unreachable),
        };
        match whom {
            For::Mount(mount, mount_life, call) => {
                let heard = self.net.both_ways(Place::Mount(mount), Place::Node(primary)) && !self.rng.one_in(50);
                let outcome = if heard { outcome } else { Err(SliceFault::Unreachable) };
                let delay = self.rng.delay(self.net.delay_us + 100);
                self.after(delay, Event::PutDone(mount, mount_life, call, id, outcome));
            }
            For::Merge(order) => self.merge_stored(primary, life, *order, outcome, data.len() as u32),
        }
    }

    fn merge_stored(
        &mut self,
        node: usize,
        life: Life,
        (order, looked): (MergeOrder, Looked),
        outcome: Result<Vec<NodeId>, SliceFault>,
        len: u32,
    ) {
        let merged = match (outcome, looked.run) {
            (Ok(nodes), Some(run)) => {
                self.stats.count("small writes stored as a slice");
                let slice = SliceRef { id: order.slice, len, nodes };
                Merged::Looked { merge: Some(run.merge(slice)), next: looked.next }
            }
            _ => Merged::Failed,
        };
        self.merge_looked_later(node, life, order, merged);
    }

    /// The node is gone, and with it what it had begun. Whom it had asked goes on.
    pub(super) fn puts_of_the_dead(&mut self, node: usize) {
        let dead: Vec<PutId> = self.puts.iter().filter(|(_, p)| p.primary == node).map(|(put, _)| *put).collect();
        for put in dead {
            let Some(Putting { id, whom: For::Mount(mount, life, call), .. }) = self.puts.remove(&put) else {
                continue;
            };
            self.stats.count("node died while it stored a slice");
            let delay = self.rng.delay(self.net.delay_us + 1_000);
            self.after(delay, Event::PutDone(mount, life, call, id, Err(SliceFault::Unreachable)));
        }
    }
}
