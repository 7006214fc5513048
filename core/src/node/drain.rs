//! When nobody needs any more what a node keeps.
//!
//! Every node *walks* over all slices of its state, again and again: it makes the copies that it should have, and says what it
//! found. The list in the state says who has a copy of what, but a disk may have been lost, and what was listed there is being
//! fetched again. So a node that leaves may go when
//!
//! * the leader's walk found that of everything it keeps there are copies enough on those that stay, by the list, and
//! * the walks of all that stay found that they have whatever is listed for them,
//!
//! all of them in walks that began after the last change of who stays, and all that stay were heard of a moment ago, in the
//! lives in which they walked. What is stored after that change is stored on those that stay alone.
//!
//! Where copies are lost for good nobody could ever go; so an operator may say of a node that it goes with what it has.

use super::NodeMachine;
use crate::types::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// What a node found when it walked over all slices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// The state was that of this entry, or newer.
    pub began: u64,
    /// Copies that this node should have, and has not.
    pub lacks: u64,
    /// Nodes that leave, and of which nobody needs a copy, by the list.
    pub drained: BTreeSet<NodeId>,
}

/// What the leader heard of another node's walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Which of its lives that was.
    pub life: u64,
    pub began: u64,
    pub lacks: u64,
}

/// What a leader knows about who may go.
#[derive(Default)]
pub(super) struct Drain {
    /// The entry that made the last change of who stays, or one behind it.
    since: Option<u64>,
    walked: BTreeMap<NodeId, Walked>,
    /// These go with what they have.
    given_up: BTreeSet<NodeId>,
}

impl Drain {
    pub(super) fn begins(&mut self, index: u64) {
        self.since = Some(index);
        self.given_up.clear();
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
        let all_have_theirs = || self.members.staying().into_iter().all(|node| self.lacks(node) == Some(0));
        let mut may_go = self.lead.drain.given_up.clone();
        if self.lead.drain.counts(self.walk.began) && all_have_theirs() {
            may_go.extend(&self.walk.drained);
        }
        may_go
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
