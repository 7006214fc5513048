//! Why the log or the state could not do what it was asked for.

use baton_core::meta::CodecError;
use baton_core::node::Unspoken;
use std::{
    io,
    path::{Path, PathBuf},
};

pub(super) fn no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error(
        "cannot {what} {path}: {source}. Check the disk, its free space and the file's permissions, then start the node again"
    )]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "cannot {what} {path}: it is damaged ({why}). Nothing is lost while the other nodes live: stop this node, move its \
         data folder away and start it with an empty one; it fetches everything from the others"
    )]
    Damaged { what: &'static str, path: PathBuf, why: String },
    #[error("cannot open {path}: it has format {found} and this version of baton reads {known}. Install a newer baton")]
    Newer { path: PathBuf, found: u64, known: u64 },
    #[error(
        "cannot open {path}: it has format {found} and this version of baton reads none before {known}. Install the baton that \
         wrote it; or, while the other nodes live, move the data folder away and start with an empty one"
    )]
    Older { path: PathBuf, found: u64, known: u64 },
    #[error("cannot read {path}: it holds {why}. A later baton wrote it: install that again. Nothing was touched")]
    Later { path: PathBuf, why: CodecError },
    #[error("cannot use {path}: {why}")]
    Unspoken { path: PathBuf, why: Unspoken },
    #[error("cannot open {path}: another process uses it. Stop that one first")]
    InUse { path: PathBuf },
    #[error(
        "refused a snapshot for {path}: {why}. The state that was there stays; fetch the snapshot again, from another node"
    )]
    BadSnapshot { path: PathBuf, why: String },
    #[error("refused to {what} {path}: {why}. This is a mistake in baton, not in the disk; nothing was written")]
    Refused { what: &'static str, path: PathBuf, why: String },
    #[error(
        "cannot {what} {path}: an earlier write to it failed, and what is on the disk is not known. Start the node again"
    )]
    Failed { what: &'static str, path: PathBuf },
}

impl StorageError {
    /// For `map_err` on plain file operations.
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
        let path = path.to_owned();
        move |source| StorageError::Io { what, path, source }
    }

    pub(super) fn damaged(what: &'static str, path: &Path, why: impl ToString) -> StorageError {
        StorageError::Damaged { what, path: path.to_owned(), why: why.to_string() }
    }

    /// Whether there was no room.
    pub fn is_full(&self) -> bool {
        matches!(self, StorageError::Io { source, .. } if no_room(source))
    }

    /// Whether nothing is wrong but the build that reads it.
    pub fn is_for_another_build(&self) -> bool {
        use StorageError::{Later, Newer, Older, Unspoken};
        matches!(self, Newer { .. } | Older { .. } | Later { .. } | Unspoken { .. })
    }

    /// Whether the node must be rebuilt from its peers.
    pub fn is_damage(&self) -> bool {
        matches!(self, StorageError::Damaged { .. })
    }
}
