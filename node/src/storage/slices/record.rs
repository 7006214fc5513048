//! How a slice looks on the disk.
//!
//! ```text
//!   0       8     12    16        24       32       40        44        48            48 + 4n
//!   | magic | sum | len | session | number | offset | segment | nothing | n block sums | data ... |
//! ```
//!
//! All little-endian. `sum` is a CRC32C over everything between itself and the data; there is a block sum for every 64 KiB of
//! data. Records begin at multiples of 4 KiB, so that room can be given back to the file system in whole pages and the next
//! record is found behind a damaged one. A record names its own place: bytes that look like a record because someone stored
//! a copy of a segment file are not taken for one.

use super::Place;
use baton_core::limits::SLICE_MAX;
use baton_core::types::{SessionId, SliceId};

pub(super) const ALIGN: u64 = 4096;
/// What one checksum covers, and so the least that is read.
pub(super) const BLOCK: usize = 64 * 1024;
const MAGIC: &[u8; 8] = b"BatnSlc1";
const FIXED: usize = 48;
/// Where what `sum` covers begins.
const SUMMED: usize = 12;
/// No header is longer.
pub(super) const HEADER_MAX: usize = FIXED + 4 * SLICE_MAX.div_ceil(BLOCK);

/// What a header says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub(super) id: SliceId,
    pub(super) len: u32,
    pub(super) sums: Vec<u32>,
}

/// What stands where a record may begin.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    Record(Header),
    /// Zeros: never written, or given back.
    Nothing,
    Damage,
}

/// Where a record's data begins, counted from the record.
pub(super) fn data_start(len: u32) -> u64 {
    (FIXED + 4 * (len as usize).div_ceil(BLOCK)) as u64
}

/// What a record takes of its segment.
pub(super) fn room(len: u32) -> u64 {
    (data_start(len) + u64::from(len)).next_multiple_of(ALIGN)
}

pub(super) fn sums(data: &[u8]) -> Vec<u32> {
    data.chunks(BLOCK).map(crc32c::crc32c).collect()
}

pub(super) fn encode(id: SliceId, place: Place, sums: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FIXED + 4 * sums.len());
    bytes.extend(MAGIC);
    bytes.extend([0; 4]);
    bytes.extend(place.len.to_le_bytes());
    bytes.extend(id.session.0.to_le_bytes());
    bytes.extend(id.number.to_le_bytes());
    bytes.extend(place.offset().to_le_bytes());
    bytes.extend(place.segment.to_le_bytes());
    bytes.extend([0; 4]);
    sums.iter().for_each(|sum| bytes.extend(sum.to_le_bytes()));
    let sum = crc32c::crc32c(&bytes[SUMMED..]);
    bytes[8..SUMMED].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// `bytes` are those at this place, [`HEADER_MAX`] of them or all up to the file's end.
pub(super) fn decode(bytes: &[u8], segment: u32, offset: u64) -> Found {
    match decode_header(bytes, segment, offset) {
        Some(header) => Found::Record(header),
        None if bytes.iter().all(|byte| *byte == 0) => Found::Nothing,
        None => Found::Damage,
    }
}

fn decode_header(bytes: &[u8], segment: u32, offset: u64) -> Option<Header> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let len = word(12)?;
    if bytes.get(..8)? != MAGIC || len == 0 || len as usize > SLICE_MAX {
        return None;
    }
    let header = bytes.get(..data_start(len) as usize)?;
    if word(8)? != crc32c::crc32c(&header[SUMMED..]) || long(32)? != offset || word(40)? != segment {
        return None;
    }
    let id = SliceId { session: SessionId(long(16)?), number: long(24)? };
    let sums = header[FIXED..].chunks_exact(4).map(|sum| u32::from_le_bytes([sum[0], sum[1], sum[2], sum[3]]));
    Some(Header { id, len, sums: sums.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SliceId = SliceId { session: SessionId(3), number: 9 };

    #[test]
    fn a_header_comes_back_and_any_changed_bit_is_noticed() {
        let data = vec![5; 3 * BLOCK + 1];
        let place = Place::new(7, 2 * ALIGN, data.len() as u32);
        let bytes = encode(ID, place, &sums(&data));
        assert_eq!(bytes.len() as u64, data_start(place.len));
        let header = Header { id: ID, len: place.len, sums: sums(&data) };
        assert_eq!(decode(&bytes, 7, 2 * ALIGN), Found::Record(header));
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&changed, 7, 2 * ALIGN), Found::Damage, "bit {bit}");
        }
        for cut in 1..bytes.len() {
            assert_eq!(decode(&bytes[..cut], 7, 2 * ALIGN), Found::Damage, "cut at {cut}");
        }
    }

    #[test]
    fn a_record_is_one_only_at_its_own_place() {
        let bytes = encode(ID, Place::new(7, ALIGN, 10), &sums(&[0; 10]));
        assert_eq!(decode(&bytes, 8, ALIGN), Found::Damage);
        assert_eq!(decode(&bytes, 7, 2 * ALIGN), Found::Damage);
        assert_eq!(decode(&[0; 100], 7, ALIGN), Found::Nothing);
    }

    #[test]
    fn the_largest_slice_fits_its_bounds() {
        assert_eq!(data_start(SLICE_MAX as u32) as usize, HEADER_MAX);
        assert_eq!(room(1), ALIGN);
        assert_eq!(room((ALIGN - data_start(1)) as u32), ALIGN);
        assert_eq!(room((ALIGN - data_start(1)) as u32 + 1), 2 * ALIGN);
    }
}
