//! Conversations in which the list of nodes changes.

use super::super::fetching::Fetching;
use super::*;
use crate::meta::ops::{Create, SliceRef, Write, WriteAt, WriteData};
use crate::types::MemberChange;

impl Cluster {
    fn orders(&mut self, change: MemberChange) -> Result<NodeId, NoChange> {
        let leader = self.leader();
        self.changed.clear();
        self.peers.get_mut(&leader).unwrap().inbox.push(Input::ChangeMembers { request: 1, change });
        self.settle();
        self.pass(200_000);
        self.changed.iter().find(|(from, _)| *from == leader).expect("an answer").1
    }

    /// One more node, from its order to its first start.
    fn joins(&mut self, address: &str) -> NodeId {
        let id = self.orders(MemberChange::Join { address: address.into() }).unwrap();
        let members = self.machine(self.leader()).members.clone();
        self.start_among(id, members, false);
        self.pass(3_000_000);
        id
    }

    /// Nobody needs what these keep, say the shells of all who are there, and that they have what they should.
    fn drained(&mut self, nodes: &[NodeId]) {
        for _walk in 0..2 {
            for id in self.there() {
                self.walks(id, 0, nodes);
            }
            self.pass(2_000_000);
        }
    }

    fn walks(&mut self, id: NodeId, lacks: u64, drained: &[NodeId]) {
        let drained = drained.iter().copied().collect();
        self.walked(id, Walk { lacks, drained, ..Walk::default() });
    }

    fn walked(&mut self, id: NodeId, walk: Walk) {
        let began = self.machine(id).reader().applied();
        self.peers.get_mut(&id).unwrap().inbox.push(Input::Walked(Walk { began, ..walk }));
    }

    fn is_away(&self, node: NodeId) -> bool {
        self.machine(self.leader()).members.nodes[&node].away
    }

    /// The nodes that keep a slice, as the leader's state has them.
    fn kept_by(&self, id: SliceId) -> Vec<NodeId> {
        let found = self.machine(self.leader()).reader().with_state(|state| state.get(&Key::Slice(id)));
        let Ok(Some(Value::Slice(info))) = found else { panic!("{found:?}") };
        info.nodes
    }

    /// A slice that a file refers to.
    fn slice_kept_by(&mut self, nodes: impl IntoIterator<Item = u64>) -> SliceId {
        let leader = self.leader();
        let session = self.greet(leader);
        let id = SliceId { session, number: 1 };
        let command = |number, op| ToNode::Commands(vec![Command { session, number, acked: 0, cred: Cred::ROOT, op }]);
        let (dir, name) = (Ino::ROOT, Name::new(b"f").unwrap());
        let create = Create { dir, name, mode: 0o644, exclusive: true, truncate: false, read: true, write: true };
        self.mount_says(leader, command(1, create.into()));
        self.pass(1_000_000);
        let file = Key::Entry(Ino::ROOT, Name::new(b"f").unwrap());
        let found = self.machine(leader).reader().with_state(|state| state.get(&file));
        let Ok(Some(Value::Entry(entry))) = found else { panic!("{found:?}") };
        let data = WriteData::Slice(SliceRef { id, len: 7, nodes: nodes.into_iter().map(NodeId).collect() });
        self.mount_says(leader, command(2, Write { ino: entry.ino, at: WriteAt::End, data, kill_suid: false }.into()));
        self.pass(1_000_000);
        id
    }

    fn copied(&mut self, node: NodeId, slice: SliceId, instead_of: Option<u64>) {
        let instead_of = instead_of.map(NodeId);
        self.peers.get_mut(&node).unwrap().inbox.push(Input::Copied { slice, instead_of });
        self.pass(1_000_000);
    }

    fn there(&self) -> Vec<NodeId> {
        self.peers.keys().copied().filter(|id| !self.cut.contains(id)).collect()
    }

    fn has(&self, node: NodeId) -> bool {
        self.machine(self.leader()).members.nodes.contains_key(&node)
    }

    fn voters(&self) -> Vec<NodeId> {
        self.machine(self.leader()).voters.clone()
    }

