//! What a mount and its node say to each other: one ordered stream in each direction. Bulk data has connections of its own.

use super::{Command, Reply};
use crate::meta::Query;
use crate::types::{Cred, Ino, NodeId, SessionId};
use serde::{Deserialize, Serialize};

/// From a mount to the node it is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToNode {
    /// The first message on a connection: who it is, and the session it already has. The nonce is drawn by the mount, so
    /// that it knows the answer to its own greeting.
    Hello { session: Option<SessionId>, client: String, nonce: u64 },
    /// Commands in the order of their numbers.
    Commands(Vec<Command>),
    /// A question; the answer carries the same id.
    Ask { id: u64, cred: Cred, query: Query },
    /// The mount lives.
    Alive,
    /// Of the orphans that were asked about, those that the mount has open.
    Holds { round: u64, inos: Vec<Ino> },
    /// The session is over: nothing of it is open, nothing unanswered.
    Goodbye,
}

/// From a node to a mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToMount {
    /// The session is known; `last` is the last command carried out.
    Welcome {
        session: SessionId,
        last: u64,
        node: NodeId,
    },
    /// The session is over and its commands are refused: start a new one.
    Gone,
    Replies(Vec<(u64, Reply)>),
    Answer {
        id: u64,
        reply: Reply,
    },
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
}
