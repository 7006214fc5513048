//! Conversations between a leader and mounts about copies.

use super::*;
use crate::types::Object;

const A: Conn = Conn(21);
const B: Conn = Conn(22);
const WHOLE_ROOT: Object = Object::Whole(Ino::ROOT);

impl Cluster {
    fn says(&mut self, conn: Conn, message: ToNode) {
        let leader = self.leader();
        self.peers.get_mut(&leader).unwrap().inbox.push(Input::Mount { conn, message });
        self.settle();
    }

    /// What this mount was told since it was looked last.
    fn heard(&mut self, by: Conn) -> Vec<ToMount> {
        let (told, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.mounts).into_iter().partition(|m| m.1 == by);
        self.mounts = rest;
        told.into_iter().map(|(_, _, message)| message).collect()
    }

    /// A mount at the leader, with a session and, having said that it has nothing, a lease.
    fn attach(&mut self, conn: Conn) -> SessionId {
        let nonce = conn.0;
        self.says(conn, ToNode::Hello { session: None, client: format!("host{nonce}:/mnt"), nonce, link: 1 });
        self.pass(200_000);
        let welcome = |m: &ToMount| if let ToMount::Welcome { session, .. } = m { Some(*session) } else { None };
        let session = self.heard(conn).iter().find_map(welcome).expect("a welcome");
        self.says(conn, ToNode::Empty);
        self.renew(conn).expect("a lease");
        session
    }

    fn renew(&mut self, conn: Conn) -> Option<u64> {
        self.says(conn, ToNode::Renew { sent: 7 });
        let lease = |m: ToMount| if let ToMount::Lease { sent: 7, lasts } = m { Some(lasts) } else { None };
        self.heard(conn).into_iter().find_map(lease)
    }

    /// Asks for the root's attributes, and for copies: those that came.
    fn look(&mut self, conn: Conn) -> Vec<Object> {
        let query = Query::GetAttr(GetAttr { ino: Ino::ROOT });
        self.says(conn, ToNode::Ask { id: 1, cred: Cred::ROOT, query, keep: true });
        let facts = |m| if let ToMount::Answer { facts, .. } = m { Some(facts) } else { None };
        let facts = self.heard(conn).into_iter().find_map(facts).expect("an answer");
        facts.into_iter().map(|fact| fact.object).collect()
    }

    fn recalled(&mut self, conn: Conn) -> Vec<Object> {
        let recall = |m| if let ToMount::Recall(objects) = m { objects } else { Vec::new() };
        self.heard(conn).into_iter().flat_map(recall).collect()
    }

    fn has_reply(&mut self, conn: Conn) -> bool {
        self.heard(conn).iter().any(|m| matches!(m, ToMount::Replies(_)))
    }
}

#[test]
fn a_change_waits_until_the_copies_are_back() {
    let mut cluster = Cluster::formed();
    let (_, session) = (cluster.attach(A), cluster.attach(B));
    assert_eq!(cluster.look(A), [WHOLE_ROOT]);
    cluster.says(B, ToNode::Commands(vec![Cluster::mkdir(session, 1)]));
    cluster.pass(100_000);
    assert_eq!((cluster.recalled(A), cluster.has_reply(B)), (vec![WHOLE_ROOT], false));
    // Questions do not wait, and get no copies of what is about to change.
    assert_eq!(cluster.look(A), []);
    assert_eq!(cluster.look(B), []);
    cluster.says(A, ToNode::Returned(vec![WHOLE_ROOT]));
    assert!(cluster.has_reply(B));
    // Nor of what has just changed, for a while.
    assert_eq!(cluster.look(A), []);
    for _ in 0..12 {
        cluster.pass(100_000);
        cluster.renew(A);
    }
    assert_eq!(cluster.look(A), [WHOLE_ROOT]);
}

