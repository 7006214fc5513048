//! What programs write: every write's bytes name the write, so a read tells whose bytes it saw.

use super::rng::mix;
use bytes::Bytes;

/// One write's name. 0 is nobody's: bytes that were never written read as zeros.
pub(in crate::sim) type WriteId = u64;

/// The bytes of a write, from `at` on.
pub(super) fn bytes_of(id: WriteId, at: u64, len: u64) -> Vec<u8> {
    (at..at + len).map(|i| byte(id, i)).collect()
}

pub(super) fn whole(id: WriteId, len: u64) -> Bytes {
    Bytes::from(bytes_of(id, 0, len))
}

pub(super) fn byte(id: WriteId, at: u64) -> u8 {
    if id == 0 {
        return 0;
    }
    // Never zero, so that written bytes differ from holes.
    (mix(id.wrapping_mul(0x1_0000_0001).wrapping_add(at / 8)) >> (8 * (at % 8))) as u8 | 1
}
