//! What programs ask of a mount, and what they get.

use super::CallId;
use crate::meta::ops::{CancelLock, Create, Fallocate, WriteAt};
use crate::meta::{Answer, Op, Query};
use crate::types::{Attr, Ino, Object};
use bytes::Bytes;

/// An open file of this mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// A question that the node answers as it stands: anything but `Open` and `ReadLayout`.
    Ask(Query),
    /// A change that the node makes as it stands: anything but `Create` and `Write`.
    Do(Op),
    Open {
        ino: Ino,
        read: bool,
        write: bool,
        exec: bool,
    },
    Create(Create),
    Read {
        ino: Ino,
        offset: u64,
        len: u32,
        /// The kernel asks for it for its page cache: a cached file's `read`, `splice`, `sendfile`, a mapping.
        pages: bool,
    },
    /// Any length: it is cut into commands and slices here.
    Write {
        ino: Ino,
        at: WriteAt,
        data: Bytes,
        kill_suid: bool,
        /// The kernel writes pages that a program changed in a mapping.
        mapped: bool,
    },
    /// Everything written before is durable when this is answered.
    Sync {
        ino: Ino,
    },
    Release(Handle),
    /// Locks a range, and waits for it if it is told to.
    Lock {
        ino: Ino,
        /// Through which open file, if that is known.
        handle: Option<Handle>,
        owner: u64,
        pid: u32,
        start: u64,
        end: u64,
        exclusive: bool,
        wait: bool,
    },
    /// Gives back what the owner holds of a range.
    Unlock {
        ino: Ino,
        owner: u64,
        start: u64,
        end: u64,
    },
    /// What is in the way of a lock.
    GetLock {
        ino: Ino,
        owner: u64,
        start: u64,
        end: u64,
        exclusive: bool,
    },
}

impl Call {
    /// The word for it in logs.
    pub fn name(&self) -> &'static str {
        match self {
            Call::Ask(query) => query.name(),
            Call::Do(op) => op.name(),
            Call::Open { .. } => "Open",
            Call::Create(_) => "Create",
            Call::Read { .. } => "Read",
            Call::Write { .. } => "Write",
            Call::Sync { .. } => "Sync",
            Call::Release(_) => "Release",
            Call::Lock { .. } => "Lock",
            Call::Unlock { .. } => "Unlock",
            Call::GetLock { .. } => "GetLock",
        }
    }

    /// The object that it is about, as far as one is named.
    pub(super) fn about(&self) -> Option<Ino> {
        match self {
            Call::Open { ino, .. } | Call::Read { ino, .. } | Call::Write { ino, .. } | Call::Sync { ino } => {
                Some(*ino)
            }
            Call::Lock { ino, .. } | Call::Unlock { ino, .. } | Call::GetLock { ino, .. } => Some(*ino),
            Call::Create(create) => Some(create.dir),
            Call::Do(op) => op.names().first().map(|(dir, _)| *dir).or_else(|| self.relies_on_locks()),
            Call::Ask(query) => query.about().map(|object| match object {
                Object::Whole(ino) | Object::Rights(ino) | Object::Entry(ino, _) => ino,
            }),
            Call::Release(_) => None,
        }
    }

    /// What takes its place in a lock's queue back: the call's own number is the ticket.
    pub(super) fn place_in_queue(&self, id: CallId) -> Option<CancelLock> {
        match self {
            Call::Lock { ino, owner, wait: true, .. } => Some(CancelLock { ino: *ino, owner: *owner, ticket: id.0 }),
            _ => None,
        }
    }

    /// Whether the kernel has this directory locked while the call lasts.
    pub(super) fn is_in(&self, dir: Ino) -> bool {
        match self {
            Call::Create(create) => create.dir == dir,
            Call::Do(op) => op.names().iter().any(|(d, _)| *d == dir),
            Call::Ask(Query::Lookup(lookup)) => lookup.dir == dir,
            Call::Ask(Query::ReadDir(list)) => list.ino == dir,
            _ => false,
        }
    }

    /// Whether it may wait for other programs, for as long as they like.
    pub fn waits_for_others(&self) -> bool {
        matches!(self, Call::Lock { wait: true, .. })
    }

    /// The object whose bytes it changes or locks.
    pub(super) fn relies_on_locks(&self) -> Option<Ino> {
        match self {
            Call::Write { ino, .. } | Call::Lock { ino, .. } | Call::Do(Op::Fallocate(Fallocate { ino, .. })) => {
                Some(*ino)
            }
            Call::Do(Op::CopyRange(copy)) => Some(copy.to),
            Call::Do(Op::SetAttr(set)) if set.size.is_some() => Some(set.ino),
            _ => None,
        }
    }

    /// Whether it ends with an open handle.
    pub fn opens(&self) -> bool {
        matches!(self, Call::Open { .. } | Call::Create(_))
    }
}

/// The good answer to a [`Call`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    Answer(Answer),
    Opened {
        handle: Handle,
        attr: Attr,
    },
    /// The bytes that were there, in pieces that follow each other.
    Data(Vec<Bytes>),
    Written {
        offset: u64,
        len: u64,
        attr: Attr,
    },
    Nothing,
}