#[test]
fn a_mount_is_asked_for_its_own_copies_too_but_for_its_names() {
    let mut cluster = Cluster::formed();
    let session = cluster.attach(A);
    let name = Name::new(b"d1").unwrap();
    let lookup = crate::meta::ops::LookupName::Name(name.clone());
    let query = Query::Lookup(crate::meta::ops::Lookup { dir: Ino::ROOT, name: lookup });
    cluster.says(A, ToNode::Ask { id: 1, cred: Cred::ROOT, query, keep: true });
    cluster.look(A);
    cluster.says(A, ToNode::Commands(vec![Cluster::mkdir(session, 1)]));
    assert_eq!(cluster.recalled(A), [WHOLE_ROOT], "not the name, nor who may search the root");
    cluster.says(A, ToNode::Returned(vec![WHOLE_ROOT]));
    assert!(cluster.has_reply(A));
    let kept = cluster.machine(cluster.leader()).copies(None, 10);
    let kept: Vec<Object> = kept.into_iter().map(|row| row.object).collect();
    assert_eq!(kept, [Object::Rights(Ino::ROOT), Object::Entry(Ino::ROOT, name)]);
}

#[test]
fn who_is_silent_is_waited_for_until_its_lease_is_over() {
    let mut cluster = Cluster::formed();
    let (_, session) = (cluster.attach(A), cluster.attach(B));
    cluster.look(A);
    let began = cluster.now;
    cluster.says(B, ToNode::Commands(vec![Cluster::mkdir(session, 1)]));
    while !cluster.has_reply(B) {
        cluster.pass(TICK_US);
        assert!(cluster.now < began + 2_000_000, "it waits for ever");
    }
    let waited = cluster.now - began;
    assert!((lease::LEASE_US / 2..=lease::LEASE_US + 2 * TICK_US).contains(&waited), "{waited} us");
    // What it says of copies now counts nothing, until it says that it has none.
    assert_eq!(cluster.renew(A), None);
    cluster.pass(1_500_000);
    assert_eq!(cluster.look(A), []);
    cluster.says(A, ToNode::Empty);
    assert!(cluster.renew(A).is_some());
    assert_eq!(cluster.look(A), [WHOLE_ROOT]);
}

#[test]
fn a_copy_given_back_before_the_recall_came_is_not_back_twice() {
    let mut cluster = Cluster::formed();
    let (_, session) = (cluster.attach(A), cluster.attach(B));
    cluster.look(A);
    cluster.says(B, ToNode::Commands(vec![Cluster::mkdir(session, 1)]));
    assert_eq!(cluster.recalled(A), [WHOLE_ROOT]);
    // Sent before the recall had come.
    cluster.says(A, ToNode::GaveBack(vec![WHOLE_ROOT]));
    assert!(!cluster.has_reply(B), "what its kernel knows it says with Returned");
    cluster.says(A, ToNode::Returned(vec![WHOLE_ROOT]));
    assert!(cluster.has_reply(B));
}

#[test]
fn what_waits_for_copies_ends_with_its_session() {
    let mut cluster = Cluster::formed();
    let (_, session) = (cluster.attach(A), cluster.attach(B));
    cluster.look(A);
    cluster.says(B, ToNode::Commands(vec![Cluster::mkdir(session, 1), Cluster::mkdir(session, 2)]));
    cluster.says(B, ToNode::Goodbye);
    cluster.pass(100_000);
    cluster.says(A, ToNode::Returned(vec![WHOLE_ROOT]));
    let status = cluster.machine(cluster.leader()).status();
    assert_eq!((status.copies.waiting, status.inodes), (0, 1));
    for _ in 0..12 {
        cluster.pass(100_000);
        cluster.renew(A);
    }
    assert_eq!(cluster.look(A), [WHOLE_ROOT], "nothing is about to change it");
}

/// The one that led is cut off and another one leads: nobody has copies any more, and nobody is waited for.
#[test]
fn a_new_leader_owes_nothing_to_what_the_old_one_gave_out() {
    let mut cluster = Cluster::formed();
    cluster.attach(A);
    cluster.look(A);
    let old = cluster.leader();
    let given_until = cluster.now + lease::LEASE_US;
    cluster.cut.insert(old);
    while cluster.peers.iter().filter(|(id, p)| **id != old && p.machine.is_leader()).count() == 0 {
        cluster.pass(TICK_US);
    }
    assert!(cluster.now > given_until, "it leads while copies of the old one are good");
    let session = cluster.attach(B);
    cluster.says(B, ToNode::Commands(vec![Cluster::mkdir(session, 1)]));
    assert!(cluster.has_reply(B));
}
