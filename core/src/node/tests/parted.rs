//! Conversations in which somebody is parted from the others: from a neighbour, from the log, from a tree that is over.

use super::tokens::{in_a_chain, in_a_tree};
use super::*;
use crate::types::Object;

const A: Conn = Conn(31);
const B: Conn = Conn(32);
const C: Conn = Conn(33);
const D: Conn = Conn(34);

fn mkdir_in(dir: Ino, session: SessionId, number: u64, name: &str) -> Command {
    let name = Name::new(name.as_bytes()).unwrap();
    let op = Op::Mkdir(Mkdir { dir, name, mode: 0o755 });
    Command { session, number, acked: 0, cred: Cred::ROOT, op }
}

impl Cluster {
    fn ino_of(&self, node: NodeId, name: &str) -> Ino {
        let key = Key::Entry(Ino::ROOT, Name::new(name.as_bytes()).unwrap());
        self.machine(node).reader().with_state(|state| match state.get(&key) {
            Ok(Some(Value::Entry(entry))) => entry.ino,
            other => panic!("{other:?}"),
        })
    }

    fn nlink(&self, node: NodeId, ino: Ino) -> u32 {
        self.machine(node).reader().with_state(|state| match state.get(&Key::Inode(ino)) {
            Ok(Some(Value::Inode(inode))) => inode.nlink,
            other => panic!("{other:?}"),
        })
    }
}

/// What a node let in under the last tree, and what waits behind another command at the leader, is let in anew under this one.
#[test]
fn what_was_let_in_elsewhere_under_another_tree_is_nothing() {
    let mut cluster = in_a_tree(3);
    let leader = cluster.leader();
    let [n1, n2] = cluster.followers();
    // The session first makes a directory, then holds it and the root at n1.
    let session = cluster.attach_at(n1, A);
    assert!(cluster.makes(n1, A, session, 1).1);
    let e = cluster.ino_of(n1, "d1");
    cluster.look_at(n1, A);
    cluster.asks_about(n1, A, e);
    assert_eq!(cluster.makes(n1, A, session, 2), (true, true));
    let other = cluster.attach_at(leader, B);
    cluster.says_at(leader, B, ToNode::Commands(vec![]));
    // n1 lets 3 (in the root) and 4 (in e) in. The first of these messages is lost, the other late.
    // e is to be held at n1 before that.
    cluster.says_at(n1, A, ToNode::Commands(vec![mkdir_in(e, session, 3, "warm")]));
    assert_eq!(cluster.nlink(leader, e), 3);
    cluster.cut_links.insert((n1, leader));
    cluster.sent.clear();
    cluster.says_at(n1, A, ToNode::Commands(vec![mkdir_in(Ino::ROOT, session, 4, "d4")]));
    cluster.says_at(n1, A, ToNode::Commands(vec![mkdir_in(e, session, 5, "late")]));
    let held: Vec<_> = cluster.sent.iter().filter(|(_, _, m)| matches!(m, ToPeer::Held { .. })).cloned().collect();
    let numbers = |m: &ToPeer| match m {
        ToPeer::Held { commands, .. } => commands.iter().map(|c| c.number).collect(),
        _ => Vec::new(),
    };
    let late = held.iter().find(|(_, _, m)| numbers(m) == [5]).expect("5 is let in by n1").clone();
    cluster.cut_links.clear();
    // Its mount has gone to n2 meanwhile and sends 4 from there; it travels, and waits for what n1 holds.
    cluster.says_at(n2, C, ToNode::Hello { session: Some(session), client: "host31:/mnt".into(), nonce: 31, link: 1 });
    cluster.pass(2 * TICK_US);
    cluster.says_at(n2, C, ToNode::Commands(vec![mkdir_in(Ino::ROOT, session, 4, "d4")]));
    assert_eq!(cluster.machine(leader).status().copies.waiting, 1);
    cluster.peers.get_mut(&leader).unwrap().inbox.push(Input::Peer { from: n1, message: late.2 });
    cluster.settle();
    assert_eq!(cluster.machine(leader).status().copies.waiting, 2, "4 waits for the root, and 5 behind it");
    // n1 is gone.
    cluster.cut.insert(n1);
    cluster.attach_at(n2, D);
    // Something is in the log that is not committed yet when the next tree begins.
    cluster.pass_with(n2, D, 1_000_000);
    cluster.held_disks.insert(n2);
    let before = cluster.machine(leader).status().tokens.view;
    let g = cluster.ino_of(leader, "d2");
    cluster.says_at(leader, B, ToNode::Commands(vec![mkdir_in(g, other, 1, "tail")]));
    while cluster.machine(leader).status().tokens.view == before {
        cluster.pass(TICK_US);
        cluster.renew_at(n2, D);
    }
    assert_eq!(cluster.machine(leader).status().copies.waiting, 2, "the root is not known to be as it is");
    cluster.pass(TICK_US);
    cluster.says_at(n2, D, ToNode::Empty);
    for _ in 0..4 {
        cluster.asks_about(n2, D, e);
        cluster.renew_at(n2, D);
        cluster.pass(TICK_US);
    }
    assert!(cluster.renew_at(n2, D), "no lease");
    cluster.finish_disk(n2);
    cluster.settle();
    cluster.told(D);
    // 4 and 5 are on their way to n2's disk.
    cluster.asks_about(n2, D, e);
    assert!(cluster.renew_at(n2, D));
    cluster.told(D);
    cluster.held_disks.clear();
    cluster.finish_disk(n2);
    cluster.settle();
    // Without the mistake it may have to wait for the copy; with it, it is carried out under the copy.
    if cluster.nlink(leader, e) == 4 {
        let has = cluster.machine(n2).copies(Some(e), 9);
        assert!(
            has.iter().all(|row| row.object != Object::Whole(e)),
            "5 is carried out, and a mount has a copy of before: {has:?}"
        );
    }
}

