//! How straight-line code waits: it stops, names what it needs, and runs again from its first line.

use super::CallId;
use super::call::Call;
use crate::meta::locks::{InTheWay, LockOwner};
use crate::meta::{Answer, Op, Query};
use crate::session::Reply;
use crate::types::{Cred, Errno, Ino, NodeId, SessionId, SliceId};
use bytes::Bytes;

/// A part of a slice that a read needs, and who keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePart {
    pub id: SliceId,
    pub at: u32,
    pub len: u32,
    pub nodes: Vec<NodeId>,
}

/// Why a slice could not be stored or had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SliceFault {
    /// No node that should have it does: it was replaced meanwhile.
    Missing,
    /// Every copy is damaged.
    Damaged,
    /// No room.
    Full,
    /// Nobody could be asked; later again.
    Unreachable,
}

/// What a call needs before it can go on.
#[derive(Clone, Debug)]
pub(super) enum Want {
    Ask(Query),
    Do(Op),
    Put(Bytes),
    Get(Vec<SlicePart>),
    /// To be given a lock that is waited for.
    Turn {
        ino: Ino,
        by: LockOwner,
        ticket: u64,
    },
}

/// What came.
#[derive(Clone, Debug)]
pub(super) enum Got {
    Reply(Reply),
    Stored {
        id: SliceId,
        nodes: Vec<NodeId>,
    },
    Parts(Vec<Bytes>),
    /// The program does not want to wait any longer.
    Interrupted,
}

/// Why the code stopped.
#[derive(Debug)]
pub(super) enum Halt {
    Errno(Errno),
    Want(Want),
    Restart,
}

impl From<Errno> for Halt {
    fn from(errno: Errno) -> Halt {
        Halt::Errno(errno)
    }
}

/// A call under way.
pub(super) struct Running {
    pub(super) cred: Cred,
    pub(super) call: Call,
    /// What came so far, in the order in which the code asks for it.
    pub(super) known: Vec<Got>,
    pub(super) want: Option<Want>,
    /// The slice being stored.
    pub(super) slice: Option<SliceId>,
    /// The slices of the layout by which it read when one was damaged.
    pub(super) damaged: Vec<SliceId>,
    /// Nobody could be asked, since when.
    pub(super) lost_at: Option<u64>,
    pub(super) restarts: u32,
    /// The last answer to a question of it was given under copies of all that it rests on.
    pub(super) under_copies: bool,
    /// Its answer waited until the kernel forgot where it had the directory before, or for long enough.
    pub(super) placed: bool,
    /// What kept the lock that it waits for from it when it was asked last, and since when the same did.
    pub(super) in_the_way: Option<(InTheWay, u64)>,
    pub(super) began: u64,
    /// When the log was told last that it waits.
    pub(super) told_at: Option<u64>,
    /// Its time is over.
    pub(super) gave_up: bool,
}

impl Running {
    pub(super) fn new(cred: Cred, call: Call, began: u64) -> Running {
        Running {
            cred,
            call,
            known: Vec::new(),
            want: None,
            slice: None,
            damaged: Vec::new(),
            lost_at: None,
            restarts: 0,
            under_copies: false,
            placed: false,
            in_the_way: None,
            began,
            told_at: None,
            gave_up: false,
        }
    }
}

/// One run of a call's code: hands it what is known, in order, and stops it where that ends.
pub(super) struct Flow<'k> {
    known: std::slice::Iter<'k, Got>,
    /// The session and the call, which name what is waited for.
    pub(super) session: SessionId,
    pub(super) call: CallId,
    /// How often the call began anew.
    pub(super) restarts: u32,
}

pub(super) type Step<T> = Result<T, Halt>;

impl<'k> Flow<'k> {
    pub(super) fn new(running: &'k Running, session: SessionId, call: CallId) -> Flow<'k> {
        Flow { known: running.known.iter(), session, call, restarts: running.restarts }
    }

    fn next(&mut self, want: impl FnOnce() -> Want) -> Step<&'k Got> {
        self.known.next().ok_or_else(|| Halt::Want(want()))
    }

    fn reply(&mut self, want: impl FnOnce() -> Want) -> Step<Answer> {
        match self.next(want)? {
            Got::Reply(Reply::Done(answer)) => Ok(answer.clone()),
            Got::Reply(Reply::Failed(errno)) => Err(Halt::Errno(*errno)),
            _ => Err(Halt::Errno(Errno::EIO)),
        }
    }

    /// The node's answer to a question.
    pub(super) fn ask(&mut self, query: impl Into<Query>) -> Step<Answer> {
        self.reply(|| Want::Ask(query.into()))
    }

    /// The outcome of a command, which is carried out once.
    pub(super) fn act(&mut self, op: impl Into<Op>) -> Step<Answer> {
        self.reply(|| Want::Do(op.into()))
    }

    /// Stores bytes as a slice.
    pub(super) fn put(&mut self, data: &Bytes) -> Step<(SliceId, Vec<NodeId>)> {
        match self.next(|| Want::Put(data.clone()))? {
            Got::Stored { id, nodes } => Ok((*id, nodes.clone())),
            _ => Err(Halt::Errno(Errno::EIO)),
        }
    }

    /// Waits for a lock: whether it came, or the program stopped waiting.
    pub(super) fn turn(&mut self, ino: Ino, by: LockOwner, ticket: u64) -> Step<bool> {
        match self.next(|| Want::Turn { ino, by, ticket })? {
            Got::Interrupted => Ok(false),
            // It was broken while it was waited for.
            Got::Reply(Reply::Failed(errno)) => Err(Halt::Errno(*errno)),
            _ => Ok(true),
        }
    }

    /// Parts of slices, all at once.
    pub(super) fn get(&mut self, parts: Vec<SlicePart>) -> Step<&'k [Bytes]> {
        if parts.is_empty() {
            return Ok(&[]);
        }
        match self.next(|| Want::Get(parts))? {
            Got::Parts(parts) => Ok(parts),
            _ => Err(Halt::Errno(Errno::EIO)),
        }
    }
}