    /// Makes a directory through this node, and finds it at all who are there.
    fn works(&mut self, node: NodeId, session: SessionId, number: u64) {
        self.mount_says(node, ToNode::Commands(vec![Cluster::mkdir(session, number)]));
        self.pass(1_000_000);
        assert!(self.replies().contains(&number), "command {number} was not answered");
        let members = self.machine(self.leader()).members.clone();
        let name = Name::new(format!("d{number}").as_bytes()).unwrap();
        for (id, peer) in self.peers.iter().filter(|(id, _)| members.nodes.contains_key(id) && !self.cut.contains(id)) {
            let found = peer.machine.reader().with_state(|state| state.get(&Key::Entry(Ino::ROOT, name.clone())));
            assert!(matches!(found, Ok(Some(_))), "node {id} does not have it");
            assert_eq!(peer.machine.members, members, "node {id} has another list");
            let raft = peer.machine.raw.raft.prs().conf().to_conf_state();
            let sorted = |mut numbers: Vec<u64>| {
                numbers.sort_unstable();
                numbers
            };
            let listed = |nodes: Vec<NodeId>| nodes.into_iter().map(|node| node.0).collect::<Vec<_>>();
            assert_eq!(sorted(raft.voters), listed(members.voters()), "node {id}'s Raft counts other voters");
            assert_eq!(sorted(raft.learners), listed(members.learners()));
        }
    }
}

#[test]
fn two_more_nodes_join_and_vote() {
    let mut cluster = Cluster::formed();
    let follower = cluster.follower();
    let session = cluster.greet(follower);
    let fourth = cluster.joins("host:4");
    assert_eq!((fourth, cluster.voters().len()), (NodeId(4), 3));
    cluster.works(follower, session, 1);
    assert!(cluster.machine(fourth).status().member, "it has caught up");
    let fifth = cluster.joins("host:5");
    assert_eq!((fifth, cluster.voters().len()), (NodeId(5), 5));
    cluster.works(follower, session, 2);
    // Two of five may go, whichever they are.
    let leader = cluster.leader();
    cluster.cut.extend([leader, if follower == NodeId(1) { NodeId(2) } else { NodeId(1) }]);
    cluster.pass(5_000_000);
    cluster.works(follower, session, 3);
}

#[test]
fn a_dead_node_is_replaced() {
    let mut cluster = Cluster::formed();
    let dead = cluster.follower();
    cluster.cut.insert(dead);
    cluster.pass(2_000_000);
    let mount_at = cluster.follower();
    let session = cluster.greet(mount_at);
    cluster.orders(MemberChange::Leave(dead)).unwrap();
    let new = cluster.joins("host:9");
    assert!(cluster.voters().contains(&new) && cluster.voters().contains(&dead), "{:?}", cluster.voters());
    cluster.drained(&[dead]);
    let staying = cluster.machine(cluster.leader()).members.clone();
    assert!(!staying.nodes.contains_key(&dead) && staying.was_removed(dead));
    cluster.works(mount_at, session, 1);
    // It comes back, and nobody listens to it.
    cluster.cut.clear();
    cluster.pass(5_000_000);
    assert!(cluster.machine(dead).leader.is_none_or(|leader| leader != dead));
    cluster.works(mount_at, session, 2);
}

#[test]
fn a_leader_that_leaves_steps_down_first() {
    let mut cluster = Cluster::formed();
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let new = cluster.joins("host:4");
    cluster.orders(MemberChange::Leave(leader)).unwrap();
    cluster.pass(500_000);
    assert!(cluster.voters().contains(&new));
    cluster.drained(&[leader]);
    cluster.pass(5_000_000);
    assert_ne!(cluster.leader(), leader);
    cluster.drained(&[leader]);
    assert!(!cluster.machine(cluster.leader()).members.nodes.contains_key(&leader));
    assert!(cluster.machine(leader).members.was_removed(leader), "it was told");
    let session = cluster.greet(follower);
    cluster.works(follower, session, 1);
}

#[test]
fn nobody_goes_before_all_that_stay_have_what_they_should() {
    let mut cluster = Cluster::formed();
    let new = cluster.joins("host:4");
    let leaves = cluster.follower();
    cluster.drained(&[leaves]);
    cluster.orders(MemberChange::Leave(leaves)).unwrap();
    cluster.pass(3_000_000);
    assert!(cluster.has(leaves), "these walks began before it was to leave");
    let leader = cluster.leader();
    let lacks = |cluster: &Cluster| {
        let peers = cluster.machine(leader).status().peers;
        peers.into_iter().find(|peer| peer.node == new).unwrap().lacks
    };
    assert_eq!(lacks(&cluster), None);
    for id in cluster.there() {
        cluster.walks(id, u64::from(id == new), &[leaves]);
    }
    cluster.pass(3_000_000);
    assert!(cluster.has(leaves), "one lost its disk, and has not fetched everything again");
    assert_eq!(lacks(&cluster), Some(1));
    let fetching = Fetching { lacks: 1, left_us: Some(7), in_vain: false };
    cluster.peers.get_mut(&new).unwrap().inbox.push(Input::Fetching(fetching));
    cluster.pass(3_000_000);
    let told = cluster.machine(leader).status().peers.into_iter().find(|peer| peer.node == new).unwrap();
    assert_eq!(told.fetching, Some(fetching));
    cluster.cut.insert(new);
    cluster.walks(new, 0, &[leaves]);
    cluster.pass(3_000_000);
    assert!(cluster.has(leaves), "nobody knows what one has that is away");
    cluster.cut.clear();
    cluster.pass(3_000_000);
    assert!(!cluster.has(leaves));
}

