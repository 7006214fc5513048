//! What programs ask of a mount, and what they get.

use crate::meta::ops::{Create, WriteAt};
use crate::meta::{Answer, Op, Query};
use crate::types::{Attr, Ino};
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
    },
    /// Any length: it is cut into commands and slices here.
    Write {
        ino: Ino,
        at: WriteAt,
        data: Bytes,
        kill_suid: bool,
    },
    /// Everything written before is durable when this is answered.
    Sync {
        ino: Ino,
    },
    Release(Handle),
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
