//! What programs did and saw, with the moments at which each call began and ended: all that the checkers look at.

use super::data::WriteId;
use baton_core::meta::ops::RenameHow;
use baton_core::types::{Errno, Ino};

/// A name of the workload: few, so that programs collide.
pub(in crate::sim) type NameId = u8;

/// One call of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sim) enum Act {
    Create {
        dir: Ino,
        name: NameId,
        exclusive: bool,
    },
    Mkdir {
        dir: Ino,
        name: NameId,
    },
    Symlink {
        dir: Ino,
        name: NameId,
    },
    Link {
        ino: Ino,
        dir: Ino,
        name: NameId,
    },
    Unlink {
        dir: Ino,
        name: NameId,
    },
    Rmdir {
        dir: Ino,
        name: NameId,
    },
    Rename {
        dir: Ino,
        name: NameId,
        new_dir: Ino,
        new_name: NameId,
        how: RenameHow,
    },
    Lookup {
        dir: Ino,
        name: NameId,
    },
    List {
        dir: Ino,
    },
    Write {
        ino: Ino,
        at: Option<u64>,
        len: u64,
        id: WriteId,
    },
    Read {
        ino: Ino,
        offset: u64,
        len: u64,
    },
    Truncate {
        ino: Ino,
        size: u64,
    },
    Punch {
        ino: Ino,
        offset: u64,
        len: u64,
    },
    Allocate {
        ino: Ino,
        offset: u64,
        len: u64,
    },
    CopyWithin {
        ino: Ino,
        from: u64,
        to: u64,
        len: u64,
    },
    SetXattr {
        ino: Ino,
        id: WriteId,
    },
    GetXattr {
        ino: Ino,
    },
    Stat {
        ino: Ino,
    },
    Open {
        ino: Ino,
    },
    Release,
    /// One of the byte ranges of the root that programs lock.
    Lock {
        range: u8,
        exclusive: bool,
        wait: bool,
    },
    Unlock {
        range: u8,
    },
    /// The session ended, and with it the locks, or they were broken: when exactly, the programs do not know.
    LocksLost,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sim) enum Saw {
    /// It may have happened or not: the mount was fenced or died, or the call never ended.
    Nothing,
    Failed(Errno),
    Done,
    Object(Ino),
    Listing(Vec<(NameId, Ino)>),
    Written {
        offset: u64,
        size: u64,
        version: u64,
    },
    Bytes(Vec<u8>),
    Size(u64),
    Copied(u64),
    Xattr(Option<WriteId>),
}

#[derive(Clone, Debug)]
pub(in crate::sim) struct Record {
    /// Which process: unique over all lives of all mounts.
    pub(in crate::sim) client: u64,
    pub(in crate::sim) began: u64,
    /// `u64::MAX` where it never ended or its outcome is unknown.
    pub(in crate::sim) ended: u64,
    pub(in crate::sim) act: Act,
    pub(in crate::sim) saw: Saw,
}

impl Record {
    /// Whether it may take effect at any later time, or never.
    pub(in crate::sim) fn is_open(&self) -> bool {
        self.saw == Saw::Nothing
    }

    pub(in crate::sim) fn file(&self) -> Option<Ino> {
        match &self.act {
            Act::Write { ino, .. }
            | Act::Read { ino, .. }
            | Act::Truncate { ino, .. }
            | Act::Punch { ino, .. }
            | Act::Allocate { ino, .. }
            | Act::CopyWithin { ino, .. }
            | Act::Stat { ino } => Some(*ino),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
pub(in crate::sim) struct History {
    pub(in crate::sim) records: Vec<Record>,
    /// The file that is only ever appended to.
    pub(in crate::sim) log: Option<Ino>,
}

impl History {
    pub(super) fn begin(&mut self, client: u64, now: u64, act: Act) -> usize {
        self.records.push(Record { client, began: now, ended: u64::MAX, act, saw: Saw::Nothing });
        self.records.len() - 1
    }

    pub(super) fn end(&mut self, at: usize, now: u64, saw: Saw) {
        let record = &mut self.records[at];
        // What is answered from a cache takes some time, however short.
        record.ended = if saw == Saw::Nothing { u64::MAX } else { now.max(record.began + 1) };
        record.saw = saw;
    }
}
