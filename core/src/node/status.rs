//! What a node can say about itself and the cluster: for `baton status`.

use super::fetching::Fetching;
use super::messages::Space;
use super::{NodeMachine, Reader, TokenStatus};
use crate::meta::{Key, Store, Value};
use crate::types::{ClusterId, Member, NodeId, SessionId, Stamp};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub node: NodeId,
    pub cluster: Option<ClusterId>,
    pub leader: Option<NodeId>,
    pub term: u64,
    /// Index of the last entry applied here, and of the last one known to be committed.
    pub applied: u64,
    pub committed: u64,
    pub member: bool,
    /// What this node was to write to its log some time ago is not written.
    pub disk_hangs: bool,
    /// Nodes that a new cluster still waits for.
    pub waiting_for: Vec<NodeId>,
    pub peers: Vec<PeerStatus>,
    pub sessions: Vec<SessionStatus>,
    pub inodes: u64,
    pub allocated: u64,
    pub orphans: u64,
    pub copies: CopiesStatus,
    pub tokens: TokenStatus,
    /// The version in force, once there is a cluster.
    pub in_force: Option<u32>,
    /// Commands that wait to be proposed.
    pub queued: u64,
    /// Commands carried out here since the node started, by kind.
    pub carried_out: BTreeMap<&'static str, u64>,
}

/// What mounts have copies of; each node knows of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopiesStatus {
    pub given_out: u64,
    /// In this term so far.
    pub given: u64,
    pub recalled: u64,
    /// Commands that wait for copies to come back.
    pub waiting: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    pub node: NodeId,
    pub address: String,
    pub voter: bool,
    /// It is to be removed, when its data is elsewhere.
    pub leaves: bool,
    /// Nothing was heard of it for long: its copies are made elsewhere.
    pub away: bool,
    /// What it applied, as far as this node was told: every node knows its own, the leader everybody's.
    pub applied: Option<u64>,
    pub space: Option<Space>,
    /// Copies of slices that it should have and has not, as far as the leader knows. Only the leader knows.
    pub lacks: Option<u64>,
    /// How far it is with what it lacks, as it says itself. Only the leader knows that of others.
    pub fetching: Option<Fetching>,
    /// Whether the leader heard of it lately. Only the leader knows.
    pub active: Option<bool>,
    /// The newest version that it speaks. Only the leader knows, of those that it heard of a moment ago.
    pub speaks: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    pub session: SessionId,
    pub client: String,
    pub since: Stamp,
    /// Commands carried out.
    pub commands: u64,
    /// Whether it hangs on this node.
    pub here: bool,
}

impl NodeMachine {
    pub fn status(&self) -> Status {
        let volume = match Reader(self.shared.clone()).with_state(|s: &dyn Store| s.get(&Key::Volume)) {
            Ok(Some(Value::Volume(volume))) => Some(volume),
            _ => None,
        };
        let here = self.attached_sessions();
        Status {
            node: self.config.id,
            cluster: self.cluster,
            // One that most others do not hear leads nobody, though it may not have noticed. And at one whose disk hangs
            // nothing is carried out: mounts go elsewhere.
            leader: self.leader.filter(|_| if self.is_leader() { self.holds_lease() } else { !self.disk_hangs() }),
            term: self.raw.raft.term,
            applied: self.applied.0,
            committed: self.raw.raft.raft_log.committed,
            member: self.join.votes(),
            disk_hangs: self.disk_hangs(),
            waiting_for: self.waiting_for(),
            peers: self.members.nodes.iter().map(|(node, member)| self.peer_status(*node, member)).collect(),
            sessions: self
                .sessions
                .iter()
                .map(|(id, s)| SessionStatus {
                    session: *id,
                    client: s.client.clone(),
                    since: s.since,
                    commands: s.last,
                    here: here.contains(id),
                })
                .collect(),
            inodes: volume.as_ref().map_or(0, |v| v.inodes),
            allocated: volume.as_ref().map_or(0, |v| v.allocated),
            orphans: self.lead.orphans.count() as u64,
            copies: self.copies.status(),
            tokens: self.tokens.status(),
            in_force: self.in_force,
            queued: self.lead.queue.len() as u64,
            carried_out: self.carried_out.clone(),
        }
    }

    fn peer_status(&self, node: NodeId, member: &Member) -> PeerStatus {
        let me = node == self.config.id;
        let progress = self.raw.raft.prs().get(node.0).filter(|_| self.is_leader());
        PeerStatus {
            node,
            address: member.address.clone(),
            voter: member.votes,
            leaves: member.leaves,
            away: member.away,
            applied: if me { Some(self.applied.0) } else { self.peer_applied.get(&node).copied() },
            space: self.space.get(&node).map(|(space, _)| *space),
            lacks: self.lacks(node).filter(|_| self.is_leader()),
            speaks: self.speaks_up_to(node).filter(|_| self.is_leader()),
            fetching: self.fetching(node).filter(|_| me || self.is_leader()),
            active: if me { Some(true) } else { progress.map(|p| p.recent_active) },
        }
    }
}
