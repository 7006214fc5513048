//! Every operation by name: [`Op`] changes the state and travels in a command, [`Query`] only reads.

use super::ops::*;
use super::{Answer, Run, Store, Txn};
use crate::limits::COPY_MAX;
use crate::types::Cred;
use serde::{Deserialize, Serialize};

/// One operation: what to do, over any store.
pub trait Step {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer>;
}

macro_rules! operations {
    ($(#[$doc:meta])* $all:ident { $($name:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $all { $($name($name)),* }

        impl $all {
            /// The word for it in logs and metrics.
            pub fn name(&self) -> &'static str {
                match self { $($all::$name(_) => stringify!($name)),* }
            }
        }

        impl Step for $all {
            fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
                match self { $($all::$name(op) => op.run(txn, cred)),* }
            }
        }

        $(impl From<$name> for $all {
            fn from(op: $name) -> $all { $all::$name(op) }
        })*
    };
}

operations! {
    /// What changes the state.
    Op {
        SetAttr, Create, Mknod, Mkdir, Symlink, Link, Unlink, Rmdir, Rename, Write, Fallocate, CopyRange, SetXattr,
        RemoveXattr, Reap, PlaceSlice, Merge, Lock, Unlock, CancelLock, ForgetBroken, BreakLocks,
    }
}

operations! {
    /// What only reads.
    Query {
        Lookup, GetAttr, ReadLink, ReadDir, Open, Access, ReadLayout, Seek, GetXattr, ListXattr, GetStatFs, GetLock,
        AwaitsLock,
    }
}

impl Op {
    /// About what it is to carry: the bytes it brings along, or has copied.
    pub fn weight(&self) -> usize {
        let bytes = match self {
            Op::Write(write) => match &write.data {
                WriteData::Inline(bytes) => bytes.len(),
                WriteData::Slice(_) => 0,
            },
            Op::SetXattr(set) => set.value.len(),
            Op::Symlink(symlink) => symlink.target.len(),
            Op::CopyRange(copy) => copy.len.min(COPY_MAX) as usize,
            _ => 0,
        };
        bytes + 128
    }

    /// Whether it makes the file system larger: what is refused first when a disk is full. Renaming, deleting and changing
    /// attributes stay possible.
    pub fn grows(&self) -> bool {
        matches!(
            self,
            Op::Create(_)
                | Op::Mknod(_)
                | Op::Mkdir(_)
                | Op::Symlink(_)
                | Op::Link(_)
                | Op::Write(_)
                | Op::Fallocate(_)
                | Op::CopyRange(_)
                | Op::SetXattr(_)
        )
    }
}
