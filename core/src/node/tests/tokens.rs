//! Conversations between nodes about tokens, and what their mounts have of it. Node 3 is below node 2, which is below
//! node 1, if that leads; else what the topology makes of it.

use super::*;
use crate::token::{Mode, Say};

const A: Conn = Conn(31);
const B: Conn = Conn(32);

/// A few nodes, all of whom have a seat in the leader's tree.
pub(super) fn in_a_tree(nodes: u64) -> Cluster {
    let mut cluster = Cluster::new(nodes);
    cluster.pass(4_000_000);
    assert_eq!(cluster.parents().len() as u64, nodes - 1);
    cluster
}

/// Three nodes one below the other, from the leader on.
pub(super) fn in_a_chain() -> (Cluster, [NodeId; 3]) {
    let chain = Topology { edges: vec![(NodeId(1), NodeId(2)), (NodeId(2), NodeId(3))], ..Topology::default() };
    let mut cluster = Cluster::with(3, chain);
    cluster.pass(4_000_000);
    let leader = cluster.leader();
    assert_ne!(leader, NodeId(2), "these seeds make one of the ends the leader");
    (cluster, [leader, NodeId(2), NodeId(4 - leader.0)])
}

impl Cluster {
    pub(super) fn parents(&self) -> BTreeMap<NodeId, NodeId> {
        self.machine(self.leader()).status().tokens.parents
    }

    pub(super) fn followers(&self) -> [NodeId; 2] {
        let leader = self.leader();
        let followers: Vec<NodeId> = self.peers.keys().copied().filter(|id| *id != leader).collect();
        [followers[0], followers[1]]
    }

    pub(super) fn says_at(&mut self, node: NodeId, conn: Conn, message: ToNode) {
        self.peers.get_mut(&node).unwrap().inbox.push(Input::Mount { conn, message });
        self.settle();
    }

    pub(super) fn told(&mut self, conn: Conn) -> Vec<ToMount> {
        let (told, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.mounts).into_iter().partition(|m| m.1 == conn);
        self.mounts = rest;
        told.into_iter().map(|(_, _, message)| message).collect()
    }

    /// A mount at a node, with a session, and a lease as soon as the node has one.
    pub(super) fn attach_at(&mut self, node: NodeId, conn: Conn) -> SessionId {
        let nonce = conn.0;
        self.says_at(node, conn, ToNode::Hello { session: None, client: format!("host{nonce}:/mnt"), nonce, link: 1 });
        self.pass(200_000);
        let welcome = |m: &ToMount| if let ToMount::Welcome { session, .. } = m { Some(*session) } else { None };
        let session = self.told(conn).iter().find_map(welcome).expect("a welcome");
        self.says_at(node, conn, ToNode::Empty);
        self.renew_at(node, conn);
        self.pass(TICK_US);
        assert!(self.renew_at(node, conn), "no lease");
        session
    }

    pub(super) fn renew_at(&mut self, node: NodeId, conn: Conn) -> bool {
        self.says_at(node, conn, ToNode::Renew { sent: 7 });
        self.told(conn).iter().any(|m| matches!(m, ToMount::Lease { sent: 7, .. }))
    }

    /// Time passes for a mount that goes on having its lease renewed.
    pub(super) fn pass_with(&mut self, node: NodeId, conn: Conn, us: u64) {
        for _ in 0..us / 100_000 {
            self.pass(100_000);
            self.renew_at(node, conn);
        }
    }

    /// Asks for an object's attributes, and for copies: how many came.
    pub(super) fn asks_about(&mut self, node: NodeId, conn: Conn, ino: Ino) -> usize {
        let query = Query::GetAttr(GetAttr { ino });
        self.says_at(node, conn, ToNode::Ask { id: 1, cred: Cred::ROOT, query, keep: true });
        let facts = |m| if let ToMount::Answer { facts, .. } = m { Some(facts.len()) } else { None };
        self.told(conn).into_iter().find_map(facts).expect("an answer")
    }

    /// The same of the root: how many came, and whether the leader was asked.
    pub(super) fn look_at(&mut self, node: NodeId, conn: Conn) -> (usize, bool) {
        self.sent.clear();
        let facts = self.asks_about(node, conn, Ino::ROOT);
        (facts, self.sent.iter().any(|(_, _, m)| matches!(m, ToPeer::Ask { .. })))
    }

    /// A directory is made by a mount: whether the node let that in, and whether there was a reply.
    pub(super) fn makes(&mut self, node: NodeId, conn: Conn, session: SessionId, number: u64) -> (bool, bool) {
        self.sent.clear();
        self.says_at(node, conn, ToNode::Commands(vec![Self::mkdir(session, number)]));
        let held = self.sent.iter().any(|(from, _, m)| *from == node && matches!(m, ToPeer::Held { .. }));
        (held, self.told(conn).iter().any(|m| matches!(m, ToMount::Replies(_))))
    }

    pub(super) fn holds(&self, node: NodeId) -> Option<Mode> {
        let row = self.machine(node).tokens(Ino::ROOT, 1).into_iter().next();
        row.filter(|row| row.object == Ino::ROOT)?.held
    }
}

