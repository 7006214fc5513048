//! Where slices are written: the end of the newest segment, by any number of threads at once.
//!
//! A writer reserves a range, writes it without a lock, and then waits until a sync that began after its write is over. One
//! of the waiting writers syncs for all of them. Before a new segment is begun, everything in the old one is written and
//! synced: so a crash can tear records of the newest segment only.

use super::files::{Files, punch};
use super::record::{BLOCK, room};
use super::{Place, SliceError};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// How far ahead of short records zeros are written: a write into zeros syncs twice as fast as one that makes the file longer
/// (74 against 161 us for 4 KiB, research/probe.md).
const AHEAD: usize = 1024 * 1024;
/// Records up to this long are short: for longer ones the sync waits for the data anyway.
const SHORT: u64 = BLOCK as u64 + super::record::ALIGN;

pub(super) struct Tail {
    files: Arc<Files>,
    segment_bytes: u64,
    inner: Mutex<Inner>,
    /// Something that someone may wait for has changed.
    changed: Condvar,
}

struct Inner {
    current: Option<Current>,
    next_segment: u32,
    /// Records of each segment that are written or being written and not deleted.
    live: HashMap<u32, u32>,
    /// Ranges that are reserved and not yet written.
    in_flight: u32,
    /// Records written, and how many of those are on the disk.
    written: u64,
    synced: u64,
    syncing: bool,
    rolling: bool,
    /// A sync failed: what the disk holds is not known until it is read again.
    failed: bool,
}

struct Current {
    segment: u32,
    file: Arc<File>,
    end: u64,
    /// Up to here the file is written, with records or with zeros.
    filled: u64,
}

/// A range that is one writer's own.
pub(super) struct Spot {
    pub(super) place: Place,
    pub(super) file: Arc<File>,
}

type Guard<'a> = MutexGuard<'a, Inner>;

impl Tail {
    /// `live` counts the records of each segment there is; writing goes on at `end` of the newest, if it has room.
    pub(super) fn new(
        files: Arc<Files>,
        segment_bytes: u64,
        live: HashMap<u32, u32>,
        end: Option<(u32, u64)>,
    ) -> io::Result<Tail> {
        let current = match end {
            Some((segment, end)) => Some(Current { segment, file: files.get(segment)?, end, filled: end }),
            None => None,
        };
        let next_segment = live.keys().max().map_or(1, |newest| newest + 1);
        let inner = Inner {
            current,
            next_segment,
            live,
            in_flight: 0,
            written: 0,
            synced: 0,
            syncing: false,
            rolling: false,
            failed: false,
        };
        Ok(Tail { files, segment_bytes, inner: Mutex::new(inner), changed: Condvar::new() })
    }

    /// A range for a slice of `len` bytes.
    pub(super) fn reserve(&self, len: u32) -> Result<Spot, SliceError> {
        let mut inner = self.lock();
        loop {
            self.refuse_if_failed(&inner)?;
            if inner.rolling {
                inner = self.wait(inner);
                continue;
            }
            if let Some(spot) = inner.take(len, self.segment_bytes) {
                return Ok(spot);
            }
            inner.rolling = true;
            let (locked, rolled) = self.roll(inner);
            inner = locked;
            inner.rolling = false;
            self.changed.notify_all();
            rolled?;
        }
    }

    /// The spot's record is written: returns when it is on the disk.
    pub(super) fn commit(&self) -> Result<(), SliceError> {
        let mut inner = self.lock();
        inner.in_flight -= 1;
        inner.written += 1;
        let mine = inner.written;
        self.changed.notify_all();
        self.sync(inner, mine).1
    }

    /// The spot's record could not be written: leaves zeros there.
    pub(super) fn abandon(&self, spot: &Spot) {
        let cleaned = punch(&spot.file, spot.place.offset(), room(spot.place.len));
        let mut inner = self.lock();
        inner.in_flight -= 1;
        if let Some(current) = &mut inner.current
            && cleaned.is_ok()
            && current.segment == spot.place.segment
            && current.end == spot.place.offset() + room(spot.place.len)
        {
            current.end = spot.place.offset();
        }
        self.changed.notify_all();
        drop(inner);
        self.forget(spot.place.segment);
    }

