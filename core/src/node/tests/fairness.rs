//! A mount that sends much, and the others.

use super::*;
use crate::limits::{AHEAD_BYTES_MAX, BATCH_BYTES_MAX, SESSION_WINDOW};
use crate::meta::ops::{SetXattr, XattrHow};
use crate::types::XattrName;
use bytes::Bytes;
use raft::{GetEntriesContext, Storage};

const FLOOD: Conn = Conn(1);
const ONE: Conn = Conn(2);
const LARGE: usize = 64 << 10;

impl Cluster {
    fn greet_as(&mut self, node: NodeId, conn: Conn) -> SessionId {
        let (client, nonce) = (format!("host{}:/mnt", conn.0), conn.0);
        self.says_at(node, conn, ToNode::Hello { session: None, client, nonce, link: 1 });
        self.pass(200_000);
        let welcome = |(_, to, m): &(NodeId, Conn, ToMount)| match m {
            ToMount::Welcome { session, .. } if *to == conn => Some(*session),
            _ => None,
        };
        self.mounts.iter().find_map(welcome).expect("a welcome")
    }

    /// To whom replies went, and of which numbers, in their order.
    fn replies_in_order(&self) -> Vec<(Conn, u64)> {
        let numbers = |(_, conn, m): &(NodeId, Conn, ToMount)| match m {
            ToMount::Replies(replies) => replies.iter().map(|(number, _)| (*conn, *number)).collect(),
            _ => Vec::new(),
        };
        self.mounts.iter().flat_map(numbers).collect()
    }

    /// All that this node's store was given is durable in it.
    fn checkpoint(&mut self, id: NodeId) {
        let stored = self.machine(id).raw.store().stored.0;
        self.peers.get_mut(&id).unwrap().inbox.push(Input::Checkpointed(stored));
        self.settle();
    }

    fn hold_all_disks(&mut self) {
        self.held_disks = self.peers.keys().copied().collect();
    }

    /// The disks write what they were given, and no more.
    fn finish_disks_once(&mut self) {
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            self.finish_disk(id);
        }
        self.settle();
    }
}

fn large(session: SessionId, number: u64) -> Command {
    let name = XattrName::new(b"user.large").unwrap();
    let set = SetXattr { ino: Ino::ROOT, name, value: Bytes::from(vec![1; LARGE]), how: XattrHow::Either };
    Command { session, number, acked: 0, cred: Cred::ROOT, op: set.into() }
}

#[test]
fn who_comes_while_another_floods_waits_for_what_is_in_the_log_and_one_turn() {
    for at_leader in [true, false] {
        let mut cluster = Cluster::formed();
        let leader = cluster.leader();
        let node = if at_leader { leader } else { cluster.follower() };
        let (flood, one) = (cluster.greet_as(node, FLOOD), cluster.greet_as(leader, ONE));
        cluster.hold_all_disks();
        for number in 1..=400 {
            cluster.says_at(node, FLOOD, ToNode::Commands(vec![large(flood, number)]));
        }
        cluster.says_at(leader, ONE, ToNode::Commands(vec![Cluster::mkdir(one, 1)]));
        while !cluster.replies_in_order().contains(&(ONE, 1)) {
            cluster.finish_disks_once();
        }
        let replies = cluster.replies_in_order();
        // Where the mount hangs at a follower, the leader's reply and the follower's own may come.
        let before: BTreeSet<u64> = replies.iter().take_while(|r| **r != (ONE, 1)).map(|r| r.1).collect();
        let before = before.len();
        let most = (AHEAD_BYTES_MAX + 2 * BATCH_BYTES_MAX) / LARGE;
        assert!((1..=most).contains(&before), "{before} of 400 came first");
        while cluster.replies().len() < 400 {
            cluster.finish_disks_once();
        }
        let flooded: Vec<u64> = cluster.replies_in_order().iter().filter(|(c, _)| *c == FLOOD).map(|r| r.1).collect();
        let in_order: BTreeSet<u64> = flooded.iter().copied().collect();
        assert!(in_order.iter().copied().eq(1..=400));
        cluster.held_disks.clear();
    }
}

#[test]
fn a_session_ends_behind_its_commands() {
    let mut cluster = Cluster::formed();
    let leader = cluster.leader();
    let flood = cluster.greet_as(leader, FLOOD);
    cluster.hold_all_disks();
    for number in 1..=200 {
        cluster.says_at(leader, FLOOD, ToNode::Commands(vec![large(flood, number)]));
    }
    cluster.says_at(leader, FLOOD, ToNode::Commands(vec![Cluster::mkdir(flood, 201)]));
    cluster.says_at(leader, FLOOD, ToNode::Goodbye);
    while cluster.machine(leader).status().sessions.len() == 1 {
        cluster.finish_disks_once();
    }
    assert_eq!(cluster.machine(leader).status().inodes, 2, "the last of its commands was carried out");
    cluster.held_disks.clear();
}