#[test]
fn who_is_given_up_goes_with_what_it_has_and_only_if_it_leaves() {
    let mut cluster = Cluster::formed();
    cluster.joins("host:4");
    let node = cluster.follower();
    let give_up = |cluster: &mut Cluster| {
        let leader = cluster.leader();
        cluster.peers.get_mut(&leader).unwrap().inbox.push(Input::GiveUp(node));
        cluster.pass(3_000_000);
    };
    give_up(&mut cluster);
    assert!(cluster.has(node));
    cluster.orders(MemberChange::Leave(node)).unwrap();
    cluster.pass(3_000_000);
    assert!(cluster.has(node), "that was said before it was to leave");
    give_up(&mut cluster);
    assert!(!cluster.has(node));
}

#[test]
fn a_leader_that_is_new_waits_for_walks_of_its_own_time() {
    let mut cluster = Cluster::formed();
    cluster.joins("host:4");
    let (old, leaves) = (cluster.leader(), cluster.follower());
    cluster.orders(MemberChange::Leave(leaves)).unwrap();
    cluster.pass(500_000);
    for id in cluster.there() {
        cluster.walks(id, u64::from(id == old), &[leaves]);
    }
    cluster.pass(2_000_000);
    cluster.peers.get_mut(&old).unwrap().inbox.push(Input::StepDown);
    cluster.cut.insert(old);
    cluster.pass(5_000_000);
    cluster.cut.clear();
    cluster.pass(5_000_000);
    assert!(cluster.has(leaves), "the old leader lacks something");
    cluster.drained(&[leaves]);
    assert!(!cluster.has(leaves));
}

/// One that was away comes back to a cluster of which it knows nobody but one: those it does not know reach it all the same.
#[test]
fn who_was_away_while_the_others_changed_finds_them() {
    let mut cluster = Cluster::formed();
    let away = cluster.follower();
    cluster.cut.insert(away);
    cluster.pass(3_000_000);
    let mut old: Vec<NodeId> = cluster.there();
    // As one that is dead, or the others could not go.
    cluster.orders(MemberChange::Leave(away)).unwrap();
    for address in ["host:4", "host:5", "host:6"] {
        cluster.joins(address);
    }
    for leaves in old.drain(..) {
        cluster.orders(MemberChange::Leave(leaves)).unwrap();
        cluster.pass(500_000);
        cluster.drained(&[leaves]);
        cluster.pass(5_000_000);
        // A new leader's shell finds the same.
        cluster.drained(&[leaves]);
        assert!(cluster.machine(cluster.leader()).members.was_removed(leaves), "node {leaves} is still there");
        cluster.peers.remove(&leaves);
    }
    cluster.orders(MemberChange::Stay(away)).unwrap();
    cluster.cut.clear();
    cluster.pass(5_000_000);
    let at = cluster.leader();
    let session = cluster.greet(at);
    cluster.works(at, session, 1);
    assert_eq!(cluster.machine(away).members.nodes.len(), 4);
}

#[test]
fn who_is_silent_for_long_is_away_until_it_has_caught_up() {
    let mut cluster = Cluster::formed();
    let (mount_at, node) = (cluster.leader(), cluster.follower());
    cluster.cut.insert(node);
    cluster.pass(AWAY_AFTER_US - 2_000_000);
    cluster.cut.clear();
    cluster.pass(3_000_000);
    cluster.cut.insert(node);
    cluster.pass(AWAY_AFTER_US - 2_000_000);
    assert!(!cluster.is_away(node), "never for so long at one time");
    cluster.pass(5_000_000);
    assert!(cluster.is_away(node));
    assert!(cluster.voters().contains(&node), "it votes as before");
    cluster.cut.clear();
    cluster.pass(3_000_000);
    assert!(!cluster.is_away(node));
    let session = cluster.greet(mount_at);
    cluster.works(mount_at, session, 1);
}

