//! # The namespace: one implementation of POSIX, run wherever the state is
//!
//! An operation is straight-line code over a [`Store`]. A node's store is its database and always has the answer; a mount's
//! store holds only what the mount knows, and answers the rest with a [`Fault`] that names what is missing. The operation is
//! then dropped, the missing piece fetched, and it starts again from its first line. So nobody writes a state machine by
//! hand, and a mount and a node cannot disagree on what an operation means.
//!
//! ```text
//!   Op / Query  --run-->  Txn (what this operation changed)  --reads-->  Store (what was there)
//!                           |
//!                           +--> changes: Key -> new Value or nothing
//! ```
//!
//! Invariants, which [`check`] verifies over a whole store:
//! * an inode's `nlink` is the number of entries that name it (a directory: 2 and one for each directory in it);
//! * `Entry` and `Listing` are two views of one fact and change together;
//! * extents of a file do not overlap, none is empty, inline ones do not cross an `INLINE_PIECE`, and beyond the file's
//!   length there are only allocated zeros;
//! * an inode's `allocated` is what its extents cover, the volume's is what all inodes' are;
//! * a slice's `refs` is the number of extents that name it; at none it is gone;
//! * an inode without links is listed as an orphan, and nothing else is.

mod access;
mod answer;
pub mod check;
mod codec;
mod content;
mod digest;
mod gather;
pub mod locks;
mod namespace;
mod op;
pub mod ops;
mod privileges;
mod records;
mod store;
mod touched;
mod txn;
mod value;
mod xattr;

#[cfg(test)]
pub(crate) mod testing;

pub use answer::{Answer, DirEntry, Layout, Piece, PieceSource, StatFs};
pub use codec::{CodecError, decode_key, decode_value, encode_key, encode_value};
pub use gather::{Gather, Gathered, Place, Run as InlineRun, RunSizes};
pub use op::{Op, Query, Step};
pub use records::{Fact, Record, Recording};
pub use store::{Fault, Memory, Run, Stop, Store};
pub use touched::{changed, object_of};
pub use txn::Txn;
pub(crate) use txn::overlay;
pub use value::{Content, Entry, Extent, Inode, Key, SliceInfo, Value, Volume};

use crate::types::{Owner, Stamp};

/// The changes that make an empty store a file system: the volume's counters, and the root directory with its owner.
pub fn format(now: Stamp, owner: Owner) -> Vec<(Key, Option<Value>)> {
    value::first_changes(now, owner)
}
