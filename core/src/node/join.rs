//! Whether this node votes.
//!
//! A voter that lost its disk has forgotten whom it elected and what it acknowledged. If it voted on as if nothing had
//! happened, entries that were committed with its help could be lost. So a node with an empty folder does not vote until
//! one of two things is sure, and records it durably then ("member"):
//!
//! * **a new cluster**: every node of the configuration, itself included, says that its log is empty (*fresh*);
//! * **an old one**: a leader has brought its log up to what was committed then, and all that is on the disk. The leader may still count what this node
//!   acknowledged before it lost its disk, so it forgets that when it hears that the node is empty; and what is committed
//!   counts only as told by an append that fitted: it was sent after the leader forgot, since before it sent none that did.
//!
//! It has also forgotten *for whom*: a candidate may have its vote under way and lead with it, while an older leader takes
//! what this node acknowledges for a majority (seed 1086197). So one that is listed as a voter and does not vote takes
//! nothing from any leader before every other voter has told it, in this life, the newest term it knows of. Whoever got its
//! vote is one of them. Where one of them is gone for good, that one is removed first, or this one, to join under a new
//! number: that never voted.
//!
//! A member whose log is empty still says *fresh*: nothing can have been committed with its help, and those who have not
//! heard from everybody yet must be able to go on.

use super::io::Output;
use super::messages::ToPeer;
use super::{Config, NodeMachine};
use crate::types::NodeId;
use raft::eraftpb::Message;
use std::collections::BTreeMap;

const ASK_EVERY_US: u64 = 1_000_000;

/// A node's word on itself.
pub(super) struct Hello {
    pub(super) fresh: bool,
    pub(super) member: bool,
    pub(super) reply: bool,
    pub(super) last: u64,
    pub(super) life: u64,
    pub(super) term: u64,
    pub(super) asked: u64,
}

#[derive(Debug)]
pub(super) struct Join {
    member: bool,
    recording: bool,
    /// What the others said: whether fresh, whether member.
    peers: BTreeMap<NodeId, (bool, bool)>,
    /// What was committed when an append of the leader's fitted this node's log.
    target: Option<u64>,
    /// What has to be on the disk first, once that was applied here: the entries may have been taken before they were, and so may
    /// the term in which they came.
    behind: Option<u64>,
    /// The newest term that each voter told this life of this node.
    terms: BTreeMap<NodeId, u64>,
    /// The leader knows of this start.
    greeted: bool,
    /// When one that does not vote and hears of no leader asks again.
    ask_at: u64,
    /// As the leader: the last start of each node that it knows of.
    lives: BTreeMap<NodeId, u64>,
    /// The lowest node of a new cluster does not wait for the others to time out.
    may_start: bool,
}

impl Join {
    pub(super) fn new(member: bool, config: &Config) -> Join {
        let may_start = !member && config.members.nodes.keys().next() == Some(&config.id);
        Join {
            member,
            recording: false,
            peers: BTreeMap::new(),
            target: None,
            behind: None,
            terms: BTreeMap::new(),
            greeted: false,
            ask_at: 0,
            lives: BTreeMap::new(),
            may_start,
        }
    }

    pub(super) fn votes(&self) -> bool {
        self.member
    }

    pub(super) fn recorded(&mut self) {
        self.member = true;
        self.recording = false;
    }
}

impl NodeMachine {
    /// Nodes that a new cluster still waits for.
    pub(super) fn waiting_for(&self) -> Vec<NodeId> {
        if self.join.member || self.leader.is_some() {
            return Vec::new();
        }
        self.others().into_iter().filter(|node| !self.join.peers.contains_key(node)).collect()
    }

    pub(super) fn tick_join(&mut self) {
        // One that does not vote asks nobody to elect it, and Raft lets it believe in its last leader for ever. It may have
        // been removed meanwhile, and hears so only if it speaks.
        let hears_of_a_leader = self.now.mono < self.promised_until;
        let is_lost = !hears_of_a_leader && !self.voters.contains(&self.config.id) && self.now.mono >= self.join.ask_at;
        if self.join.member && !self.join.may_start && (self.join.greeted || self.is_leader()) && !is_lost {
            return;
        }
        self.join.ask_at = self.now.mono + ASK_EVERY_US;
        for to in self.others() {
            self.say_hello(to, None);
        }
        self.settle_join();
    }

