//! A disk that is full makes its node wait, not end: what it cannot write it does not answer for, the others go on without it,
//! and it goes on when there is room.
//!
//! Long before, file data goes elsewhere and growth is refused ([`DISK_RESERVE`](baton_core::limits::DISK_RESERVE)); so it is
//! others that fill a disk to the brim. A log that is appended to where there is no room is left alone by the engine, but a
//! state store that once failed to write has to be opened anew: so both stop while there still is some.

use crate::storage::{StorageError, space_of};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Below this neither log nor state is written. A file more of the log takes half of it.
pub(crate) const ROOM_MIN: u64 = 64 << 20;
const LOOK_EVERY: Duration = Duration::from_millis(200);
const SAY_EVERY: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct Room {
    folder: PathBuf,
    /// The node ends: nobody waits any more.
    ends: Arc<AtomicBool>,
}

impl Room {
    pub(crate) fn new(folder: PathBuf) -> Room {
        Room { folder, ends: Arc::default() }
    }

    pub(crate) fn node_ends(&self) {
        self.ends.store(true, Ordering::SeqCst);
    }

    pub(crate) fn free(&self) -> Option<u64> {
        space_of(&self.folder).ok().map(|space| space.free)
    }

    /// What cannot be told is taken for room: then the write itself says what is wrong.
    pub(crate) fn is_there(&self) -> bool {
        self.free().is_none_or(|free| free >= ROOM_MIN)
    }

    /// Returns when there is room, or when the node ends.
    pub(crate) fn wait(&self) {
        let mut said: Option<Instant> = None;
        while !self.ends() && !self.is_there() {
            if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
                said = Some(Instant::now());
                tracing::error!(
                    folder = %self.folder.display(),
                    "the disk is full: this node writes nothing until {} MiB are free. The others go on without it",
                    ROOM_MIN >> 20
                );
            }
            std::thread::sleep(LOOK_EVERY);
        }
        if said.is_some() {
            tracing::info!("there is room on the disk again: this node goes on");
        }
    }

    /// For what may be tried again where it found no room after all: it is, until the node ends.
    pub(crate) fn insist<T>(&self, act: impl Fn() -> Result<T, StorageError>) -> Result<T, StorageError> {
        loop {
            self.wait();
            match act() {
                Err(error) if error.is_full() && !self.ends() => std::thread::sleep(LOOK_EVERY),
                outcome => return outcome,
            }
        }
    }

    fn ends(&self) -> bool {
        self.ends.load(Ordering::SeqCst)
    }
}
