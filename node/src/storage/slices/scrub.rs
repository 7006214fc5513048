//! Reading everything now and then, so that damage is found while there are other replicas.

use super::record::{self, HEADER_MAX};
use super::{Place, SliceError, SliceStore, read_record};
use baton_core::types::SliceId;
use rustix::fs::{Advice, fadvise};
use std::num::NonZeroU64;
use std::sync::PoisonError;

/// Where a scrub goes on. The default is the beginning, [`SliceStore::anywhere`] where a node begins that may not live until it
/// has come round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScrubPlace {
    segment: u32,
    offset: u64,
}

/// What one piece of a scrub found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scrubbed {
    /// Where to go on; nothing where the end was reached.
    pub next: Option<ScrubPlace>,
    pub slices: usize,
    pub bytes: u64,
    /// Not good any more: to be fetched from another replica, deleted here and stored again.
    pub damaged: Vec<SliceId>,
}

impl SliceStore {
    /// Reads slices from the disk, in the order in which they lie there, until about `budget` bytes were read, at least one.
    /// Looks through the whole index once for each segment it touches: give it some megabytes at a time.
    pub fn scrub(&self, from: ScrubPlace, budget: u64) -> Result<Scrubbed, SliceError> {
        let mut scrubbed = Scrubbed::default();
        let mut next = from;
        while let Some((segment, places)) = self.segment_from(next) {
            for (id, place) in places {
                if scrubbed.slices > 0 && scrubbed.bytes >= budget {
                    scrubbed.next = Some(ScrubPlace { segment, offset: place.offset() });
                    return Ok(scrubbed);
                }
                if !self.is_sound(id, place) {
                    self.note_damaged(id);
                    scrubbed.damaged.push(id);
                }
                scrubbed.slices += 1;
                scrubbed.bytes += u64::from(place.len);
            }
            next = ScrubPlace { segment: segment + 1, offset: 0 };
        }
        Ok(scrubbed)
    }

    /// Some slice's place.
    pub fn anywhere(&self) -> ScrubPlace {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        // The order of a hash map is another one in every process.
        index
            .values()
            .next()
            .map_or_else(ScrubPlace::default, |place| ScrubPlace { segment: place.segment, offset: place.offset() })
    }

    /// The first segment at or behind `from` that has slices there, and those, in order.
    fn segment_from(&self, from: ScrubPlace) -> Option<(u32, Vec<(SliceId, Place)>)> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let is_left = |place: &Place| (place.segment, place.offset()) >= (from.segment, from.offset);
        let segment = index.values().filter(|place| is_left(place)).map(|place| place.segment).min()?;
        let here = index.iter().filter(|(_, place)| place.segment == segment && is_left(place));
        let mut places: Vec<_> = here.map(|(id, place)| (*id, *place)).collect();
        drop(index);
        places.sort_by_key(|(_, place)| place.page);
        Some((segment, places))
    }

    /// Whether a slice can be read back whole. A disk that cannot read it has damaged it.
    fn is_sound(&self, id: SliceId, place: Place) -> bool {
        let read = self.files.get(place.segment).and_then(|file| {
            // From the disk and not from memory, as far as the kernel lets go of it.
            let bytes = NonZeroU64::new(HEADER_MAX as u64 + record::room(place.len));
            let _ = fadvise(&file, place.offset(), bytes, Advice::DontNeed);
            read_record(&file, id, place, 0, place.len)
        });
        matches!(read, Ok(Ok(_))) || self.place(id) != Some(place)
    }
}