/// A client that heeds no window fills nobody's memory, and what it sends in time is carried out.
#[test]
fn who_waits_for_no_answer_is_heard_up_to_the_window() {
    for at_leader in [true, false] {
        let mut cluster = Cluster::formed();
        let leader = cluster.leader();
        let node = if at_leader { leader } else { cluster.follower() };
        let session = cluster.greet_as(node, FLOOD);
        cluster.hold_all_disks();
        let all = 3 * SESSION_WINDOW as u64;
        for number in 1..=all {
            cluster.says_at(node, FLOOD, ToNode::Commands(vec![Cluster::mkdir(session, number)]));
        }
        for id in std::mem::take(&mut cluster.held_disks) {
            cluster.finish_disk(id);
        }
        cluster.pass(TICK_US);
        assert_eq!(cluster.replies(), (1..=SESSION_WINDOW as u64).collect());
        let answered = cluster.replies().len() as u64;
        let rest = (answered + 1..=answered + 9).map(|number| Cluster::mkdir(session, number)).collect();
        cluster.says_at(node, FLOOD, ToNode::Commands(rest));
        cluster.pass(TICK_US);
        assert_eq!(cluster.replies().len() as u64, answered + 9);
    }
}

/// It has not carried out what the leader has answered, and the mount goes on from there.
#[test]
fn a_mount_that_comes_to_a_node_that_is_far_behind_is_heard() {
    let mut cluster = Cluster::formed();
    let (leader, behind) = (cluster.leader(), cluster.follower());
    let session = cluster.greet_as(leader, FLOOD);
    cluster.deaf.insert(behind);
    let answered = 2 * SESSION_WINDOW as u64;
    for number in 1..=answered {
        cluster.says_at(leader, FLOOD, ToNode::Commands(vec![Cluster::mkdir(session, number)]));
    }
    assert_eq!(cluster.replies().len() as u64, answered);
    let (client, nonce) = (format!("host{}:/mnt", FLOOD.0), FLOOD.0);
    cluster.says_at(behind, ONE, ToNode::Hello { session: Some(session), client, nonce, link: 2 });
    cluster.pass(200_000);
    let next = Command { acked: answered, ..Cluster::mkdir(session, answered + 1) };
    cluster.says_at(behind, ONE, ToNode::Commands(vec![next]));
    cluster.pass(200_000);
    assert!(cluster.replies().contains(&(answered + 1)));
}

/// It was ended before it could shorten its log for a checkpoint that it had made.
#[test]
fn a_node_that_starts_with_a_long_log_begins_with_a_short_one() {
    let mut cluster = Cluster::formed();
    let leader = cluster.leader();
    let flood = cluster.greet_as(leader, FLOOD);
    for number in 1..=(LOG_BYTES_MAX / LARGE) as u64 + 9 {
        cluster.says_at(leader, FLOOD, ToNode::Commands(vec![large(flood, number)]));
    }
    cluster.pass(TICK_US);
    let peer = &cluster.peers[&leader];
    let log = peer.machine.raw.store();
    assert!(log.bytes() >= LOG_BYTES_MAX);
    let stored = log.stored;
    let entries = log.entries(1, stored.0 + 1, None, GetEntriesContext::empty(false)).unwrap();
    let (hard_state, base) = (log.hard_state.clone(), peer.disk.clone());
    let recovered = Recovered { member: true, hard_state, entries, stored, base: base.clone(), ..empty(&base) };
    let mut machine = NodeMachine::new(peer.machine.config.clone(), recovered, at(cluster.now)).unwrap();
    assert!(machine.raw.store().bytes() < LOG_BYTES_SOON, "{}", machine.raw.store().bytes());
    let out = machine.step(at(cluster.now), [Input::Tick]);
    assert!(out.iter().any(|output| matches!(output, Output::Compact { .. })));
}

