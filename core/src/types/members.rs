use super::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Nodes that one cluster may have.
pub const NODES_MAX: usize = 64;

/// The nodes of a cluster, as its state has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    pub nodes: BTreeMap<NodeId, Member>,
    /// The number that the next node gets. None is given twice: a node that was removed stays known as such.
    pub next: NodeId,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Record", into = "Record")]
pub struct Member {
    /// Where the others reach it: `host:port`.
    pub address: String,
    pub votes: bool,
    /// What it keeps is moved to the others; then it is removed.
    pub leaves: bool,
    /// Nothing was heard of it for long: its copies do not count until it is back.
    pub away: bool,
}

/// How a [`Member`] is written. Once it was `leaves` alone that stood where two bits are now.
#[derive(Serialize, Deserialize)]
struct Record {
    address: String,
    votes: bool,
    leaves_and_away: u8,
}

impl From<Member> for Record {
    fn from(Member { address, votes, leaves, away }: Member) -> Record {
        Record { address, votes, leaves_and_away: u8::from(leaves) | u8::from(away) << 1 }
    }
}

impl From<Record> for Member {
    fn from(Record { address, votes, leaves_and_away: bits }: Record) -> Member {
        Member { address, votes, leaves: bits & 1 != 0, away: bits & 2 != 0 }
    }
}

/// One step from a list of nodes to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberChange {
    /// A node more, which does not vote at first. If one has this address already, that one is meant.
    Join {
        address: String,
    },
    /// It is to leave.
    Leave(NodeId),
    /// It is to stay after all.
    Stay(NodeId),
    Promote(NodeId),
    Demote(NodeId),
    /// It is a node of the cluster no longer.
    Remove(NodeId),
    /// Nothing was heard of it for long.
    Away(NodeId),
    /// It is there again, and has what is committed.
    Back(NodeId),
}

/// Why a list of nodes stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum NoChange {
    #[error("node {0} is not one of the cluster's nodes")]
    Unknown(NodeId),
    #[error("node {0} is the only one that stays")]
    LastOne(NodeId),
    #[error("a cluster has at most {NODES_MAX} nodes")]
    TooMany,
    #[error("node {0} still votes, or was not told to leave")]
    InUse(NodeId),
}

impl Members {
    /// A new cluster of these nodes: of up to three all vote, of more the first three or five.
    pub fn founding(addresses: impl IntoIterator<Item = (NodeId, String)>) -> Members {
        let member = |(id, address)| (id, Member { address, ..Member::default() });
        let mut nodes: BTreeMap<NodeId, Member> = addresses.into_iter().map(member).collect();
        let voters = voters_wanted(nodes.len());
        nodes.values_mut().take(voters).for_each(|member| member.votes = true);
        let next = NodeId(nodes.last_key_value().map_or(1, |(last, _)| last.0 + 1));
        Members { nodes, next }
    }

    pub fn voters(&self) -> Vec<NodeId> {
        self.all(|member| member.votes)
    }

    pub fn learners(&self) -> Vec<NodeId> {
        self.all(|member| !member.votes)
    }

    /// Those that are to keep data and are there, as far as is agreed: whose copies count.
    pub fn keeping(&self) -> Vec<NodeId> {
        self.all(|member| !member.leaves && !member.away)
    }

    /// Those that are to keep data.
    pub fn staying(&self) -> Vec<NodeId> {
        self.all(|member| !member.leaves)
    }

    pub fn away(&self) -> Vec<NodeId> {
        self.all(|member| member.away)
    }

    pub fn leaving(&self) -> Vec<NodeId> {
        self.all(|member| member.leaves)
    }

    fn all(&self, which: impl Fn(&Member) -> bool) -> Vec<NodeId> {
        self.nodes.iter().filter(|(_, member)| which(member)).map(|(id, _)| *id).collect()
    }

    /// Whether this one was a node of the cluster and is none any more.
    pub fn was_removed(&self, node: NodeId) -> bool {
        node < self.next && !self.nodes.contains_key(&node)
    }

    /// The list after a change, and the node that the change is about.
    pub fn after(&self, change: &MemberChange) -> Result<(Members, NodeId), NoChange> {
        let mut members = self.clone();
        let node = members.make(change)?;
        Ok((members, node))
    }

