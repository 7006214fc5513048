//! What operations answer.

use super::Inode;
use super::locks::{FileLock, InTheWay};
use crate::types::{Attr, Cookie, Ino, Kind, Name, NodeId, SliceId, Version};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Done,
    /// The object's attributes, after the operation: lookup, getattr, setattr, open and everything that makes an object.
    Attr(Attr),
    Target(Bytes),
    Listing {
        entries: Vec<DirEntry>,
        end: bool,
    },
    Layout(Layout),
    /// Where the written bytes begin, and the file after it.
    Written {
        offset: u64,
        attr: Attr,
    },
    /// Bytes copied.
    Copied(u64),
    /// The offset that SEEK_HOLE or SEEK_DATA found.
    Offset(u64),
    Xattr(Bytes),
    /// Names of extended attributes, each with its zero byte, one after the other.
    XattrNames(Bytes),
    StatFs(StatFs),
    /// The lock is not held yet, or not any more: it is waited for.
    Queued,
    /// The lock that is in the way.
    LockedBy(Option<FileLock>),
    /// The locks that were broken.
    Broken(Vec<FileLock>),
    /// The lock is still waited for, and this is in its way.
    Behind(InTheWay),
}

/// An entry of a listing; `.` and `..` are the reader's own business.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirEntry {
    pub cookie: Cookie,
    pub name: Name,
    pub ino: Ino,
    pub kind: Kind,
    /// Where the listing was asked for with attributes.
    pub attr: Option<Attr>,
}

/// Where the bytes of a range are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The file's length.
    pub size: u64,
    /// Of its bytes: another whenever they are others.
    pub content: Version,
    /// In order, without gaps, from the offset asked for to the end of the range or of the file; or as far as one answer goes.
    pub pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    pub len: u64,
    pub source: PieceSource,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PieceSource {
    Zeros,
    Inline(Bytes),
    Slice { id: SliceId, at: u32, nodes: Vec<NodeId> },
}

/// What the state knows of the room; the disks' own figures are the node's to add.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatFs {
    pub inodes: u64,
    pub allocated: u64,
    /// Bytes on disk and free, as the node with the least of them has it; zero where nobody said.
    pub total: u64,
    pub free: u64,
}

impl Answer {
    pub fn attr_of(ino: Ino, inode: &Inode) -> Answer {
        Answer::Attr(inode.attr(ino))
    }
}
