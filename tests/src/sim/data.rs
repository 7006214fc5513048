//! What programs write: every write's bytes name the write, so a read tells whose bytes it saw.

use super::rng::mix;
use bytes::Bytes;

/// One write's name. 0 is nobody's: bytes that were never written read as zeros.
pub(in crate::sim) type WriteId = u64;

/// The bytes of a write, from `at` on, without end.
pub(super) fn bytes_from(id: WriteId, at: u64) -> impl Iterator<Item = u8> {
    (at / 8..).flat_map(move |n| word(id, n).to_le_bytes()).skip((at % 8) as usize)
}

pub(super) fn whole(id: WriteId, len: u64) -> Bytes {
    bytes_from(id, 0).take(len as usize).collect()
}

/// The eight bytes after 8 * `n`. None of them is zero, so that written bytes differ from holes.
fn word(id: WriteId, n: u64) -> u64 {
    match id {
        0 => 0,
        id => mix(id.wrapping_mul(0x1_0000_0001).wrapping_add(n)) | 0x0101_0101_0101_0101,
    }
}