    fn make(&mut self, change: &MemberChange) -> Result<NodeId, NoChange> {
        let node = match change {
            MemberChange::Join { address } => return self.join(address),
            MemberChange::Leave(node)
            | MemberChange::Stay(node)
            | MemberChange::Promote(node)
            | MemberChange::Demote(node)
            | MemberChange::Remove(node)
            | MemberChange::Away(node)
            | MemberChange::Back(node) => *node,
        };
        let stays = self.staying();
        let member = self.nodes.get_mut(&node).ok_or(NoChange::Unknown(node))?;
        match change {
            MemberChange::Join { .. } => {}
            MemberChange::Leave(_) if stays == [node] => return Err(NoChange::LastOne(node)),
            MemberChange::Leave(_) => member.leaves = true,
            MemberChange::Stay(_) => member.leaves = false,
            MemberChange::Promote(_) => member.votes = true,
            MemberChange::Demote(_) => member.votes = false,
            MemberChange::Remove(_) if member.votes || !member.leaves => return Err(NoChange::InUse(node)),
            MemberChange::Remove(_) => drop(self.nodes.remove(&node)),
            MemberChange::Away(_) => member.away = true,
            MemberChange::Back(_) => member.away = false,
        }
        Ok(node)
    }

    fn join(&mut self, address: &str) -> Result<NodeId, NoChange> {
        if let Some((id, _)) = self.nodes.iter().find(|(_, member)| member.address == address) {
            return Ok(*id);
        }
        if self.nodes.len() >= NODES_MAX {
            return Err(NoChange::TooMany);
        }
        let id = self.next;
        self.next = NodeId(id.0 + 1);
        self.nodes.insert(id, Member { address: address.to_owned(), ..Member::default() });
        Ok(id)
    }

    /// What is to be done next so that those vote who should and those who leave are gone. `ready`: it has what is committed,
    /// and was heard of a moment ago. `drained`: nobody needs what this one keeps. `me`, who asks, is the last to lose its vote.
    pub fn next_step(&self, me: NodeId, ready: &BTreeSet<NodeId>, drained: &BTreeSet<NodeId>) -> Option<MemberChange> {
        let gone = |id: &NodeId, member: &Member| member.leaves && drained.contains(id);
        let staying_voters = self.nodes.values().filter(|member| member.votes && !member.leaves).count();
        let wanted = voters_wanted(self.staying().len());
        if staying_voters < wanted {
            let learns = |(id, member): &(&NodeId, &Member)| !member.votes && !member.leaves && ready.contains(id);
            if let Some((id, _)) = self.nodes.iter().find(learns) {
                return Some(MemberChange::Promote(*id));
            }
        }
        let too_many = staying_voters > wanted;
        let may_go = |(id, member): &(&NodeId, &Member)| {
            member.votes && (gone(id, member) || (too_many && !member.leaves)) && self.can_do_without(**id, ready)
        };
        // Of several rather one that leaves, then one that is not there, then the last.
        let demoted = self
            .nodes
            .iter()
            .filter(may_go)
            .max_by_key(|(id, member)| (**id != me, member.leaves, !ready.contains(id), **id));
        if let Some((id, _)) = demoted {
            return Some(MemberChange::Demote(*id));
        }
        let removed = self.nodes.iter().find(|(id, member)| !member.votes && gone(id, member));
        removed.map(|(id, _)| MemberChange::Remove(*id))
    }

    /// Whether most of the others that vote are ready.
    fn can_do_without(&self, node: NodeId, ready: &BTreeSet<NodeId>) -> bool {
        let mut others = self.voters();
        others.retain(|voter| *voter != node);
        others.iter().filter(|voter| ready.contains(voter)).count() > others.len() / 2
    }
}