    /// One record of the segment is gone. Without a record, and unless it is written to, so is the file.
    pub(super) fn forget(&self, segment: u32) {
        let mut inner = self.lock();
        if let Some(live) = inner.live.get_mut(&segment) {
            *live = live.saturating_sub(1);
        }
        if inner.current.as_ref().is_none_or(|current| current.segment != segment) {
            self.remove_if_empty(&mut inner, segment);
        }
    }

    #[cfg(test)]
    pub(super) fn segments(&self) -> usize {
        self.lock().live.len()
    }

    fn remove_if_empty(&self, inner: &mut Inner, segment: u32) {
        if inner.live.get(&segment) == Some(&0) {
            inner.live.remove(&segment);
            if let Err(error) = self.files.remove(segment) {
                tracing::warn!(
                    "cannot remove {}: {error}; it holds nothing and is removed at the next start",
                    self.files.path(segment).display()
                );
            }
        }
    }

    /// Ends the current segment and begins the next.
    fn roll<'a>(&'a self, mut inner: Guard<'a>) -> (Guard<'a>, Result<(), SliceError>) {
        while inner.in_flight > 0 {
            inner = self.wait(inner);
        }
        let written = inner.written;
        let (mut inner, synced) = self.sync(inner, written);
        if synced.is_err() {
            return (inner, synced);
        }
        let segment = inner.next_segment;
        let file = match self.files.create(segment) {
            Ok(file) => file,
            Err(error) => return (inner, Err(SliceError::io("create", &self.files.path(segment))(error))),
        };
        inner.next_segment += 1;
        inner.live.insert(segment, 0);
        if let Some(old) = inner.current.replace(Current { segment, file, end: 0, filled: 0 }) {
            // What was filled ahead and not used; a scan would look through it at every start.
            let _ = old.file.set_len(old.end);
            self.remove_if_empty(&mut inner, old.segment);
        }
        (inner, Ok(()))
    }

    /// Returns when the first `upto` written records are on the disk.
    fn sync<'a>(&'a self, mut inner: Guard<'a>, upto: u64) -> (Guard<'a>, Result<(), SliceError>) {
        loop {
            if let Err(failed) = self.refuse_if_failed(&inner) {
                return (inner, Err(failed));
            }
            let Some(current) = &inner.current else { return (inner, Ok(())) };
            if inner.synced >= upto {
                return (inner, Ok(()));
            }
            if inner.syncing {
                inner = self.wait(inner);
                continue;
            }
            let (segment, file, written) = (current.segment, current.file.clone(), inner.written);
            inner.syncing = true;
            drop(inner);
            let done = file.sync_data();
            inner = self.lock();
            inner.syncing = false;
            inner.failed |= done.is_err();
            self.changed.notify_all();
            match done {
                Ok(()) => inner.synced = inner.synced.max(written),
                Err(error) => return (inner, Err(SliceError::io("sync", &self.files.path(segment))(error))),
            }
        }
    }

    fn refuse_if_failed(&self, inner: &Inner) -> Result<(), SliceError> {
        if inner.failed { Err(SliceError::Failed { path: self.files.dir().to_owned() }) } else { Ok(()) }
    }

    fn lock(&self) -> Guard<'_> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn wait<'a>(&'a self, inner: Guard<'a>) -> Guard<'a> {
        self.changed.wait(inner).unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Inner {
    /// The next range of the current segment, if it has that much room.
    fn take(&mut self, len: u32, segment_bytes: u64) -> Option<Spot> {
        let room = room(len);
        let current = self.current.as_mut()?;
        if current.end > 0 && current.end + room > segment_bytes {
            return None;
        }
        let spot = Spot { place: Place::new(current.segment, current.end, len), file: current.file.clone() };
        current.end += room;
        if room <= SHORT && current.end > current.filled {
            // Nobody else writes behind the end while it is locked. On a full disk it is left out.
            if current.file.write_all_at(&vec![0; AHEAD], current.end).is_ok() {
                current.filled = current.end + AHEAD as u64;
            }
        }
        current.filled = current.filled.max(current.end);
        *self.live.entry(current.segment).or_default() += 1;
        self.in_flight += 1;
        Some(spot)
    }
}
