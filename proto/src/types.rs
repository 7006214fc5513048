//! Ids, names, times, attributes, callers, errors.

use crate::bad::{BadMessage, Why};
use crate::field::{Field, Message, at_most, enums, messages};
use crate::{SLICE_NODES_MAX, v1};
use baton_core::limits::GROUPS_MAX;
use baton_core::types::{
    Attr, ClusterId, Cookie, Cred, Errno, Ino, Kind, Name, NodeId, SessionId, SliceId, Stamp, Version, XattrName,
};
use bytes::Bytes;

/// Ids: zero names nothing.
macro_rules! ids {
    ($($id:ident),*) => {$(
        impl Field<u64> for $id {
            fn into_wire(self) -> u64 {
                self.0
            }
            fn from_wire(id: u64) -> Result<$id, BadMessage> {
                if id == 0 { Err(Why::Zero.at("")) } else { Ok($id(id)) }
            }
        }
        impl Field<Option<u64>> for Option<$id> {
            fn into_wire(self) -> Option<u64> {
                self.map(|id| id.0)
            }
            fn from_wire(id: Option<u64>) -> Result<Option<$id>, BadMessage> {
                id.map(Field::from_wire).transpose()
            }
        }
        impl Field<Vec<u64>> for Vec<$id> {
            fn into_wire(self) -> Vec<u64> {
                self.into_iter().map(|id| id.0).collect()
            }
            fn from_wire(ids: Vec<u64>) -> Result<Vec<$id>, BadMessage> {
                ids.into_iter().map(Field::from_wire).collect()
            }
        }
    )*};
}
ids!(NodeId, Ino, SessionId, ClusterId);

/// Counters: any value is one.
macro_rules! counters {
    ($($name:ident),*) => {$(
        impl Field<u64> for $name {
            fn into_wire(self) -> u64 {
                self.0
            }
            fn from_wire(count: u64) -> Result<$name, BadMessage> {
                Ok($name(count))
            }
        }
    )*};
}
counters!(Version, Cookie);

macro_rules! names {
    ($($name:ident),*) => {$(
        impl Field<Bytes> for $name {
            fn into_wire(self) -> Bytes {
                Bytes::copy_from_slice(self.as_bytes())
            }
            fn from_wire(name: Bytes) -> Result<$name, BadMessage> {
                $name::new(&name).map_err(|bad| Why::Name(bad).at(""))
            }
        }
    )*};
}
names!(Name, XattrName);

const MODE_MAX: u16 = 0o7777;

/// The only 16-bit field there is: permission bits.
impl Field<u32> for u16 {
    fn into_wire(self) -> u32 {
        self.into()
    }
    fn from_wire(mode: u32) -> Result<u16, BadMessage> {
        match u16::try_from(mode) {
            Ok(mode) if mode <= MODE_MAX => Ok(mode),
            _ => Err(Why::TooMuch { got: mode.into(), max: MODE_MAX.into() }.at("")),
        }
    }
}

impl Field<Option<u32>> for Option<u16> {
    fn into_wire(self) -> Option<u32> {
        self.map(Field::into_wire)
    }
    fn from_wire(mode: Option<u32>) -> Result<Option<u16>, BadMessage> {
        mode.map(Field::from_wire).transpose()
    }
}

impl Field<i32> for Errno {
    fn into_wire(self) -> i32 {
        self.code()
    }
    fn from_wire(code: i32) -> Result<Errno, BadMessage> {
        Errno::from_code(code).ok_or(Why::Unknown(code).at(""))
    }
}

enums! {
    Kind = v1::Kind { File, Directory, Symlink, Fifo, Socket, CharDevice, BlockDevice }
}

messages! {
    Stamp = v1::Stamp { secs, nanos } if whole_nanos;
    Cred = v1::Cred { uid, gid, groups };
    Attr = v1::Attr {
        ino, kind, mode, nlink, uid, gid, rdev, size, allocated, atime, mtime, ctime, btime, version, content
    };
}

impl From<SliceId> for v1::SliceId {
    fn from(id: SliceId) -> v1::SliceId {
        v1::SliceId { session: id.session.0, number: id.number }
    }
}

/// What the cluster merged belongs to no session.
impl TryFrom<v1::SliceId> for SliceId {
    type Error = BadMessage;

    fn try_from(v1::SliceId { session, number }: v1::SliceId) -> Result<SliceId, BadMessage> {
        Ok(SliceId { session: SessionId(session), number })
    }
}

impl Message for SliceId {
    type Wire = v1::SliceId;
}

/// What a mount may name as its own.
pub(crate) fn is_a_sessions(id: &SliceId, field: &str) -> Result<(), BadMessage> {
    if id.session == SessionId::CLUSTER { Err(Why::Zero.at(field)) } else { Ok(()) }
}

fn whole_nanos(stamp: &Stamp) -> Result<(), BadMessage> {
    at_most(stamp.nanos as usize, 999_999_999, "nanos")
}

/// A caller's supplementary groups.
impl Field<Option<v1::Groups>> for Option<Vec<u32>> {
    fn into_wire(self) -> Option<v1::Groups> {
        self.map(|ids| v1::Groups { ids })
    }
    fn from_wire(groups: Option<v1::Groups>) -> Result<Self, BadMessage> {
        let ids = groups.map(|groups| groups.ids);
        at_most(ids.as_ref().map_or(0, Vec::len), GROUPS_MAX, "")?;
        Ok(ids)
    }
}

pub(crate) fn few_nodes(nodes: &[NodeId]) -> Result<(), BadMessage> {
    at_most(nodes.len(), SLICE_NODES_MAX, "nodes")
}
