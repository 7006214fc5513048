//! Building the index when the store is opened.
//!
//! Headers only: what a record's data is worth shows when it is read or scrubbed. Except in the newest segment, where a crash
//! may have torn records that nobody was told are stored: there the data is checked too, and what is torn is cut off.

use super::files::{Files, punch, read_up_to};
use super::record::{self, ALIGN, HEADER_MAX, Header};
use super::{Place, SliceError, damaged_block};
use baton_core::types::SliceId;
use rustix::fs::{SeekFrom, seek};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io;
use std::path::PathBuf;

/// What opening a store found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OpenReport {
    pub slices: usize,
    pub bytes: u64,
    pub segments: usize,
    /// In the newest segment: slices whose data was torn, and now are not there. Unless a crash came before, the disk did it.
    pub cut: Vec<SliceId>,
    /// Where headers should be and are none. Which slices stood there is not known here.
    pub damaged: Vec<DamagedRange>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DamagedRange {
    pub path: PathBuf,
    pub offset: u64,
    pub len: u64,
}

pub(super) struct Found {
    pub(super) index: HashMap<SliceId, Place>,
    pub(super) live: HashMap<u32, u32>,
    /// The newest segment and the end of its last record.
    pub(super) end: Option<(u32, u64)>,
    pub(super) report: OpenReport,
}

pub(super) fn folder(files: &Files) -> Result<Found, SliceError> {
    let mut found = Found { index: HashMap::new(), live: HashMap::new(), end: None, report: OpenReport::default() };
    let segments = files.list()?;
    for segment in &segments {
        let newest = Some(segment) == segments.last();
        scan_segment(files, *segment, newest, &mut found).map_err(SliceError::io("read", &files.path(*segment)))?;
    }
    found.report.slices = found.index.len();
    found.report.bytes = found.index.values().map(|place| u64::from(place.len)).sum();
    found.report.segments = found.live.len();
    Ok(found)
}

fn scan_segment(files: &Files, segment: u32, newest: bool, found: &mut Found) -> io::Result<()> {
    let file = files.get(segment)?;
    let walked = walk(&file, segment)?;
    let (mut live, mut end) = (0, 0);
    for (offset, header) in walked.records {
        let place = Place::new(segment, offset, header.len);
        if newest && !is_whole(&file, place, &header)? {
            found.report.cut.push(header.id);
            punch(&file, offset, record::room(header.len))?;
            continue;
        }
        match found.index.entry(header.id) {
            Entry::Vacant(entry) => {
                entry.insert(place);
                live += 1;
            }
            // Stored twice at the same time, and a crash came before one of the two was removed.
            Entry::Occupied(_) => punch(&file, offset, record::room(header.len))?,
        }
        end = offset + record::room(header.len);
    }
    if newest {
        // What lies between or behind records was never acknowledged; zeros there are not taken for damage later.
        for (offset, len) in walked.damaged {
            punch(&file, offset, len)?;
        }
        file.set_len(end)?;
        // Of a process that was killed, what it had not synced can be read as well, and counts as stored from now on.
        file.sync_data()?;
        found.end = Some((segment, end));
    } else {
        let path = files.path(segment);
        let ranges = walked.damaged.into_iter();
        found.report.damaged.extend(ranges.map(|(offset, len)| DamagedRange { path: path.clone(), offset, len }));
        if live == 0 {
            return files.remove(segment);
        }
    }
    found.live.insert(segment, live);
    Ok(())
}

#[derive(Default)]
struct Walked {
    records: Vec<(u64, Header)>,
    damaged: Vec<(u64, u64)>,
}

/// Goes from header to header; behind something that is none, from page to page until there is one again.
fn walk(file: &File, segment: u32) -> io::Result<Walked> {
    let size = file.metadata()?.len();
    let mut walked = Walked::default();
    let mut at = 0;
    while let Some(offset) = next_data(file, at)?.filter(|offset| *offset < size) {
        at = offset;
        match record::decode(&read_up_to(file, HEADER_MAX, at)?, segment, at) {
            record::Found::Record(header) => {
                let room = record::room(header.len);
                walked.records.push((at, header));
                at += room;
            }
            record::Found::Nothing => at += ALIGN,
            record::Found::Damage => {
                match walked.damaged.last_mut() {
                    Some((offset, len)) if *offset + *len == at => *len += ALIGN,
                    _ => walked.damaged.push((at, ALIGN)),
                }
                at += ALIGN;
            }
        }
    }
    Ok(walked)
}

/// The first page at or behind `at` that is not in a hole.
fn next_data(file: &File, at: u64) -> io::Result<Option<u64>> {
    match seek(file, SeekFrom::Data(at)) {
        Ok(offset) => Ok(Some(at.max(offset / ALIGN * ALIGN))),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        // A file system that does not know where its holes are.
        Err(rustix::io::Errno::INVAL) => Ok(Some(at)),
        Err(errno) => Err(errno.into()),
    }
}

fn is_whole(file: &File, place: Place, header: &Header) -> io::Result<bool> {
    let len = header.len as usize;
    let data = read_up_to(file, len, place.offset() + record::data_start(header.len))?;
    Ok(damaged_block(header, 0, &data, len).is_none())
}
