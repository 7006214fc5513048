//! Who belongs to the cluster, and who votes.
//!
//! The list stands in the state ([`Members`]): it is agreed on, stored and fetched like everything else, and whoever has the
//! state of an entry has the list as of that entry. An entry that changes it changes Raft's own configuration in the moment it
//! is applied. Each changes one voter at most, so two majorities of lists that follow each other overlap; and lists that do
//! not follow each other never decide at the same time, because
//!
//! * a leader puts the next change into its log only when it has applied the one before, and none before an entry of its own
//!   term is applied: so the message that brings a change says that the one before is committed;
//! * nobody stands for election while it knows of a committed entry that it has not applied.
//!
//! ```text
//!   join --> learns --> votes      when it has everything, and too few vote that stay
//!   leave --> its data is copied to those that stay --> votes no more --> removed
//! ```
//! Of whom nothing is heard for long is *away*: it votes as before, but its copies of slices do not count, so others make them.
//! What an operator says is `Join`, `Leave` and `Stay`; the other steps the leader takes by itself, one after the other. It
//! takes none that would leave a majority that is not there. A leader that is to lose its vote does so last, and steps down.

use super::NodeMachine;
use super::io::Output;
use super::messages::{Item, ToPeer};
use super::{Config, lease};
use crate::meta::{Fault, Key, Store, Value};
use crate::types::{Member, MemberChange, Members, NodeId};
use raft::ProgressState;
use raft::eraftpb::{ConfChange, ConfChangeType, ConfState};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What a leader does about the list.
#[derive(Default)]
pub(super) struct Changing {
    /// A change, of the list or of the version in force, is in the queue or in the log, and not applied.
    under_way: bool,
    orders: VecDeque<(u64, MemberChange)>,
    /// Leases that a majority of the voters before gave may last so long: until then the next voter stays as it is.
    rests_until: u64,
    /// Nodes that nothing is heard of, and since when.
    silent_since: BTreeMap<NodeId, u64>,
}

impl Changing {
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way
    }

    /// It was applied, or not even proposed.
    pub(super) fn is_over(&mut self) {
        self.under_way = false;
    }
}

/// The list in a state.
pub fn listed<S: Store + ?Sized>(state: &S) -> Result<Option<Members>, Fault> {
    match state.get(&Key::Members)? {
        Some(Value::Members(members)) => Ok(Some(members)),
        _ => Ok(None),
    }
}

/// The same as this node has it for itself: until it has come to the entry with which it joined, it learns all the same.
pub(super) fn among(mut members: Members, config: &Config) -> Members {
    if !members.was_removed(config.id) {
        let told = config.members.nodes.get(&config.id).cloned().unwrap_or_default();
        members.nodes.entry(config.id).or_insert(Member { votes: false, ..told });
    }
    members
}

pub(super) fn conf_state(members: &Members) -> ConfState {
    let numbers = |nodes: Vec<NodeId>| nodes.into_iter().map(|node| node.0).collect();
    ConfState { voters: numbers(members.voters()), learners: numbers(members.learners()), ..ConfState::default() }
}

/// What Raft has to do to get from the configuration it has to a list: first who comes, then who goes, or nobody might be left
/// between two steps.
fn conf_changes(has: &ConfState, members: &Members) -> Vec<ConfChange> {
    let votes = |node: u64| members.nodes.get(&NodeId(node)).map(|member| member.votes);
    let had = |node: u64| (has.voters.contains(&node), has.learners.contains(&node));
    let change = |node_id: u64, change_type| ConfChange { node_id, change_type, ..ConfChange::default() };
    let mut comes = Vec::new();
    for (node, member) in &members.nodes {
        match (had(node.0), member.votes) {
            ((false, _), true) => comes.push(change(node.0, ConfChangeType::AddNode)),
            ((false, false), false) => comes.push(change(node.0, ConfChangeType::AddLearnerNode)),
            _ => {}
        }
    }
    let goes = has.voters.iter().chain(&has.learners).filter_map(|node| match votes(*node) {
        None => Some(change(*node, ConfChangeType::RemoveNode)),
        Some(false) if had(*node).0 => Some(change(*node, ConfChangeType::AddLearnerNode)),
        Some(_) => None,
    });
    comes.into_iter().chain(goes).collect()
}

impl ToPeer {
    /// Whether a node may say this to one that does not know it: Raft itself, and what belongs to it.
    pub(super) fn is_for_anybody(&self) -> bool {
        matches!(self, ToPeer::Raft(_) | ToPeer::Hello { .. } | ToPeer::Beat { .. } | ToPeer::LeadOver { .. })
    }
}

impl NodeMachine {
    pub(super) fn others(&self) -> Vec<NodeId> {
        self.members.nodes.keys().copied().filter(|node| *node != self.config.id).collect()
    }

    /// What a follower has not got yet, and how far the log is committed. Raft knows no way to say that to one it does not know.
    pub(super) fn send_append(&mut self, to: NodeId) {
        if self.raw.raft.prs().get(to.0).is_some() {
            self.raw.raft.send_append(to.0);
        }
    }

    /// From here on these are the nodes of the cluster.
    pub(super) fn members_are(&mut self, members: Members) {
        self.voters = members.voters();
        self.space.retain(|node, _| members.nodes.contains_key(node));
        self.out.push(Output::Members(members.clone()));
        // Compared with what Raft has, not with the list before: a fetched state brings a list of which Raft may know nothing.
        let changes = conf_changes(&self.raw.raft.prs().conf().to_conf_state(), &members);
        self.members = members;
        for change in changes {
            if let Err(why) = self.raw.apply_conf_change(&change) {
                return self.stop(format!("the list of nodes cannot be changed: {why}"));
            }
        }
    }

