//! The operations: [`Op`] inside a command, [`Query`] inside a question.

use crate::bad::{BadMessage, Why};
use crate::field::{Message, at_least, at_most, choices, enums, messages, need};
use crate::types::{few_nodes, is_a_sessions};
use crate::v1::{self, command::Op as WireOp, question::Query as WireQuery};
use baton_core::limits::{INLINE_WRITE_MAX, LISTING_MAX, READ_MAX, SLICE_MAX, SYMLINK_MAX, XATTR_VALUE_MAX};
use baton_core::meta::locks::{FileLock, LockOwner};
use baton_core::meta::ops::*;
use baton_core::meta::{Op, Query};

choices! {
    Op = WireOp {
        SetAttr, Create, Mknod, Mkdir, Symlink, Link, Unlink, Rmdir, Rename, Write, Fallocate, CopyRange, SetXattr,
        RemoveXattr, Reap, PlaceSlice, Merge, Lock, Unlock, CancelLock, ForgetBroken, BreakLocks,
    }
    Query = WireQuery {
        Lookup, GetAttr, ReadLink, ReadDir, Open, Access, ReadLayout, Seek, GetXattr, ListXattr, GetStatFs, GetLock,
        AwaitsLock,
    }
}

enums! {
    RenameHow = v1::RenameHow { Replace, NoReplace, Exchange }
    FallocateHow = v1::FallocateHow { Allocate, PunchHole, ZeroRange }
    XattrHow = v1::XattrHow { Either, Create, Replace }
    SeekFor = v1::SeekFor { Data, Hole }
}

messages! {
    SetAttr = v1::SetAttr { ino, mode, uid, gid, size, atime, mtime, opened };
    Create = v1::Create { dir, name, mode, exclusive, truncate, read, write };
    Mknod = v1::Mknod { dir, name, kind, mode, rdev };
    Mkdir = v1::Mkdir { dir, name, mode };
    Symlink = v1::Symlink { dir, name, target } if symlink_points;
    Link = v1::Link { ino, dir, name };
    Unlink = v1::Unlink { dir, name };
    Rmdir = v1::Rmdir { dir, name };
    Rename = v1::Rename { dir, name, new_dir, new_name, how };
    Write = v1::Write { ino, at, data, kill_suid };
    SliceRef = v1::SliceRef { id, len, nodes } if slice_is_stored;
    Fallocate = v1::Fallocate { ino, offset, len, how, keep_size };
    CopyRange = v1::CopyRange { from, from_offset, to, to_offset, len };
    SetXattr = v1::SetXattr { ino, name, value, how } if value_fits;
    RemoveXattr = v1::RemoveXattr { ino, name };
    Reap = v1::Reap { ino };
    PlaceSlice = v1::PlaceSlice { id, nodes } if place_is_known;
    Merge = v1::Merge { ino, offset, slice, digest };
    Lock = v1::Lock { ino, owner, pid, start, end, exclusive, ticket };
    Unlock = v1::Unlock { ino, owner, start, end };
    CancelLock = v1::CancelLock { ino, owner, ticket };
    ForgetBroken = v1::ForgetBroken { ino };
    BreakLocks = v1::BreakLocks { ino, session, request };

    Lookup = v1::Lookup { dir, name };
    GetAttr = v1::GetAttr { ino };
    ReadLink = v1::ReadLink { ino };
    ReadDir = v1::ReadDir { ino, after, max, attrs } if listing_fits;
    Open = v1::Open { ino, read, write, exec };
    Access = v1::Access { ino, read, write, exec };
    ReadLayout = v1::ReadLayout { ino, offset, len } if read_fits;
    Seek = v1::Seek { ino, offset, what };
    GetXattr = v1::GetXattr { ino, name };
    ListXattr = v1::ListXattr { ino };
    GetStatFs = v1::GetStatFs {};
    GetLock = v1::GetLock { ino, by, start, end, exclusive };
    AwaitsLock = v1::AwaitsLock { ino, by, ticket };
    LockOwner = v1::LockOwner { session, owner };
    FileLock = v1::FileLock { by, pid, start, end, exclusive };
}

/// Only the cluster itself says these; nobody may send them.
pub(crate) fn is_clusters_own(op: &Op) -> bool {
    matches!(op, Op::Reap(_) | Op::PlaceSlice(_) | Op::Merge(_) | Op::BreakLocks(_))
}

pub(crate) fn is_target(target: &[u8], field: &str) -> Result<(), BadMessage> {
    at_least(target.len(), 1, field)?;
    at_most(target.len(), SYMLINK_MAX, field)?;
    if target.contains(&0) { Err(Why::ZeroByte.at(field)) } else { Ok(()) }
}

