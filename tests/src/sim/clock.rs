//! A machine's clocks: they run at the wrong speed, start anywhere, and the time of day jumps.

use super::rng::Rng;
use baton_core::node::Now;
use baton_core::types::Stamp;

/// How wrong the speed of a clock may be, in millionths.
const DRIFT_MAX: u64 = 50_000;
const EPOCH_S: i128 = 1_700_000_000;

#[derive(Clone, Debug)]
pub(super) struct Clock {
    booted: u64,
    offset: u64,
    /// Own microseconds in a million true ones.
    speed: u64,
    /// How far the time of day is from the truth, in nanoseconds.
    wrong_ns: i128,
}

impl Clock {
    pub(super) fn new(rng: &mut Rng, now: u64) -> Clock {
        Clock {
            booted: now,
            offset: rng.range(1, 1_000_000_000),
            speed: 1_000_000 - DRIFT_MAX + rng.range(0, 2 * DRIFT_MAX + 1),
            wrong_ns: i128::from(rng.range(0, 200_000_000)) - 100_000_000,
        }
    }

    pub(super) fn mono(&self, now: u64) -> u64 {
        self.offset + (u128::from(now - self.booted) * u128::from(self.speed) / 1_000_000) as u64
    }

    pub(super) fn read(&self, now: u64) -> Now {
        let real = EPOCH_S * 1_000_000_000 + i128::from(now) * 1_000 + self.wrong_ns;
        Now { mono: self.mono(now), real: Stamp::from_nanos(real) }
    }

    /// The true length of this many of its own microseconds.
    pub(super) fn lasts(&self, own: u64) -> u64 {
        own * 1_000_000 / self.speed
    }

    pub(super) fn jump(&mut self, rng: &mut Rng) {
        self.wrong_ns = i128::from(rng.range(0, 7_200_000_000_000)) - 3_600_000_000_000;
    }
}