/// The third time is free: a node wants what its mount asks for often, and answers it then.
#[test]
fn what_a_node_holds_it_answers_itself() {
    let mut cluster = in_a_tree(3);
    let [node, _] = cluster.followers();
    cluster.attach_at(node, A);
    assert_eq!(cluster.look_at(node, A), (0, true), "the leader is asked, and the node wants it for the next time");
    assert_eq!(cluster.holds(node), Some(Mode::Shared));
    assert_eq!(cluster.look_at(node, A), (1, false));
}

#[test]
fn who_changes_something_waits_for_the_copies_of_other_nodes() {
    let mut cluster = in_a_tree(3);
    let [node, other] = cluster.followers();
    cluster.attach_at(node, A);
    let session = cluster.attach_at(other, B);
    cluster.look_at(node, A);
    assert_eq!(cluster.look_at(node, A), (1, false));
    // Nothing of it is held at the other node: the command travels, and the root takes the copy back.
    assert_eq!(cluster.makes(other, B, session, 1), (false, false));
    let recalled = cluster.told(A).into_iter().any(|m| matches!(m, ToMount::Recall(_)));
    assert!(recalled, "the mount's node asks for it");
    cluster.says_at(node, A, ToNode::Returned(vec![crate::types::Object::Whole(Ino::ROOT)]));
    assert!(cluster.told(B).iter().any(|m| matches!(m, ToMount::Replies(_))));
    assert_eq!(cluster.holds(node), None);
    // It leaves it alone for a while.
    assert_eq!(cluster.look_at(node, A), (0, true));
    assert_eq!(cluster.holds(node), None);
    cluster.pass_with(node, A, 1_200_000);
    cluster.look_at(node, A);
    assert_eq!(cluster.holds(node), Some(Mode::Shared));
}

#[test]
fn a_node_lets_in_what_its_mounts_change_of_what_it_holds() {
    let mut cluster = in_a_tree(3);
    let [node, _] = cluster.followers();
    let session = cluster.attach_at(node, A);
    assert_eq!(cluster.makes(node, A, session, 1), (false, true), "nothing is held: it travels");
    cluster.look_at(node, A);
    // The token comes first, then the command goes; next time the token is there.
    assert_eq!(cluster.makes(node, A, session, 2), (true, true));
    assert_eq!(cluster.holds(node), Some(Mode::Exclusive));
    assert_eq!(cluster.makes(node, A, session, 3), (true, true));
    let tokens = cluster.sent.iter().filter(|(_, _, m)| matches!(m, ToPeer::Tokens { .. })).count();
    assert_eq!(tokens, 0, "not a word about tokens");
    assert_eq!(cluster.machine(cluster.leader()).status().inodes, 4);
}

/// While one command of a session is on its way, those behind it go the same way.
#[test]
fn what_travels_is_not_overtaken() {
    let mut cluster = in_a_tree(3);
    let [node, _] = cluster.followers();
    let session = cluster.attach_at(node, A);
    assert_eq!(cluster.makes(node, A, session, 1), (false, true));
    cluster.cut.insert(node);
    assert_eq!(cluster.makes(node, A, session, 2), (false, false));
    cluster.cut.clear();
    cluster.look_at(node, A);
    assert_eq!(cluster.makes(node, A, session, 3), (false, false), "the one before is lost: it cannot be its turn");
    cluster.says_at(node, A, ToNode::Commands(vec![Cluster::mkdir(session, 2), Cluster::mkdir(session, 3)]));
    cluster.pass(100_000);
    assert_eq!(cluster.machine(cluster.leader()).status().inodes, 4);
}

/// A node that was started anew knows nothing of what it held: it is given a seat in another tree, not its old one.
#[test]
fn a_node_that_was_started_anew_has_a_new_seat() {
    let mut cluster = in_a_tree(3);
    let [node, other] = cluster.followers();
    cluster.attach_at(node, A);
    cluster.look_at(node, A);
    let before = cluster.machine(cluster.leader()).status().tokens.view;
    cluster.start(node, 3);
    cluster.pass(4_000_000);
    let after = cluster.machine(cluster.leader()).status().tokens.view;
    assert_eq!((after.0, cluster.parents().len()), (before.0, 2));
    assert!(after.1 > before.1, "{before:?} {after:?}");
    let session = cluster.attach_at(other, B);
    assert!(cluster.makes(other, B, session, 1).1, "nobody is waited for");
}