#[test]
fn who_does_not_vote_asks_around_when_its_leader_is_gone() {
    let mut cluster = Cluster::formed();
    let learns = cluster.joins("host:4");
    let leader = cluster.leader();
    cluster.cut.extend([learns, leader]);
    cluster.pass(5_000_000);
    assert_eq!(cluster.machine(learns).leader, Some(leader), "nobody told it otherwise");
    cluster.sent.clear();
    cluster.pass(3_000_000);
    for other in cluster.there() {
        let greets = |(from, to, message): &(NodeId, NodeId, ToPeer)| {
            (*from, *to) == (learns, other) && matches!(message, ToPeer::Hello { .. })
        };
        assert!((1..=4).contains(&cluster.sent.iter().filter(|sent| greets(sent)).count()), "node {other}");
    }
}

#[test]
fn a_copy_too_many_goes_when_all_who_stay_have_theirs() {
    let mut cluster = Cluster::formed();
    let fourth = cluster.joins("host:4");
    let leader = cluster.leader();
    let id = cluster.slice_kept_by(1..=4);
    assert_eq!(cluster.kept_by(id).len(), 4);
    let spare = Walk { spare: vec![id], ..Walk::default() };
    for node in cluster.there() {
        cluster.walked(node, Walk { lacks: u64::from(node == fourth), ..spare.clone() });
    }
    cluster.pass(2_000_000);
    cluster.walked(leader, spare.clone());
    cluster.pass(2_000_000);
    assert_eq!(cluster.kept_by(id).len(), 4, "one lacks something: perhaps this");
    cluster.walked(fourth, spare.clone());
    cluster.pass(2_000_000);
    for _twice in 0..2 {
        cluster.walked(leader, spare.clone());
        cluster.pass(2_000_000);
        assert_eq!(cluster.kept_by(id).len(), 3);
    }
    assert!(matches!(cluster.spare[..], [(by, spare)] if spare == id && !cluster.kept_by(id).contains(&by)));
}

#[test]
fn a_copy_is_listed_by_itself_and_in_anothers_place_only_while_that_one_is_listed() {
    let mut cluster = Cluster::formed();
    let (fourth, fifth) = (cluster.joins("host:4"), cluster.joins("host:5"));
    let id = cluster.slice_kept_by(1..=3);
    cluster.copied(fourth, id, Some(1));
    assert_eq!(cluster.kept_by(id), [4, 2, 3].map(NodeId));
    assert_eq!(cluster.spare, [(NodeId(1), id)]);
    cluster.copied(fifth, id, Some(1));
    assert_eq!(cluster.kept_by(id), [4, 2, 3].map(NodeId), "somebody was faster");
    assert_eq!(cluster.spare[1..], [(fifth, id)]);
    cluster.copied(fourth, id, Some(2));
    assert_eq!(cluster.kept_by(id), [4, 2, 3].map(NodeId), "it has one");
    cluster.copied(fifth, id, None);
    assert_eq!(cluster.kept_by(id), [4, 2, 3, 5].map(NodeId));
    assert_eq!(cluster.spare.len(), 2);
}

#[test]
fn a_copy_begun_before_a_node_was_to_leave_is_what_it_can_be_behind_that() {
    let mut cluster = Cluster::formed();
    let (fourth, fifth) = (cluster.joins("host:4"), cluster.joins("host:5"));
    let id = cluster.slice_kept_by(1..=3);
    cluster.orders(MemberChange::Leave(fourth)).unwrap();
    cluster.copied(fourth, id, Some(1));
    assert_eq!(cluster.kept_by(id), [1, 2, 3].map(NodeId), "one that leaves takes nobody's place");
    assert_eq!(cluster.spare, [(fourth, id)]);
    cluster.orders(MemberChange::Leave(NodeId(3))).unwrap();
    cluster.copied(fifth, id, Some(1));
    assert_eq!(cluster.kept_by(id), [1, 2, 3, 5].map(NodeId), "there was one too few");
    assert_eq!(cluster.spare.len(), 1);
    let gone = SliceId { number: 9, ..id };
    cluster.copied(fifth, gone, Some(1));
    assert_eq!(cluster.spare[1..], [(fifth, gone)]);
}

#[test]
fn what_a_node_copied_in_another_life_is_not_listed() {
    let mut cluster = Cluster::formed();
    let fourth = cluster.joins("host:4");
    let (leader, id) = (cluster.leader(), cluster.slice_kept_by(1..=3));
    let life = cluster.machine(fourth).config.seed;
    for (life, kept) in [(life + 1, vec![1, 2, 3]), (life, vec![1, 2, 3, 4])] {
        let message = ToPeer::Copied { slice: id, instead_of: None, life };
        cluster.peers.get_mut(&leader).unwrap().inbox.push(Input::Peer { from: fourth, message });
        cluster.pass(1_000_000);
        assert_eq!(cluster.kept_by(id), kept.into_iter().map(NodeId).collect::<Vec<_>>());
    }
}