    pub(super) fn change_members(&mut self, request: u64, change: MemberChange) {
        if self.is_leader() {
            self.lead.changing.orders.push_back((request, change));
        }
    }

    /// The next change goes into the queue when none is under way.
    pub(super) fn propose_members(&mut self) {
        if !self.lead.settled() || self.lead.changing.under_way {
            return;
        }
        if let Some((request, change)) = self.lead.changing.orders.pop_front() {
            self.begin_change(Item::Members { request: Some(request), change });
        }
    }

    pub(super) fn tick_members(&mut self) {
        self.listen_who_is_there();
        if !self.lead.settled() || self.lead.changing.under_way || !self.lead.changing.orders.is_empty() {
            return;
        }
        self.lead.drain.begins_at_the_latest(self.applied.0);
        self.tick_drain();
        let ready = self.ready();
        let next = self.who_came_or_went(&ready);
        let next = next.or_else(|| self.members.next_step(self.config.id, &ready, &self.drained()));
        let may = |change: &MemberChange| {
            let voters = matches!(change, MemberChange::Promote(_) | MemberChange::Demote(_));
            !voters || self.now.mono >= self.lead.changing.rests_until
        };
        if let Some(change) = next.filter(may) {
            self.begin_change(Item::Members { request: None, change });
        }
    }

    /// Of the list, or of the version in force: one at a time.
    pub(super) fn begin_change(&mut self, item: Item) {
        self.lead.changing.under_way = true;
        self.lead.queue.push(item);
    }

    fn listen_who_is_there(&mut self) {
        for node in self.others() {
            let is_there = self.is_there(node);
            let silent_since = &mut self.lead.changing.silent_since;
            if is_there {
                silent_since.remove(&node);
            } else {
                silent_since.entry(node).or_insert(self.now.mono);
            }
        }
    }

    /// Who is away for long, and who is there again.
    fn who_came_or_went(&self, ready: &BTreeSet<NodeId>) -> Option<MemberChange> {
        let (now, changing) = (self.now.mono, &self.lead.changing);
        let is_long_away = |node: &NodeId| {
            changing.silent_since.get(node).is_some_and(|since| now - since >= self.config.away_after_us)
        };
        self.members.nodes.iter().find_map(|(node, member)| match member.away {
            true if ready.contains(node) => Some(MemberChange::Back(*node)),
            false if is_long_away(node) => Some(MemberChange::Away(*node)),
            _ => None,
        })
    }

    /// Those that were heard of a moment ago and have what is committed, this one among them.
    fn ready(&self) -> BTreeSet<NodeId> {
        let committed = self.raw.raft.raft_log.committed;
        let has_all = |progress: &raft::Progress| {
            progress.state != ProgressState::Snapshot && progress.matched + CLOSE_BEHIND >= committed
        };
        let others = self.raw.raft.prs().iter().filter(|(_, progress)| has_all(progress)).map(|(id, _)| NodeId(*id));
        others.filter(|node| self.is_there(*node)).chain([self.config.id]).collect()
    }

    /// The first list; a second one, of a leader who did not know of the first, is nothing. Who is on it must have been told of
    /// the same nodes.
    pub(super) fn apply_founders(&mut self, founders: Members) {
        if !matches!(self.shared.read().get(&Key::Members), Ok(None)) {
            return;
        }
        let told = &self.config.members.nodes;
        // One that lost its disk comes to this entry too, and was told of the nodes that there are by now.
        if self.config.is_founder && self.join.votes() && !founders.nodes.keys().eq(told.keys()) {
            let named =
                |members: &Members| members.nodes.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let (theirs, mine) = (named(&founders), named(&self.config.members));
            return self
                .stop(format!("the cluster was formed of the nodes {theirs}, and this node was told of {mine}"));
        }
        self.take_members(founders);
    }

    pub(super) fn apply_members(&mut self, request: Option<u64>, change: &MemberChange) {
        self.lead.changing.under_way = false;
        let Ok(listed) = listed(&*self.shared.read()) else { return self.stop("the list of nodes cannot be read") };
        // A cluster from before there was a list has the one that its nodes were told.
        let listed = listed.unwrap_or_else(|| self.config.members.clone());
        let outcome = listed.after(change);
        if let Some(request) = request {
            let outcome = outcome.as_ref().map(|(_, node)| *node).map_err(|why| *why);
            self.out.push(Output::MembersChanged { request, outcome });
        }
        if let Ok((members, _)) = outcome {
            self.take_members(members);
        }
    }

    fn take_members(&mut self, listed: Members) {
        self.keep(BTreeMap::from([(Key::Members, Some(Value::Members(listed.clone())))]));
        let members = among(listed, &self.config);
        if self.is_leader() {
            // The last that a node hears of its cluster: that it belongs to it no longer.
            let gone = self.others().into_iter().filter(|node| !members.nodes.contains_key(node));
            gone.for_each(|node| self.send_append(node));
        }
        if self.members.keeping() != members.keeping() {
            self.lead.drain.begins(self.applied.0 + 1);
        }
        let voters = self.voters.clone();
        self.members_are(members);
        if self.voters != voters {
            self.lead.changing.rests_until = self.now.mono + lease::PROMISE_US;
        }
        if self.is_leader() && !self.voters.contains(&self.config.id) {
            self.raw.raft.bcast_append();
            self.step_down();
        }
    }
}

/// Entries that a node may lack and still count as one that has everything: there is always something under way.
const CLOSE_BEHIND: u64 = 100;