/// The leader's side of the wire refuses longer ones, and ends the stream.
#[test]
fn a_message_holds_no_more_commands_than_the_wire_lets_through() {
    let mut cluster = in_a_tree(3);
    let [node, _] = cluster.followers();
    let (a, b) = (cluster.attach_at(node, A), cluster.attach_at(node, B));
    cluster.sent.clear();
    for (conn, session) in [(A, a), (B, b)] {
        let name = |number| format!("{session:?}-{number}");
        let commands = (1..=600).map(|number| mkdir_in(Ino::ROOT, session, number, &name(number))).collect();
        cluster.peers.get_mut(&node).unwrap().inbox.push(Input::Mount { conn, message: ToNode::Commands(commands) });
    }
    cluster.settle();
    let len = |m: &ToPeer| match m {
        ToPeer::Commands(commands) | ToPeer::Held { commands, .. } => commands.len(),
        _ => 0,
    };
    let longest = cluster.sent.iter().map(|(_, _, m)| len(m)).max().unwrap();
    assert!(longest <= crate::limits::SESSION_WINDOW, "{longest} commands in one message");
}

/// The leader hears both, and is told.
#[test]
fn neighbours_that_do_not_hear_each_other_hold_nobody_up_for_ever() {
    let (mut cluster, [leader, between, below]) = in_a_chain();
    let session = cluster.attach_at(below, A);
    assert_eq!(cluster.makes(below, A, session, 1), (false, true));
    cluster.look_at(below, A);
    assert_eq!(cluster.makes(below, A, session, 2), (true, true));
    let other = cluster.attach_at(leader, B);
    cluster.cut_links.insert((below, between));
    cluster.says_at(leader, B, ToNode::Commands(vec![Cluster::mkdir_named(other, 1, "other")]));
    let mut replied = false;
    for _ in 0..600 {
        cluster.pass_with(leader, B, 100_000);
        cluster.says_at(below, A, ToNode::Alive);
        cluster.says_at(leader, B, ToNode::Alive);
        replied |= cluster.machine(leader).status().inodes == 4;
    }
    assert!(replied, "a minute, and nobody is cut off from the leader");
}

/// It carries nothing out meanwhile, so what it let in would not end.
#[test]
fn a_node_that_fetches_a_snapshot_holds_nobody_up() {
    let mut cluster = in_a_tree(3);
    let leader = cluster.leader();
    let [node, other] = cluster.followers();
    let session = cluster.attach_at(node, A);
    assert_eq!(cluster.makes(node, A, session, 1), (false, true));
    cluster.look_at(node, A);
    assert_eq!(cluster.makes(node, A, session, 2), (true, true));
    cluster.deaf.insert(node);
    assert!(cluster.makes(node, A, session, 3).0, "it is let in");
    let late = cluster.attach_at(other, B);
    cluster.pass(200_000);
    assert_eq!(cluster.machine(leader).status().inodes, 4, "and carried out");
    let machine = &mut cluster.peers.get_mut(&leader).unwrap().machine;
    machine.keep_log_tail(0);
    let applied = machine.status().applied;
    cluster.peers.get_mut(&leader).unwrap().inbox.push(Input::Checkpointed(applied));
    cluster.settle();
    cluster.deaf.clear();
    cluster.says_at(other, B, ToNode::Commands(vec![Cluster::mkdir_named(late, 1, "other")]));
    let mut done = false;
    for _ in 0..60 {
        cluster.pass(1_000_000);
        cluster.says_at(node, A, ToNode::Alive);
        cluster.says_at(other, B, ToNode::Alive);
        done |= cluster.machine(leader).status().inodes == 5;
    }
    assert!(cluster.machine(node).snapshot.is_some(), "this is about a node that fetches one");
    assert!(done, "a minute, and it goes on for as long as the snapshot takes");
}
