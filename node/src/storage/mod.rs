//! # What a node keeps on its disk
//!
//! ```text
//!   DIR/baton.toml     whose folder this is, and the lock that keeps a second daemon out     folder
//!   DIR/log/           the Raft log: the only thing that makes a command durable             raft_log
//!   DIR/state.redb     the namespace as of some applied index; may lag behind the log        state
//!   DIR/slices/        file data, immutable, checksummed                                     slices
//! ```
//!
//! Everything here is synchronous and called from plain threads; nothing here decides anything. What the stores promise:
//! * what `append` with `sync`, `checkpoint` and `put` returned for survives a power cut;
//! * a power cut leaves the state at its last checkpoint, from where the log is applied again: so the log is never compacted
//!   past the last checkpoint;
//! * bytes that the disk changed are never answered: they are an error that names what is damaged. A node whose log or state
//!   is damaged is rebuilt from the others, a damaged slice is replaced from its replicas.

mod error;
pub mod folder;
pub mod raft_log;
pub mod slices;
pub mod state;

pub use error::StorageError;
pub(crate) use folder::space_of;
pub use folder::{ClaimedFolder, DataFolder, FolderError};
pub use raft_log::{LogWrite, RaftLog, Recovered};
pub use slices::{SliceError, SliceStore};
pub use state::State;

/// A place in the Raft log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    pub index: u64,
    pub term: u64,
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "index {} of term {}", self.index, self.term)
    }
}

/// Makes the names in a folder durable: a file that was created, renamed or removed there.
fn sync_folder(dir: &std::path::Path) -> std::io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { std::path::Path::new(".") } else { dir };
    std::fs::File::open(dir)?.sync_all()
}