/// The checkpoints of this cluster never come by themselves.
#[test]
fn a_log_that_no_checkpoint_shortens_holds_the_commands_back() {
    let mut cluster = Cluster::formed();
    let leader = cluster.leader();
    let flood = cluster.greet_as(leader, FLOOD);
    let all = 3 * (LOG_BYTES_MAX / LARGE) as u64 / 2;
    for number in 1..=all {
        cluster.says_at(leader, FLOOD, ToNode::Commands(vec![large(flood, number)]));
    }
    let bytes = |cluster: &Cluster| cluster.machine(leader).raw.store().bytes();
    assert!((LOG_BYTES_MAX..LOG_BYTES_MAX + AHEAD_BYTES_MAX).contains(&bytes(&cluster)), "{}", bytes(&cluster));
    let answered = cluster.replies().len() as u64;
    assert!(answered < all);
    cluster.checkpoint(leader);
    assert!(bytes(&cluster) < LOG_BYTES_MAX);
    for number in answered + 1..=all {
        cluster.says_at(leader, FLOOD, ToNode::Commands(vec![large(flood, number)]));
        cluster.checkpoint(leader);
    }
    cluster.pass(TICK_US);
    cluster.checkpoint(leader);
    assert_eq!(cluster.replies().len() as u64, all);
}

/// The leader's disk is fast, and this one's is not.
#[test]
fn a_follower_takes_no_more_than_its_checkpoints_get_rid_of() {
    let mut cluster = Cluster::formed();
    let (leader, slow) = (cluster.leader(), cluster.follower());
    let flood = cluster.greet_as(leader, FLOOD);
    let all = 2 * (LOG_BYTES_TAKEN_MAX / LARGE) as u64;
    for number in 1..=all {
        cluster.says_at(leader, FLOOD, ToNode::Commands(vec![large(flood, number)]));
        if number % 100 == 0 {
            cluster.pass(TICK_US);
            cluster.peers.keys().copied().filter(|id| *id != slow).collect::<Vec<_>>().into_iter().for_each(|id| {
                cluster.checkpoint(id);
            });
        }
    }
    assert_eq!(cluster.replies().len() as u64, all, "the others go on");
    let bytes = cluster.machine(slow).raw.store().bytes();
    let most = LOG_BYTES_TAKEN_MAX + 64 * BATCH_BYTES_MAX;
    assert!((LOG_BYTES_TAKEN_MAX..most).contains(&bytes), "{bytes}");
}

/// It waits until all that was let in is in the log, and that may always be more than goes in at once.
#[test]
fn another_tree_is_laid_while_a_mount_floods() {
    let mut cluster = Cluster::formed();
    let (leader, node) = (cluster.leader(), cluster.follower());
    let flood = cluster.greet_as(leader, FLOOD);
    cluster.pass(3_000_000);
    let in_tree = |cluster: &Cluster| cluster.machine(leader).status().tokens.parents.contains_key(&node);
    assert!(in_tree(&cluster));
    cluster.cut.insert(node);
    let mut number = 0;
    while in_tree(&cluster) && number < 8_000 {
        cluster.hold_all_disks();
        for _ in 0..100 {
            number += 1;
            cluster.says_at(leader, FLOOD, ToNode::Commands(vec![large(flood, number)]));
        }
        let queued = cluster.machine(leader).status().queued;
        assert!(queued > 0, "what waits is more than goes into the log at once");
        cluster.pass(TICK_US);
        while in_tree(&cluster) && cluster.machine(leader).status().queued > 0 {
            cluster.finish_disks_once();
            cluster.checkpoint(leader);
        }
    }
    assert!(number < 8_000, "four seconds, and it is in the tree");
    cluster.held_disks.clear();
}

/// The groups of who asks travel with every command: many of them are much, though the commands are small.
#[test]
fn commands_of_who_is_in_many_groups_make_no_large_entry_and_no_large_message() {
    for at_leader in [true, false] {
        let mut cluster = Cluster::formed();
        let node = if at_leader { cluster.leader() } else { cluster.follower() };
        let session = cluster.greet_as(node, ONE);
        cluster.sent.clear();
        let cred = Cred { uid: 5, gid: 5, groups: Some((1 << 31..(1 << 31) + 30_000).collect()) };
        let all = 100;
        let command = |number| Command { cred: cred.clone(), ..Cluster::mkdir(session, number) };
        cluster.says_at(node, ONE, ToNode::Commands((1..=all).map(command).collect()));
        cluster.pass(1_000_000);
        assert_eq!(cluster.replies(), (1..=all).collect());
        for (_, _, message) in &cluster.sent {
            let bytes = match message {
                ToPeer::Raft(message) => message.entries.iter().map(|entry| entry.data.len()).max().unwrap_or(0),
                ToPeer::Commands(commands) => postcard::to_allocvec(commands).unwrap().len(),
                _ => 0,
            };
            assert!(bytes < 2 * BATCH_BYTES_MAX, "{bytes} bytes at once");
        }
    }
}