fn symlink_points(op: &Symlink) -> Result<(), BadMessage> {
    is_target(&op.target, "target")
}

fn slice_is_stored(slice: &SliceRef) -> Result<(), BadMessage> {
    at_least(slice.len as usize, 1, "len")?;
    at_most(slice.len as usize, SLICE_MAX, "len")?;
    at_least(slice.nodes.len(), 1, "nodes")?;
    few_nodes(&slice.nodes)
}

fn place_is_known(op: &PlaceSlice) -> Result<(), BadMessage> {
    few_nodes(&op.nodes)
}

fn value_fits(op: &SetXattr) -> Result<(), BadMessage> {
    at_most(op.value.len(), XATTR_VALUE_MAX, "value")
}

fn listing_fits(query: &ReadDir) -> Result<(), BadMessage> {
    at_most(query.max as usize, LISTING_MAX, "max")
}

fn read_fits(query: &ReadLayout) -> Result<(), BadMessage> {
    at_most(query.len as usize, READ_MAX as usize, "len")
}

impl Message for SetTime {
    type Wire = v1::SetTime;
}

impl From<SetTime> for v1::SetTime {
    fn from(time: SetTime) -> Self {
        use v1::set_time::Is;
        let is = match time {
            SetTime::Now => Is::Now(v1::Unit {}),
            SetTime::At(stamp) => Is::At(stamp.into()),
        };
        Self { is: Some(is) }
    }
}

impl TryFrom<v1::SetTime> for SetTime {
    type Error = BadMessage;
    fn try_from(time: v1::SetTime) -> Result<Self, BadMessage> {
        use v1::set_time::Is;
        match time.is.ok_or(Why::Missing.at(""))? {
            Is::Now(_) => Ok(SetTime::Now),
            Is::At(stamp) => Ok(SetTime::At(need(Some(stamp), "at")?)),
        }
    }
}

impl Message for WriteAt {
    type Wire = v1::write::At;
}

impl From<WriteAt> for v1::write::At {
    fn from(at: WriteAt) -> Self {
        match at {
            WriteAt::Offset(offset) => Self::Offset(offset),
            WriteAt::End => Self::End(v1::Unit {}),
        }
    }
}

impl TryFrom<v1::write::At> for WriteAt {
    type Error = BadMessage;
    fn try_from(at: v1::write::At) -> Result<Self, BadMessage> {
        Ok(match at {
            v1::write::At::Offset(offset) => WriteAt::Offset(offset),
            v1::write::At::End(_) => WriteAt::End,
        })
    }
}

impl Message for WriteData {
    type Wire = v1::write::Data;
}

impl From<WriteData> for v1::write::Data {
    fn from(data: WriteData) -> Self {
        match data {
            WriteData::Inline(bytes) => Self::Inline(bytes),
            WriteData::Slice(slice) => Self::Slice(slice.into()),
        }
    }
}

impl TryFrom<v1::write::Data> for WriteData {
    type Error = BadMessage;
    fn try_from(data: v1::write::Data) -> Result<Self, BadMessage> {
        match data {
            v1::write::Data::Inline(bytes) => {
                at_most(bytes.len(), INLINE_WRITE_MAX, "inline")?;
                Ok(WriteData::Inline(bytes))
            }
            v1::write::Data::Slice(slice) => {
                let slice: SliceRef = need(Some(slice), "slice")?;
                is_a_sessions(&slice.id, "slice.id.session")?;
                Ok(WriteData::Slice(slice))
            }
        }
    }
}

impl Message for LookupName {
    type Wire = v1::lookup::Name;
}

impl From<LookupName> for v1::lookup::Name {
    fn from(name: LookupName) -> Self {
        match name {
            LookupName::Dot => Self::Dot(v1::Unit {}),
            LookupName::DotDot => Self::DotDot(v1::Unit {}),
            LookupName::Name(name) => Self::Entry(crate::field::Field::into_wire(name)),
        }
    }
}

impl TryFrom<v1::lookup::Name> for LookupName {
    type Error = BadMessage;
    fn try_from(name: v1::lookup::Name) -> Result<Self, BadMessage> {
        match name {
            v1::lookup::Name::Dot(_) => Ok(LookupName::Dot),
            v1::lookup::Name::DotDot(_) => Ok(LookupName::DotDot),
            v1::lookup::Name::Entry(name) => Ok(LookupName::Name(need(name, "entry")?)),
        }
    }
}
