//! When nobody needs any more what a node keeps.
//!
//! Every node *walks* over all slices of its state, again and again: it makes the copies that it should have, and says what it
//! found. The list in the state says who has a copy of what, but a disk may have been lost, and what was listed there is being
//! fetched again. So a node that leaves may go when
//!
//! * the leader's walk found that of everything it keeps there are copies enough on those that stay, by the list, and
//! * the walks of all that keep data found that they have whatever is listed for them,
//!
//! all of them in walks that began after the last change of who keeps data, and all these were heard of a moment ago, in the
//! lives in which they walked. What is stored after that change is stored on those that stay alone.
//!
//! A node that is away for long does not count, neither its copies nor what it lacks. When it is back there are copies more than
//! there should be; these go one by one under the same conditions, so that none goes on the word of a list alone.
//!
//! Where copies are lost for good nobody could ever go; so an operator may say of a node that it goes with what it has.

use super::NodeMachine;
use super::fetching::Fetching;
use super::io::Output;
use super::members::listed;
use super::messages::Item;
use super::placement::{list_copy, spare_copy};
use crate::meta::{Key, SliceInfo, Store, Value};
use crate::types::{Members, NodeId, SliceId};
use std::collections::{BTreeMap, BTreeSet};

/// Copies too many that go with one tick.
const SPARE_TOGETHER: usize = 64;

/// What a node found when it walked over all slices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// The state was that of this entry, or newer.
    pub began: u64,
    /// Copies that this node should have, and has not.
    pub lacks: u64,
    /// Nodes that leave, and of which nobody needs a copy, by the list.
    pub drained: BTreeSet<NodeId>,
    /// Some of the slices of which there are more copies than there should be, by the list.
    pub spare: Vec<SliceId>,
}

/// What the leader heard of another node's walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Which of its lives that was.
    pub life: u64,
    pub began: u64,
    pub lacks: u64,
    /// How far it is with them: newer than the walk, and for people only.
    pub fetching: Fetching,
}

/// What a leader knows about who may go.
#[derive(Default)]
pub(super) struct Drain {
    /// The entry that made the last change of who keeps data, or one behind it.
    since: Option<u64>,
    walked: BTreeMap<NodeId, Walked>,
    /// These go with what they have.
    given_up: BTreeSet<NodeId>,
    /// Slices that a walk found to have a copy too many.
    spare: Vec<SliceId>,
}

impl Drain {
    pub(super) fn begins(&mut self, index: u64) {
        self.since = Some(index);
        self.given_up.clear();
        self.spare.clear();
    }

    pub(super) fn begins_at_the_latest(&mut self, index: u64) {
        self.since.get_or_insert(index);
    }

    pub(super) fn give_up(&mut self, node: NodeId) {
        self.given_up.insert(node);
    }

    pub(super) fn heard(&mut self, from: NodeId, walked: Walked) {
        self.walked.insert(from, walked);
    }

    /// Whether a walk that began with this entry counts.
    fn counts(&self, began: u64) -> bool {
        self.since.is_some_and(|since| began >= since)
    }
}

impl NodeMachine {
    /// The nodes that leave and may go.
    pub(super) fn drained(&self) -> BTreeSet<NodeId> {
        let mut may_go = self.lead.drain.given_up.clone();
        if self.all_is_where_it_is_listed() {
            may_go.extend(&self.walk.drained);
        }
        may_go
    }

    /// Whether all whose copies count have theirs, as far as is known from walks that count.
    fn all_is_where_it_is_listed(&self) -> bool {
        self.lead.drain.counts(self.walk.began)
            && self.members.keeping().into_iter().all(|node| self.lacks(node) == Some(0))
    }

    /// This node's shell walked over all slices.
    pub(super) fn walked(&mut self, mut walk: Walk) {
        self.lead.drain.spare = std::mem::take(&mut walk.spare);
        self.walk = walk;
    }

    /// Copies that are too many go, some at a time, while nothing else of the cluster's own waits.
    pub(super) fn tick_drain(&mut self) {
        if !self.lead.drain.spare.is_empty() && !self.lead.queue.own_waits() && self.all_is_where_it_is_listed() {
            let spare = &mut self.lead.drain.spare;
            let some = spare.split_off(spare.len().saturating_sub(SPARE_TOGETHER));
            some.into_iter().for_each(|id| self.lead.queue.push(Item::DropSpare(id)));
        }
    }

    /// One copy of a slice goes if there are too many: looked at again here, where everybody finds the same.
    pub(super) fn apply_drop_spare(&mut self, id: SliceId) {
        self.change_copies(id, None, |members, info| {
            let spare = spare_copy(members, id, info)?;
            info.nodes.retain(|node| *node != spare);
            Some(spare)
        });
    }

    /// A node has a copy of a slice; it may have begun to make it under another list of nodes, or of copies.
    pub(super) fn apply_copied(&mut self, id: SliceId, node: NodeId, instead_of: Option<NodeId>) {
        self.change_copies(id, Some(node), |members, info| list_copy(members, info, node, instead_of));
    }

    /// Changes the list of a slice's copies; `change` answers whose copy nobody needs then, `gone` is whose nobody needs where
    /// there is no such slice any more.
    fn change_copies(
        &mut self,
        id: SliceId,
        gone: Option<NodeId>,
        change: impl FnOnce(&Members, &mut SliceInfo) -> Option<NodeId>,
    ) {
        let state = self.shared.read();
        let found = listed(&*state).and_then(|members| Ok((members, state.get(&Key::Slice(id))?)));
        drop(state);
        let spare = match found {
            Ok((Some(members), Some(Value::Slice(mut info)))) => {
                let spare = change(&members, &mut info);
                self.keep(BTreeMap::from([(Key::Slice(id), Some(Value::Slice(info)))]));
                spare
            }
            Ok(_) => gone,
            Err(_) => return self.stop("the list of a slice's copies cannot be read"),
        };
        if spare == Some(self.config.id) {
            self.out.push(Output::SpareCopy(id));
        }
    }

    /// How far a node is with what it lacks, as it said last in this life.
    pub(super) fn fetching(&self, node: NodeId) -> Option<Fetching> {
        if node == self.config.id {
            return Some(self.fetching);
        }
        let walked = self.lead.drain.walked.get(&node).filter(|walked| self.life_of(node) == Some(walked.life));
        walked.map(|walked| walked.fetching)
    }

    /// How many copies a node lacks, as far as the leader knows from a walk that counts.
    pub(super) fn lacks(&self, node: NodeId) -> Option<u64> {
        if node == self.config.id {
            return Some(self.walk.lacks).filter(|_| self.lead.drain.counts(self.walk.began));
        }
        let walked = self.lead.drain.walked.get(&node).filter(|walked| self.life_of(node) == Some(walked.life))?;
        Some(walked.lacks).filter(|_| self.lead.drain.counts(walked.began))
    }
}
