//! Values on the disk end in a CRC32C over their key and themselves: redb checks its pages only when it repairs.

use super::{Why, damage};

const SUM: usize = 4;

fn sum(key: &[u8], value: &[u8]) -> [u8; SUM] {
    crc32c::crc32c_append(crc32c::crc32c(key), value).to_le_bytes()
}

pub(super) fn seal(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(value.len() + SUM);
    sealed.extend_from_slice(value);
    sealed.extend_from_slice(&sum(key, value));
    sealed
}

/// The value without its sum, if that is right.
pub(super) fn unseal<'a>(key: &[u8], sealed: &'a [u8]) -> Result<&'a [u8], Why> {
    let (value, found) =
        sealed.split_last_chunk::<SUM>().ok_or_else(|| damage("a value is shorter than its checksum"))?;
    if *found != sum(key, value) {
        return Err(damage("a value does not match its checksum"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bit_and_another_key_is_noticed() {
        let sealed = seal(b"key", b"value");
        assert_eq!(unseal(b"key", &sealed).unwrap(), b"value");
        assert!(unseal(b"kez", &sealed).is_err());
        assert!(unseal(b"key", &sealed[..3]).is_err());
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(b"key", &changed).is_err(), "bit {bit}");
        }
    }
}
