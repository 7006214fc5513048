//! Between machines: delay, loss, repetition, reordering, and cuts in one or both directions.

use super::rng::Rng;
use std::collections::BTreeSet;

/// Anything that has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Node(usize),
    Mount(usize),
}

#[derive(Debug)]
pub(super) struct Network {
    /// Directed: nothing goes from the first to the second.
    cut: BTreeSet<(Place, Place)>,
    pub(super) loss_per_mille: u64,
    pub(super) repeat_per_mille: u64,
    pub(super) delay_us: u64,
    /// Everything between nodes takes so many times as long.
    pub(super) slow: u64,
}

impl Network {
    pub(super) fn new(delay_us: u64) -> Network {
        Network { cut: BTreeSet::new(), loss_per_mille: 0, repeat_per_mille: 0, delay_us, slow: 1 }
    }

    pub(super) fn cut(&mut self, from: Place, to: Place) {
        self.cut.insert((from, to));
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(super) fn reaches(&self, from: Place, to: Place) -> bool {
        !self.cut.contains(&(from, to))
    }

    pub(super) fn both_ways(&self, a: Place, b: Place) -> bool {
        self.reaches(a, b) && self.reaches(b, a)
    }

    /// After which delays copies of a message arrive; none if it is lost.
    pub(super) fn deliveries(&self, rng: &mut Rng, from: Place, to: Place) -> [Option<u64>; 2] {
        if !self.reaches(from, to) || rng.per_mille(self.loss_per_mille) {
            return [None, None];
        }
        let second = rng.per_mille(self.repeat_per_mille).then(|| rng.delay(self.delay_us * 20));
        [Some(rng.delay(self.delay_us) * self.slow), second]
    }
}
