//! # Whether bytes are the same as some that were read before
//!
//! A number of 64 bits. Every word is worked into the number by a step that can be turned back, so two texts that differ in one
//! word of eight bytes never have the same; others have by a chance of one in 2^64. It guards against changes, not against
//! malice: who writes a file may make two texts of the same number, and deceives nobody but its readers. Nodes compare what each
//! of them works out, so it is the same on every machine, and for ever.

const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// Works it out over bytes that come in parts, however they are parted.
#[derive(Default)]
pub(crate) struct Digest {
    number: u64,
    /// Bytes that are not a word yet, from the lowest on.
    word: u64,
    len: u64,
}

impl Digest {
    pub(crate) fn add(&mut self, mut bytes: &[u8]) {
        while !self.len.is_multiple_of(8)
            && let Some((byte, rest)) = bytes.split_first()
        {
            self.add_byte(*byte);
            bytes = rest;
        }
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.add_word(u64::from_le_bytes(*word));
        }
        self.len += words.len() as u64 * 8;
        rest.iter().for_each(|byte| self.add_byte(*byte));
    }

    fn add_byte(&mut self, byte: u8) {
        self.word |= u64::from(byte) << (self.len % 8 * 8);
        self.len += 1;
        if self.len.is_multiple_of(8) {
            let word = std::mem::take(&mut self.word);
            self.add_word(word);
        }
    }

    fn add_word(&mut self, word: u64) {
        let mixed = (self.number ^ word).wrapping_mul(FACTOR);
        self.number = (mixed ^ (mixed >> 32)).wrapping_add(1);
    }

    pub(crate) fn end(mut self) -> u64 {
        self.add_word(self.word);
        self.add_word(self.len);
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(parts: &[&[u8]]) -> u64 {
        let mut digest = Digest::default();
        parts.iter().for_each(|part| digest.add(part));
        digest.end()
    }

    #[test]
    fn it_is_what_it_was_in_every_version() {
        assert_eq!(of(&[]), 0x9e37_79b9_e17d_05ad);
        assert_eq!(of(&[b"a tree that is always true"]), 0x3de5_ebd4_c29c_e3c7);
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_parted_does_not_matter(bytes: Vec<u8>, at: Vec<prop::sample::Index>) {
            let mut cuts: Vec<usize> = at.iter().map(|at| at.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort();
            let parts: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(of(&parts), of(&[&bytes]));
        }

        #[test]
        fn one_byte_that_differs_is_seen(mut bytes in prop::collection::vec(any::<u8>(), 1..100), at: prop::sample::Index, by in 1_u8..) {
            let before = of(&[&bytes]);
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            prop_assert_ne!(of(&[&bytes]), before);
        }

        #[test]
        fn zeros_behind_are_seen(bytes: Vec<u8>, zeros in 1_usize..20) {
            let longer = [bytes.clone(), vec![0; zeros]].concat();
            prop_assert_ne!(of(&[&longer]), of(&[&bytes]));
        }
    }
}
