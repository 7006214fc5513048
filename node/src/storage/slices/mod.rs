//! # The slice store: file data, packed into segment files
//!
//! A slice is written once, read any number of times and deleted; it never changes. Slices are appended to segment files,
//! because creating a file for each costs more than twice what appending and syncing does. Which slice stands where is kept
//! in memory only, and built anew from the headers at every start.
//!
//! ```text
//!   slices/00000001.slices   | record | record | (hole) | record |
//!   slices/00000002.slices   | record | record | zeros ...          <- the tail: all writing goes here
//! ```
//!
//! Invariants:
//! * `put` returns, and the slice can be read, when it is on the disk;
//! * every byte that is read was checked against its block's checksum;
//! * room is never written twice, except behind the newest segment's last record: so a place that was looked up stays that
//!   slice's until it is deleted, and reading needs no lock;
//! * what was found damaged is known until it is deleted or stored again ([`SliceStore::is_good`]);
//! * a crash can tear only records that were not acknowledged, all of them in the newest segment; the next start cuts them
//!   off. It can also undo a delete.

mod files;
mod record;
mod scan;
mod scrub;
mod tail;

use baton_core::limits::SLICE_MAX;
use baton_core::types::SliceId;
use bytes::Bytes;
use files::{Files, punch, read_up_to};
use record::{BLOCK, Found, HEADER_MAX, Header};
pub use scan::{DamagedRange, OpenReport};
pub use scrub::{ScrubPlace, Scrubbed};
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::{fmt, io};
use tail::Tail;

/// Large enough that a disk full of them has few files, small enough to look through the newest at every start.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum SliceError {
    #[error("slice {id} is not on this node. Read it from another replica")]
    Missing { id: SliceId },
    #[error(
        "cannot read slice {id}: {part} in {path} is damaged. Read it from another replica and store it here again"
    )]
    Damaged { id: SliceId, part: Part, path: PathBuf },
    #[error("cannot read {len} bytes at {at} of slice {id}: it has {has}")]
    OutOfRange { id: SliceId, at: u32, len: u32, has: u32 },
    #[error("cannot store slice {id} of {len} bytes: a slice has 1 to {SLICE_MAX}")]
    Length { id: SliceId, len: usize },
    #[error("cannot store a slice in {path}: the disk is full. Free some room on it, or add a node")]
    Full { path: PathBuf },
    #[error("cannot {what} {path}: {source}. Check the disk and the file's permissions")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "cannot store a slice in {path}: an earlier sync failed, and what is on the disk is not known. Start the node again"
    )]
    Failed { path: PathBuf },
}

impl SliceError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SliceError {
        let path = path.to_owned();
        move |source| {
            if super::error::no_room(&source) {
                SliceError::Full { path }
            } else {
                SliceError::Io { what, path, source }
            }
        }
    }
}

/// A part of a slice's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Header,
    /// One of its blocks of 64 KiB, from 0.
    Block(u32),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Header => f.write_str("its header"),
            Part::Block(number) => write!(f, "its block {number}"),
        }
    }
}

/// Where a slice stands. There is one of these in memory for every slice, so it is small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    segment: u32,
    /// In units of [`record::ALIGN`].
    page: u32,
    len: u32,
}

impl Place {
    fn new(segment: u32, offset: u64, len: u32) -> Place {
        Place { segment, page: (offset / record::ALIGN) as u32, len }
    }

    fn offset(self) -> u64 {
        u64::from(self.page) * record::ALIGN
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub slices: usize,
    /// Of the slices' data.
    pub bytes: u64,
}

pub struct SliceStore {
    files: Arc<Files>,
    index: RwLock<HashMap<SliceId, Place>>,
    /// Those that could not be read back, since the start.
    damaged: Mutex<BTreeSet<SliceId>>,
    tail: Tail,
}

impl SliceStore {
    /// Opens the store or makes an empty one, and tells what it found.
    pub fn open(dir: &Path) -> Result<(SliceStore, OpenReport), SliceError> {
        SliceStore::open_with_segments_of(dir, SEGMENT_BYTES)
    }

    fn open_with_segments_of(dir: &Path, segment_bytes: u64) -> Result<(SliceStore, OpenReport), SliceError> {
        std::fs::create_dir_all(dir).map_err(SliceError::io("create the folder", dir))?;
        let files = Arc::new(Files::new(dir));
        let scan::Found { index, live, end, report } = scan::folder(&files)?;
        let tail = Tail::new(files.clone(), segment_bytes, live, end).map_err(SliceError::io("open", dir))?;
        Ok((SliceStore { files, index: RwLock::new(index), damaged: Mutex::default(), tail }, report))
    }

