//! Locks that are taken away by force, and who hears of it.

use super::*;
use crate::meta::locks::FileLock;
use crate::meta::ops::{BreakLocks, ForgetBroken, Lock, SetAttr};
use crate::meta::testing::SET_NOTHING;
use crate::types::Errno;

const A: Conn = Conn(31);
const ORDER: BreakLocks = BreakLocks { ino: Ino::ROOT, session: None, request: 77 };

fn lock() -> Op {
    let (ino, owner, pid, start, end) = (Ino::ROOT, 1, 7, 0, u64::MAX);
    Lock { ino, owner, pid, start, end, exclusive: true, ticket: None }.into()
}

impl Cluster {
    fn give(&mut self, node: NodeId, input: Input) {
        self.peers.get_mut(&node).unwrap().inbox.push(input);
        self.settle();
    }

    fn join(&mut self, node: NodeId, session: Option<SessionId>) -> SessionId {
        self.mounts.clear();
        let message = ToNode::Hello { session, client: "a:/mnt".into(), nonce: 31, link: 1 };
        self.give(node, Input::Mount { conn: A, message });
        self.pass(400_000);
        let welcome = |(_, _, m): &(NodeId, Conn, ToMount)| match m {
            ToMount::Welcome { session, .. } => Some(*session),
            _ => None,
        };
        self.mounts.iter().find_map(welcome).expect("a welcome")
    }

    /// The reply to one command.
    fn carried_out(&mut self, node: NodeId, session: SessionId, number: u64, op: Op) -> Reply {
        self.mounts.clear();
        let command = Command { session, number, acked: 0, cred: Cred::ROOT, op };
        self.give(node, Input::Mount { conn: A, message: ToNode::Commands(vec![command]) });
        self.pass(200_000);
        let replies = |(_, _, m): &(NodeId, Conn, ToMount)| match m {
            ToMount::Replies(replies) => replies.clone(),
            _ => Vec::new(),
        };
        let all: Vec<(u64, Reply)> = self.mounts.iter().flat_map(replies).collect();
        all.into_iter().find(|(n, _)| *n == number).expect("a reply").1
    }

    fn told_of_broken(&self) -> usize {
        let broken = |m: &ToMount| *m == ToMount::LocksBroken { ino: Ino::ROOT };
        self.mounts.iter().filter(|(_, conn, m)| *conn == A && broken(m)).count()
    }

    /// What came of an order, on each node that applied it.
    fn broke(&mut self) -> Vec<Vec<FileLock>> {
        let locks = |reply| if let Reply::Done(Answer::Broken(locks)) = reply { locks } else { panic!("{reply:?}") };
        std::mem::take(&mut self.broke).into_iter().map(|(_, _, reply)| locks(reply)).collect()
    }
}

#[test]
fn the_holder_hears_of_it_at_its_node_and_again_wherever_it_comes_until_it_has_closed_the_file() {
    let mut cluster = Cluster::formed();
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let session = cluster.join(follower, None);
    assert_eq!(cluster.carried_out(follower, session, 1, lock()), Reply::Done(Answer::Done));
    cluster.mounts.clear();
    cluster.give(leader, Input::BreakLocks(ORDER));
    cluster.pass(200_000);
    assert_eq!(cluster.told_of_broken(), 1);
    let broke = cluster.broke();
    assert!(broke.len() == 3 && broke.iter().all(|locks| *locks == broke[0] && locks.len() == 1), "{broke:?}");
    // Refused whether it has heard or not.
    assert_eq!(cluster.carried_out(follower, session, 2, lock()), Reply::Failed(Errno::EIO));
    cluster.give(follower, Input::MountLost(A));
    assert_eq!(cluster.join(leader, Some(session)), session);
    assert_eq!(cluster.told_of_broken(), 1, "the news may have been lost with the stream");
    let done = ForgetBroken { ino: Ino::ROOT };
    assert_eq!(cluster.carried_out(leader, session, 3, done.into()), Reply::Done(Answer::Done));
    assert_eq!(cluster.carried_out(leader, session, 4, lock()), Reply::Done(Answer::Done));
    cluster.give(leader, Input::MountLost(A));
    cluster.join(follower, Some(session));
    assert_eq!(cluster.told_of_broken(), 0);
}

#[test]
fn only_the_leader_breaks_locks_and_no_mount_does() {
    let mut cluster = Cluster::formed();
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let session = cluster.join(leader, None);
    cluster.carried_out(leader, session, 1, lock());
    assert_eq!(cluster.carried_out(leader, session, 2, ORDER.into()), Reply::Failed(Errno::EPERM));
    cluster.give(follower, Input::BreakLocks(ORDER));
    cluster.pass(500_000);
    assert_eq!(cluster.broke(), Vec::<Vec<FileLock>>::new());
    let chmod = SetAttr { mode: Some(0o700), ..SET_NOTHING };
    assert!(matches!(cluster.carried_out(leader, session, 3, chmod.into()), Reply::Done(_)));
}