#[test]
fn every_node_knows_the_room_on_all_disks_until_one_is_removed() {
    let mut cluster = Cluster::formed();
    let fourth = cluster.joins("host:4");
    let tell = |cluster: &mut Cluster| {
        for node in cluster.there() {
            let space = Input::Space(Space { total: 1 << 40, free: node.0 << 30 });
            cluster.peers.get_mut(&node).unwrap().inbox.push(space);
        }
        cluster.pass(3_000_000);
    };
    tell(&mut cluster);
    let known = |cluster: &Cluster, node: NodeId| -> Vec<u64> {
        cluster.machine(node).reader().spaces().values().map(|space| space.free >> 30).collect()
    };
    for node in cluster.there() {
        assert_eq!(known(&cluster, node), [1, 2, 3, 4], "node {node}");
    }
    cluster.orders(MemberChange::Leave(fourth)).unwrap();
    cluster.drained(&[fourth]);
    tell(&mut cluster);
    assert!(!cluster.has(fourth));
    for node in cluster.there().into_iter().filter(|node| *node != fourth) {
        assert_eq!(known(&cluster, node), [1, 2, 3], "node {node}");
    }
}

#[test]
fn what_cannot_be_is_answered_and_changes_nothing() {
    let mut cluster = Cluster::formed();
    assert_eq!(cluster.orders(MemberChange::Leave(NodeId(8))), Err(NoChange::Unknown(NodeId(8))));
    let follower = cluster.follower();
    cluster.changed.clear();
    let join = MemberChange::Join { address: "host:4".into() };
    let request = Input::ChangeMembers { request: 1, change: join };
    cluster.peers.get_mut(&follower).unwrap().inbox.push(request);
    cluster.pass(500_000);
    assert!(cluster.changed.is_empty(), "only a leader takes orders");
    assert_eq!(cluster.machine(follower).members.nodes.len(), 3);
    cluster.orders(MemberChange::Leave(follower)).unwrap();
    cluster.orders(MemberChange::Stay(follower)).unwrap();
    cluster.drained(&[follower]);
    assert_eq!(cluster.voters().len(), 3, "it stays after all");
}

/// A start with an empty folder and the list of today is not taken for a mistake in the list of the first day.
#[test]
fn a_founder_that_lost_its_disk_is_told_of_the_nodes_of_today() {
    let mut cluster = Cluster::formed();
    cluster.joins("host:4");
    let lost = cluster.follower();
    let today = (1..=4).map(|id| (NodeId(id), format!("host:{id}")));
    cluster.start_as_founder(lost, Members::founding(today));
    cluster.pass(5_000_000);
    assert!(cluster.machine(lost).status().member);
    assert_eq!(cluster.machine(lost).members, cluster.machine(cluster.leader()).members);
}

#[test]
#[should_panic(expected = "was told of 1, 2, 3, 4")]
fn who_was_told_of_other_nodes_than_the_others_stops_when_the_cluster_forms() {
    let mut cluster = Cluster::new(3);
    let wrong = (1..=4).map(|id| (NodeId(id), format!("host:{id}")));
    cluster.start_as_founder(NodeId(2), Members::founding(wrong));
    // The others take it for one that has heard of everybody.
    cluster.peers.get_mut(&NodeId(2)).unwrap().inbox.push(Input::MemberRecorded);
    cluster.pass(5_000_000);
}

/// Who may have its vote from before must have been heard: here the one that cannot be.
#[test]
fn a_voter_that_lost_its_disk_takes_nothing_before_all_others_told_their_term() {
    let mut cluster = Cluster::formed();
    let (leader, lost) = (cluster.leader(), cluster.follower());
    let third = cluster.peers.keys().copied().find(|id| *id != leader && *id != lost).unwrap();
    cluster.cut.insert(third);
    cluster.start(lost, 3);
    cluster.pass(3_000_000);
    let status = cluster.machine(lost).status();
    assert!(status.applied == 0 && !status.member, "{status:?}");
    cluster.cut.clear();
    cluster.pass(6_000_000);
    let leader = cluster.leader();
    assert!(cluster.machine(lost).status().member);
    assert_eq!(cluster.machine(lost).status().applied, cluster.machine(leader).status().applied);
}

#[test]
fn one_that_joins_never_voted_and_waits_for_nobody_who_is_gone() {
    let mut cluster = Cluster::formed();
    let gone = cluster.follower();
    cluster.cut.insert(gone);
    cluster.pass(2_000_000);
    let new = cluster.joins("host:4");
    assert!(cluster.machine(new).status().member);
}
