//! What a mount and its node say to each other: one ordered stream in each direction. Bulk data has connections of its own.

use super::{Command, Reply};
use crate::meta::{Fact, Query};
use crate::types::{Cred, Ino, NodeId, Object, SessionId};
use serde::{Deserialize, Serialize};

/// From a mount to the node it is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToNode {
    /// The first message on a connection: who it is, and the session it already has. The nonce is drawn by the mount, so
    /// that it knows the answer to its own greeting. `link`: which of its connections this is; only the newest one counts.
    Hello { session: Option<SessionId>, client: String, nonce: u64, link: u64 },
    /// Commands in the order of their numbers.
    Commands(Vec<Command>),
    /// A question; the answer carries the same id. With `keep` the mount would like copies of what the answer rests on.
    Ask { id: u64, cred: Cred, query: Query, keep: bool },
    /// How long may copies be used? `sent` is the mount's clock and comes back with the answer.
    Renew { sent: u64 },
    /// The mount has no use for these copies any more; the kernel knows nothing of them.
    GaveBack(Vec<Object>),
    /// These copies were asked back: they are gone, from the kernel too.
    Returned(Vec<Object>),
    /// The mount has no copies: its time with them was over, or it is new.
    Empty,
    /// The mount lives.
    Alive,
    /// Of the orphans that were asked about, those that the mount has open.
    Holds { round: u64, inos: Vec<Ino> },
    /// The session is over: nothing of it is open, nothing unanswered.
    Goodbye,
}

impl ToNode {
    /// The word for it in figures.
    pub fn name(&self) -> &'static str {
        match self {
            ToNode::Hello { .. } => "hello",
            ToNode::Commands(_) => "commands",
            ToNode::Ask { .. } => "ask",
            ToNode::Renew { .. } => "renew",
            ToNode::GaveBack(_) => "gave_back",
            ToNode::Returned(_) => "returned",
            ToNode::Empty => "empty",
            ToNode::Alive => "alive",
            ToNode::Holds { .. } => "holds",
            ToNode::Goodbye => "goodbye",
        }
    }
}

impl ToMount {
    /// The word for it in figures.
    pub fn name(&self) -> &'static str {
        match self {
            ToMount::Welcome { .. } => "welcome",
            ToMount::Gone { .. } => "gone",
            ToMount::Replies(_) => "replies",
            ToMount::Answer { .. } => "answer",
            ToMount::Lease { .. } => "lease",
            ToMount::Recall(_) => "recall",
            ToMount::Again => "again",
            ToMount::WhoHolds { .. } => "who_holds",
            ToMount::LocksMoved { .. } => "locks_moved",
            ToMount::LocksBroken { .. } => "locks_broken",
        }
    }
}

/// From a node to a mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToMount {
    /// The session is known, and was opened for the greeting with this nonce; `last` is the last command carried out.
    Welcome {
        session: SessionId,
        nonce: u64,
        last: u64,
        node: NodeId,
    },
    /// The session is over and its commands are refused: start a new one.
    Gone {
        session: SessionId,
    },
    Replies(Vec<(u64, Reply)>),
    /// The mount has copies of all objects named in `facts` from here on, while its lease lasts.
    Answer {
        id: u64,
        reply: Reply,
        facts: Vec<Fact>,
    },
    /// Copies may be used for so many microseconds from when the mount's clock said `sent`.
    Lease {
        sent: u64,
        lasts: u64,
    },
    /// Somebody is about to change these: drop the copies, in the kernel too, and say [`ToNode::Returned`].
    Recall(Vec<Object>),
    /// Something got lost on the way to the leader: send all unanswered commands and questions again.
    Again,
    /// Which of these orphans do you have open?
    WhoHolds {
        round: u64,
        inos: Vec<Ino>,
    },
    /// A lock on this object that was waited for may have been given out: ask.
    LocksMoved {
        ino: Ino,
    },
    /// The session's locks on this object were taken away, and what it does to the object's bytes is refused until the mount
    /// sends [`ForgetBroken`](crate::meta::ops::ForgetBroken). Said once to every stream, so it may come again.
    LocksBroken {
        ino: Ino,
    },
}