    fn is_fresh(&self) -> bool {
        self.raw.store().is_empty() && self.applied.0 == 0
    }

    fn say_hello(&mut self, to: NodeId, asked: Option<u64>) {
        let (fresh, member, reply) = (self.is_fresh(), self.join.member, asked.is_some());
        let (last, term) = (self.raw.raft.raft_log.last_index(), self.raw.raft.term);
        let (life, asked) = (self.config.seed, asked.unwrap_or(0));
        self.send(to, ToPeer::Hello { fresh, member, reply, last, life, term, asked });
    }

    /// Whether this node can have promised nothing that it does not know of. See the module.
    pub(super) fn knows_its_terms(&self) -> bool {
        let told = |voter: &NodeId| *voter == self.config.id || self.join.terms.contains_key(voter);
        self.join.member || !self.voters.contains(&self.config.id) || self.voters.iter().all(told)
    }

    /// A voter answered: with all their answers this one is at a term at least as new as any it may have voted in.
    fn term_told(&mut self, from: NodeId, term: u64) {
        self.join.terms.insert(from, term);
        if !self.join.member && self.knows_its_terms() {
            let newest = self.join.terms.values().copied().max().unwrap_or(0);
            if newest > self.raw.raft.term {
                self.raw.raft.become_follower(newest, 0);
                self.drive_raft();
            }
        }
    }

    pub(super) fn hello(&mut self, from: NodeId, said: &Hello) {
        if !said.reply {
            self.say_hello(from, Some(said.life));
        } else if said.asked == self.config.seed {
            self.term_told(from, said.term);
        }
        if said.reply && self.leader == Some(from) {
            self.join.greeted = true;
        }
        self.join.peers.insert(from, (said.fresh, said.member));
        if self.is_leader() {
            self.node_started(from, said);
        }
        self.settle_join();
    }

    /// What a node acknowledged in an earlier life may be gone with the end of its log. And one that does not vote yet waits
    /// for an append to tell it what is committed, which in a quiet cluster nobody would send.
    fn node_started(&mut self, node: NodeId, said: &Hello) {
        let is_new = self.join.lives.insert(node, said.life) != Some(said.life);
        let matched = self.raw.raft.prs().get(node.0).map_or(0, |progress| progress.matched);
        if (said.fresh && !said.member) || (is_new && (!said.member || said.last < matched)) {
            self.forget_acknowledged(node);
        } else if !said.member && matched == self.raw.raft.raft_log.last_index() {
            // The one that said how far the log is committed got lost, and Raft has nothing more to say.
            self.send_append(node);
        }
    }

    /// A node that lost its disk has nothing of what it acknowledged. Raft would take its refusals for old messages.
    fn forget_acknowledged(&mut self, node: NodeId) {
        let next = self.raw.raft.raft_log.last_index() + 1;
        if let Some(progress) = self.raw.raft.mut_prs().get_mut(node.0)
            && progress.matched > 0
        {
            progress.matched = 0;
            progress.become_probe();
            progress.next_idx = next;
        }
    }

    /// An append that fits the log says what is committed.
    pub(super) fn append_came(&mut self, message: &Message) {
        if !self.join.member
            && message.term >= self.raw.raft.term
            && self.raw.raft.raft_log.match_term(message.index, message.log_term)
        {
            self.join.target = self.join.target.max(Some(message.commit));
        }
    }

    pub(super) fn settle_join(&mut self) {
        if !self.join.member {
            let fresh = |node: NodeId| self.join.peers.get(&node).is_some_and(|p| p.0);
            let all_fresh = self.is_fresh() && self.others().into_iter().all(fresh);
            if self.join.target.is_some_and(|target| target > 0 && self.applied.0 >= target) {
                self.join.behind.get_or_insert(self.persisting.newest());
            }
            let caught_up = self.join.behind.is_some_and(|behind| self.persisting.has_all_up_to(behind));
            if (all_fresh || caught_up) && !self.join.recording {
                self.join.recording = true;
                self.out.push(Output::BecomeMember);
            }
        }
        if self.join.member && self.join.may_start {
            let everyone =
                self.voters.iter().all(|n| *n == self.config.id || self.join.peers.get(n).is_some_and(|p| p.1));
            if !self.is_fresh() || self.leader.is_some() {
                self.join.may_start = false;
            } else if everyone {
                self.join.may_start = false;
                let _refused = self.raw.campaign();
            }
        }
    }
}