    /// Stores a slice. Returns when it is on the disk; storing it once more changes nothing.
    pub fn put(&self, id: SliceId, data: &[u8]) -> Result<(), SliceError> {
        if data.is_empty() || data.len() > SLICE_MAX {
            return Err(SliceError::Length { id, len: data.len() });
        }
        if self.contains(id) {
            return Ok(());
        }
        let sums = record::sums(data);
        let spot = self.tail.reserve(data.len() as u32)?;
        let place = spot.place;
        let header = record::encode(id, place, &sums);
        // The header last: where it is missing there is no record.
        let written = spot
            .file
            .write_all_at(data, place.offset() + record::data_start(place.len))
            .and_then(|()| spot.file.write_all_at(&header, place.offset()));
        if let Err(error) = written {
            self.tail.abandon(&spot);
            return Err(SliceError::io("write to", &self.files.path(place.segment))(error));
        }
        self.tail.commit()?;
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        match index.entry(id) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(place);
            }
            // Someone stored the same at the same time; one of the two is enough.
            std::collections::hash_map::Entry::Occupied(_) => {
                drop(index);
                self.free(place);
            }
        }
        Ok(())
    }

    /// `len` bytes of a slice from `at` on.
    pub fn get(&self, id: SliceId, at: u32, len: u32) -> Result<Bytes, SliceError> {
        let place = self.place(id).ok_or(SliceError::Missing { id })?;
        if at.checked_add(len).is_none_or(|end| end > place.len) {
            return Err(SliceError::OutOfRange { id, at, len, has: place.len });
        }
        let read = self.files.get(place.segment).and_then(|file| read_record(&file, id, place, at, len));
        match read {
            Ok(Ok(bytes)) => Ok(bytes),
            // What was deleted meanwhile reads as zeros, or has no file.
            _ if self.place(id) != Some(place) => Err(SliceError::Missing { id }),
            Ok(Err(part)) => {
                self.note_damaged(id);
                Err(SliceError::Damaged { id, part, path: self.files.path(place.segment) })
            }
            Err(error) => Err(SliceError::io("read", &self.files.path(place.segment))(error)),
        }
    }

    /// Deletes a slice, if it is there, and gives its room back. A crash may undo it.
    pub fn delete(&self, id: SliceId) {
        let place = self.index.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(place) = place {
            self.free(place);
        }
    }

    pub fn contains(&self, id: SliceId) -> bool {
        self.place(id).is_some()
    }

    /// It is here, and was not found damaged.
    pub fn is_good(&self, id: SliceId) -> bool {
        self.contains(id) && !self.damaged.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    fn note_damaged(&self, id: SliceId) {
        if self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
            tracing::error!(slice = %id, "a slice on this disk is damaged: it is to be fetched from another node");
        }
    }

    pub fn len(&self, id: SliceId) -> Option<u32> {
        self.place(id).map(|place| place.len)
    }

    /// The slices there are now, in no order.
    pub fn ids(&self) -> Vec<SliceId> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Waits for no disk, not even for one that hangs while somebody writes.
    pub fn stats(&self) -> Stats {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        Stats { slices: index.len(), bytes: index.values().map(|place| u64::from(place.len)).sum() }
    }

    fn place(&self, id: SliceId) -> Option<Place> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    /// The record at this place is no longer in the index.
    fn free(&self, place: Place) {
        let freed =
            self.files.get(place.segment).and_then(|file| punch(&file, place.offset(), record::room(place.len)));
        if let Err(error) = freed {
            let path = self.files.path(place.segment);
            tracing::warn!(
                "cannot give room in {} back: {error}; a deleted slice may be there again after a restart",
                path.display()
            );
        }
        self.tail.forget(place.segment);
    }
}

/// Reads and checks a range of a record; the inner error names the part that is damaged.
fn read_record(file: &File, id: SliceId, place: Place, at: u32, len: u32) -> io::Result<Result<Bytes, Part>> {
    let header = match record::decode(&read_up_to(file, HEADER_MAX, place.offset())?, place.segment, place.offset()) {
        Found::Record(header) if header.id == id && header.len == place.len => header,
        _ => return Ok(Err(Part::Header)),
    };
    if len == 0 {
        return Ok(Ok(Bytes::new()));
    }
    let first = at as usize / BLOCK;
    let from = first * BLOCK;
    let to = ((at + len) as usize).next_multiple_of(BLOCK).min(place.len as usize);
    let start = place.offset() + record::data_start(place.len);
    let blocks = read_up_to(file, to - from, start + from as u64)?;
    Ok(match damaged_block(&header, first, &blocks, to - from) {
        Some(number) => Err(Part::Block(number)),
        None => Ok(Bytes::from(blocks).slice(at as usize - from..(at + len) as usize - from)),
    })
}

/// The first of these blocks, which begin with number `first`, that does not match its sum or was not read whole.
fn damaged_block(header: &Header, first: usize, blocks: &[u8], expected: usize) -> Option<u32> {
    let mut sums = header.sums[first..].iter();
    let number = blocks.chunks(BLOCK).position(|block| sums.next() != Some(&crc32c::crc32c(block)));
    let cut = (blocks.len() < expected).then_some(blocks.len() / BLOCK);
    number.into_iter().chain(cut).min().map(|number| (first + number) as u32)
}

#[cfg(test)]
mod tests;