/// Who is cut off is waited for until its lease is over, and what it let in afterwards is nothing.
#[test]
fn a_node_that_is_cut_off_loses_what_it_held() {
    let mut cluster = in_a_tree(3);
    let [node, other] = cluster.followers();
    let late = cluster.attach_at(node, A);
    let session = cluster.attach_at(other, B);
    // What a mount sends first may have been sent before, by another way: it travels.
    assert_eq!(cluster.makes(node, A, late, 1), (false, true));
    cluster.look_at(node, A);
    assert_eq!(cluster.makes(node, A, late, 2), (true, true));
    cluster.cut.insert(node);
    let began = cluster.now;
    cluster.sent.clear();
    cluster.says_at(node, A, ToNode::Commands(vec![Cluster::mkdir(late, 3)]));
    let held = cluster.sent.iter().find(|(_, _, message)| matches!(message, ToPeer::Held { .. })).cloned();
    let (from, to, message) = held.expect("it is let in, and does not arrive");
    cluster.says_at(other, B, ToNode::Commands(vec![Cluster::mkdir_named(session, 1, "other")]));
    while cluster.machine(cluster.leader()).status().inodes < 4 {
        cluster.pass(TICK_US);
        assert!(cluster.now < began + 3_000_000, "it waits for ever");
    }
    assert!(cluster.now > began + 300_000, "its lease was not over");
    // It still believes that it holds the root.
    assert_eq!(cluster.holds(node), Some(Mode::Exclusive));
    let (query, cred) = (Query::GetAttr(GetAttr { ino: Ino::ROOT }), Cred::ROOT);
    cluster.told(A);
    cluster.says_at(node, A, ToNode::Ask { id: 2, cred, query, keep: true });
    assert!(cluster.told(A).is_empty(), "it answers nothing any more");
    // What was on its way arrives at last.
    cluster.peers.get_mut(&to).unwrap().inbox.push(Input::Peer { from, message });
    cluster.settle();
    cluster.pass(200_000);
    assert_eq!(cluster.machine(to).status().inodes, 4, "of another tree");
    cluster.cut.clear();
    cluster.pass(4_000_000);
    cluster.says_at(node, A, ToNode::Commands(vec![Cluster::mkdir(late, 3)]));
    assert_eq!(cluster.machine(cluster.leader()).status().inodes, 5);
}

/// What is asked often by mounts of two nodes one below the other is asked of the leader's side once.
#[test]
fn a_node_gives_copies_to_those_below_it() {
    let (mut cluster, [leader, between, below]) = in_a_chain();
    cluster.attach_at(below, A);
    cluster.look_at(below, A);
    let over = |sent: &(NodeId, NodeId, ToPeer)| match &sent.2 {
        ToPeer::Tokens { parcel, .. } => parcel.messages.iter().any(|m| matches!(m.say, Say::Copy(_))),
        _ => false,
    };
    let copies: Vec<(NodeId, NodeId)> = cluster.sent.iter().filter(|s| over(s)).map(|(f, t, _)| (*f, *t)).collect();
    assert_eq!(copies, [(leader, between), (between, below)], "only neighbours speak");
    cluster.attach_at(between, B);
    cluster.sent.clear();
    assert_eq!(cluster.look_at(between, B), (1, false), "it has a copy already");
}

#[test]
fn what_nobody_uses_goes_back() {
    let mut cluster = in_a_tree(3);
    let [node, _] = cluster.followers();
    let session = cluster.attach_at(node, A);
    cluster.makes(node, A, session, 1);
    cluster.look_at(node, A);
    cluster.makes(node, A, session, 2);
    assert_eq!(cluster.holds(node), Some(Mode::Exclusive));
    cluster.pass(15_000_000);
    for id in cluster.peers.keys() {
        assert_eq!(cluster.machine(*id).status().tokens.known, 0, "node {id}");
    }
}

/// A copy says at which index it is true. A question that comes in the same moment is not answered from a state before that.
#[test]
fn a_copy_is_used_when_the_state_has_got_there() {
    let mut cluster = in_a_tree(3);
    let [node, _] = cluster.followers();
    let leader = cluster.leader();
    cluster.attach_at(node, A);
    let session = cluster.attach_at(leader, B);
    cluster.cut.insert(node);
    assert_eq!(cluster.makes(leader, B, session, 1), (false, true));
    cluster.sent.clear();
    let ask = |id| ToNode::Ask { id, cred: Cred::ROOT, query: Query::GetAttr(GetAttr { ino: Ino::ROOT }), keep: true };
    cluster.says_at(node, A, ask(1));
    let of_tokens = |sent: &Vec<(NodeId, NodeId, ToPeer)>, by: NodeId| {
        let found = sent.iter().find(|(from, to, m)| {
            *from == by
                && (*to == leader || *to == node)
                && matches!(m, ToPeer::Tokens { parcel, .. } if parcel.number > 0)
        });
        found.map(|(_, _, message)| message.clone()).expect("a word about tokens")
    };
    let want = of_tokens(&cluster.sent, node);
    cluster.peers.get_mut(&leader).unwrap().inbox.push(Input::Peer { from: node, message: want });
    cluster.settle();
    let copy = of_tokens(&cluster.sent, leader);
    cluster.told(A);
    let inbox = &mut cluster.peers.get_mut(&node).unwrap().inbox;
    inbox.push(Input::Peer { from: leader, message: copy });
    inbox.push(Input::Mount { conn: A, message: ask(2) });
    cluster.settle();
    assert_eq!(cluster.holds(node), Some(Mode::Shared));
    assert!(cluster.told(A).is_empty(), "what it would answer is old");
    cluster.cut.clear();
    cluster.pass(200_000);
    assert_eq!(cluster.look_at(node, A), (1, false));
}