fn voters_wanted(nodes: usize) -> usize {
    match nodes {
        0..=3 => nodes,
        4 => 3,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: impl IntoIterator<Item = u64>) -> BTreeSet<NodeId> {
        ids.into_iter().map(NodeId).collect()
    }

    fn of(nodes: u64) -> Members {
        Members::founding((1..=nodes).map(|id| (NodeId(id), format!("host:{id}"))))
    }

    fn all(members: &Members) -> BTreeSet<NodeId> {
        members.nodes.keys().copied().collect()
    }

    /// Takes steps until none is left; in each at most one voter changes, and most voters stay ready.
    fn settle(mut members: Members, me: NodeId, ready: &BTreeSet<NodeId>, drained: &BTreeSet<NodeId>) -> Members {
        for _ in 0..20 {
            let Some(step) = members.next_step(me, ready, drained) else { return members };
            let (after, _) = members.after(&step).unwrap();
            let (old, new): (BTreeSet<_>, BTreeSet<_>) =
                (members.voters().into_iter().collect(), after.voters().into_iter().collect());
            assert!(old.symmetric_difference(&new).count() <= 1);
            assert!(new.intersection(ready).count() * 2 > new.len());
            members = after;
        }
        panic!("it does not end: {members:?}")
    }

    #[test]
    fn of_three_all_vote_of_four_three_of_six_five() {
        for (nodes, voters) in [(1, 1), (2, 2), (3, 3), (4, 3), (5, 5), (6, 5)] {
            assert_eq!(of(nodes).voters().len(), voters);
        }
    }

    #[test]
    fn a_fourth_learns_and_with_a_fifth_both_vote() {
        let (members, fourth) = of(3).after(&MemberChange::Join { address: "new:1".into() }).unwrap();
        assert_eq!(fourth, NodeId(4));
        assert_eq!(members.next_step(NodeId(1), &all(&members), &ids([])), None);
        let (again, same) = members.after(&MemberChange::Join { address: "new:1".into() }).unwrap();
        assert_eq!((&again, same), (&members, fourth), "who asks twice is there once");
        let (members, _) = members.after(&MemberChange::Join { address: "new:2".into() }).unwrap();
        assert_eq!(
            settle(members.clone(), NodeId(1), &ids(1..=4), &ids([])).voters().len(),
            4,
            "the fifth is not ready"
        );
        assert_eq!(settle(members, NodeId(1), &ids(1..=5), &ids([])).voters().len(), 5);
    }

    #[test]
    fn a_dead_voter_is_replaced_before_it_goes() {
        let (members, new) = of(3).after(&MemberChange::Join { address: "new:1".into() }).unwrap();
        let (members, dead) = members.after(&MemberChange::Leave(NodeId(2))).unwrap();
        let ready = ids([1, 3, 4]);
        assert_eq!(members.next_step(NodeId(1), &ready, &ids([])), Some(MemberChange::Promote(new)));
        let kept = settle(members.clone(), NodeId(1), &ready, &ids([]));
        assert!(kept.nodes.contains_key(&dead), "what it keeps is still needed");
        let members = settle(members, NodeId(1), &ready, &ids([2]));
        assert_eq!(members.voters(), [NodeId(1), NodeId(3), NodeId(4)]);
        assert!(members.was_removed(dead) && !members.was_removed(NodeId(5)));
        let (_, next) = members.after(&MemberChange::Join { address: "host:2".into() }).unwrap();
        assert_eq!(next, NodeId(5), "no number is given twice");
    }

    #[test]
    fn nobody_goes_whose_vote_the_others_need() {
        let (members, _) = of(3).after(&MemberChange::Leave(NodeId(1))).unwrap();
        assert_eq!(members.next_step(NodeId(1), &ids([1, 3]), &ids([1])), None, "node 2 is away");
        assert_eq!(members.next_step(NodeId(1), &ids([1, 2, 3]), &ids([1])), Some(MemberChange::Demote(NodeId(1))));
    }

    #[test]
    fn of_five_that_become_four_one_loses_its_vote() {
        let (members, _) = of(5).after(&MemberChange::Leave(NodeId(2))).unwrap();
        let members = settle(members, NodeId(5), &ids(1..=5), &ids([2]));
        assert_eq!(members.voters(), [NodeId(1), NodeId(3), NodeId(5)], "the one that decides keeps its own");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let members = of(1);
        assert_eq!(members.after(&MemberChange::Leave(NodeId(1))), Err(NoChange::LastOne(NodeId(1))));
        assert_eq!(members.after(&MemberChange::Leave(NodeId(7))), Err(NoChange::Unknown(NodeId(7))));
        assert_eq!(of(2).after(&MemberChange::Remove(NodeId(2))), Err(NoChange::InUse(NodeId(2))));
        let full = of(NODES_MAX as u64);
        assert_eq!(full.after(&MemberChange::Join { address: "one:1".into() }), Err(NoChange::TooMany));
    }
}
