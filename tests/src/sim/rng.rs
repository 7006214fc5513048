//! The one source of chance: a small generator that a seed determines.

/// splitmix64: every seed is good, and its whole state is one number.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0xD134_2543_DE82_EF95) ^ 0x5851_F42D_4C95_7F2D)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// At least `from`, below `to`.
    pub(super) fn range(&mut self, from: u64, to: u64) -> u64 {
        debug_assert!(from < to);
        from + self.next() % (to - from)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        self.range(0, n as u64) as usize
    }

    /// True once in `n` times.
    pub(super) fn one_in(&mut self, n: u64) -> bool {
        n > 0 && self.next().is_multiple_of(n)
    }

    pub(super) fn per_mille(&mut self, n: u64) -> bool {
        self.next() % 1000 < n
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { Some(&from[self.below(from.len())]) }
    }

    /// Mostly near `typical`, sometimes many times it: how delays are in life.
    pub(super) fn delay(&mut self, typical: u64) -> u64 {
        let base = self.range(typical / 2, typical * 3 / 2 + 1);
        match self.next() % 100 {
            0 => base * 50,
            1..=4 => base * 8,
            _ => base,
        }
    }
}

pub(super) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
