//! # Sessions: every command exactly once, in order
//!
//! A mount numbers its commands 1, 2, 3 … within its session, and sends each again until it has the reply. The state keeps
//! of every session the last number carried out and the replies the mount has not acknowledged. So a command that arrives
//! twice, through another node or after a change of leader, is answered from memory, byte for byte as the first time; one
//! that arrives too early is refused and comes again in its turn.
//!
//! Invariants: `replies` are numbered without gaps and end at `last`; a session that ended is unknown for ever (its number
//! is never given out again), so its late commands are refused: fenced.

mod messages;

pub use messages::{ToMount, ToNode};

use crate::meta::{Answer, Op};
use crate::types::{Cred, Errno, SessionId, Stamp};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// What the state machine answers to a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    Done(Answer),
    Failed(Errno),
    /// The answer depends on the caller's supplementary groups: send it again, under a new number, with them.
    NeedGroups,
}

/// One operation of one mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    pub session: SessionId,
    /// This command's number within its session.
    pub number: u64,
    /// The mount has the replies up to and with this number.
    pub acked: u64,
    pub cred: Cred,
    pub op: Op,
}

impl Command {
    /// About the bytes that it takes, or has copied.
    pub fn weight(&self) -> usize {
        self.op.weight() + self.cred.weight()
    }
}

/// What the state keeps of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Who it is, for people: host and mount point.
    pub client: String,
    /// Drawn by the mount for its greeting, so that a greeting that came twice opens one session.
    pub nonce: u64,
    pub since: Stamp,
    /// The last command carried out.
    pub last: u64,
    /// Replies not yet acknowledged, the newest at the back.
    pub replies: VecDeque<Reply>,
}

/// How a command relates to what its session already did.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn<'a> {
    /// It is the next one: carry it out.
    Next,
    /// It was carried out; this was the reply.
    Again(&'a Reply),
    /// It was carried out and the mount said that it has the reply.
    Settled,
    /// Something before it is missing.
    Early,
}

impl Session {
    pub fn new(client: String, nonce: u64, since: Stamp) -> Session {
        Session { client, nonce, since, last: 0, replies: VecDeque::new() }
    }

    pub fn turn(&self, number: u64) -> Turn<'_> {
        if number == self.last + 1 {
            return Turn::Next;
        }
        if number > self.last {
            return Turn::Early;
        }
        let back = (self.last - number) as usize;
        match self.replies.len().checked_sub(back + 1) {
            Some(at) => Turn::Again(&self.replies[at]),
            None => Turn::Settled,
        }
    }

    /// Records the reply to the next command and forgets those the mount has.
    pub fn record(&mut self, reply: Reply, acked: u64) {
        self.last += 1;
        self.replies.push_back(reply);
        let unacked = self.last.saturating_sub(acked) as usize;
        while self.replies.len() > unacked {
            self.replies.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session_after(n: u64, acked: u64) -> Session {
        let mut s = Session::new("here:/mnt".into(), 7, Stamp::default());
        for i in 1..=n {
            s.record(Reply::Done(Answer::Copied(i)), acked.min(i - 1));
        }
        s
    }

    #[test]
    fn a_command_sent_again_gets_the_first_reply() {
        let s = session_after(5, 2);
        assert_eq!(s.turn(6), Turn::Next);
        assert_eq!(s.turn(7), Turn::Early);
        assert_eq!(s.turn(5), Turn::Again(&Reply::Done(Answer::Copied(5))));
        assert_eq!(s.turn(3), Turn::Again(&Reply::Done(Answer::Copied(3))));
        assert_eq!(s.turn(2), Turn::Settled);
    }

    #[test]
    fn what_the_mount_has_is_forgotten() {
        let mut s = session_after(5, 0);
        assert_eq!(s.replies.len(), 5);
        s.record(Reply::NeedGroups, 5);
        assert_eq!(s.replies.len(), 1);
        assert_eq!(s.turn(6), Turn::Again(&Reply::NeedGroups));
    }
}
