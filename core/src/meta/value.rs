//! What the state consists of: a sorted map from [`Key`] to [`Value`].

use super::locks::FileLocks;
use crate::session::Session;
use crate::types::{
    Attr, ClusterId, Cookie, Ino, Kind, Members, Name, NodeId, Owner, SessionId, SliceId, Stamp, Version, XattrName,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Where a value lives. The derived order is the order on disk: all of a directory's entries lie together, all of a file's
/// extents lie together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    Volume,
    Inode(Ino),
    /// A directory's entry by name.
    Entry(Ino, Name),
    /// The same entry by its place in the listing.
    Listing(Ino, Cookie),
    /// A file's extent, by the offset just **past its end**: so the first key above an offset is the extent that covers it
    /// or the next one, and one forward scan finds whatever a range touches.
    Extent(Ino, u64),
    Xattr(Ino, XattrName),
    /// An inode without links that some mount may still have open.
    Orphan(Ino),
    Slice(SliceId),
    Session(SessionId),
    /// The locks on an object.
    Locks(Ino),
    /// A session holds or awaits locks on an object, or had them broken.
    LockUse(SessionId, Ino),
    /// The cluster's nodes.
    Members,
    /// The version in force: by which entries are written and carried out.
    Version,
}

impl Key {
    /// What there is of objects and sessions lies before it; it and what lies behind it is of the cluster itself.
    pub const LAST: Key = Key::Members;
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    Volume(Volume),
    Inode(Inode),
    Entry(Entry),
    /// The name that stands at this place of the listing.
    Listing(Name),
    Extent(Extent),
    Xattr(Bytes),
    Orphan,
    Slice(SliceInfo),
    Session(Session),
    Locks(FileLocks),
    LockUse,
    /// In the place of `LockUse`: the session's locks were broken, and it may not change the object's bytes.
    LocksBroken,
    Members(Members),
    Version(u32),
}

/// What there is one of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub cluster: ClusterId,
    pub next_ino: Ino,
    pub next_session: SessionId,
    /// Inodes there are, orphans included.
    pub inodes: u64,
    /// Bytes that extents cover: what the files take, before copies.
    pub allocated: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inode {
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky: the low twelve.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub rdev: u32,
    /// A file's length, a symbolic link's length; of a directory the number of its entries.
    pub size: u64,
    /// Bytes that this file's extents cover.
    pub allocated: u64,
    pub atime: Stamp,
    pub mtime: Stamp,
    pub ctime: Stamp,
    pub btime: Stamp,
    pub version: Version,
    pub content: Version,
    /// Of a directory: where it hangs (the root hangs in itself). Else the root, unused.
    pub parent: Ino,
    /// Of a directory: the next entry's place in the listing.
    pub next_cookie: Cookie,
    /// Of a symbolic link: where it points. Else empty.
    pub target: Bytes,
    /// Bytes that the names of its extended attributes take in a list, each with its zero byte.
    pub xattr_names: u32,
}

impl Inode {
    pub fn attr(&self, ino: Ino) -> Attr {
        Attr {
            ino,
            kind: self.kind,
            mode: self.mode,
            nlink: self.nlink,
            uid: self.uid,
            gid: self.gid,
            rdev: self.rdev,
            size: self.size,
            allocated: self.allocated,
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            btime: self.btime,
            version: self.version,
            content: self.content,
        }
    }
}

/// What happened to an object, on its clocks. The moment of a command never goes back (the state machine sees to it), so
/// these never do; only `utimens` sets an earlier mtime. Reading leaves atime alone: it is set when the object is made and
/// by `utimens`.
impl Inode {
    /// The object changed, its content did not.
    pub(super) fn changed(&mut self, now: Stamp) {
        self.ctime = self.ctime.max(now);
    }

    /// Its content changed: a file's bytes, a directory's entries.
    pub(super) fn modified(&mut self, now: Stamp) {
        self.mtime = now;
        self.content = self.content.next();
        self.changed(now);
    }
}

pub(super) const S_ISUID: u16 = 0o4000;
pub(super) const S_ISGID: u16 = 0o2000;
pub(super) const S_ISVTX: u16 = 0o1000;
pub(super) const S_IXGRP: u16 = 0o010;
/// Permission bits with setuid, setgid and sticky.
pub(super) const MODE_BITS: u16 = 0o7777;

/// What a name in a directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub ino: Ino,
    pub kind: Kind,
    pub cookie: Cookie,
}

/// A piece of a file that is not a hole. Its end is its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    pub start: u64,
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// The bytes themselves: short data that travelled inside a command.
    Inline(Bytes),
    /// Bytes of a slice, from `at` on.
    Slice { id: SliceId, at: u32 },
    /// Allocated and never written: zeros.
    Zero,
}

/// A slice that some extent refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceInfo {
    pub len: u32,
    /// Who keeps a copy; the first is the one that received it.
    pub nodes: Vec<NodeId>,
    /// Extents that name it.
    pub refs: u32,
}

pub(super) fn first_changes(now: Stamp, owner: Owner) -> Vec<(Key, Option<Value>)> {
    let root = Inode {
        kind: Kind::Directory,
        mode: 0o755,
        uid: owner.uid,
        gid: owner.gid,
        nlink: 2,
        rdev: 0,
        size: 0,
        allocated: 0,
        atime: now,
        mtime: now,
        ctime: now,
        btime: now,
        version: Version(1),
        content: Version(1),
        parent: Ino::ROOT,
        next_cookie: Cookie::FIRST,
        target: Bytes::new(),
        xattr_names: 0,
    };
    let volume = Volume {
        cluster: ClusterId(0),
        next_ino: Ino(Ino::ROOT.0 + 1),
        next_session: SessionId(1),
        inodes: 1,
        allocated: 0,
    };
    vec![(Key::Volume, Some(Value::Volume(volume))), (Key::Inode(Ino::ROOT), Some(Value::Inode(root)))]
}
