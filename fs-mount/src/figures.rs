//! What a mount counts: its calls by kind with how long they took, and what went over the link.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the classes of durations, in microseconds; beyond the last is one more class.
pub const BOUNDS_US: [u64; 12] =
    [10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 10_000_000];

/// How long something took, often.
#[derive(Clone, Debug, Default)]
pub struct Durations {
    /// How many took at most as long as each bound, and longer than the one before it.
    pub classes: [u64; BOUNDS_US.len() + 1],
    pub sum: Duration,
}

impl Durations {
    fn add(&mut self, took: Duration) {
        let micros = took.as_micros() as u64;
        let class = BOUNDS_US.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS_US.len());
        self.classes[class] += 1;
        self.sum += took;
    }

    pub fn count(&self) -> u64 {
        self.classes.iter().sum()
    }
}

/// Everything counted so far, by the words for it.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub calls: BTreeMap<&'static str, Durations>,
    pub failed: BTreeMap<&'static str, u64>,
    pub sent: BTreeMap<&'static str, u64>,
    pub received: BTreeMap<&'static str, u64>,
}

#[derive(Default)]
pub(crate) struct Counting(Mutex<Figures>);

impl Counting {
    pub(crate) fn call(&self, what: &'static str, took: Duration, failed: bool) {
        self.change(|figures| {
            figures.calls.entry(what).or_default().add(took);
            if failed {
                *figures.failed.entry(what).or_default() += 1;
            }
        });
    }

    pub(crate) fn sent(&self, what: &'static str) {
        self.change(|figures| *figures.sent.entry(what).or_default() += 1);
    }

    pub(crate) fn received(&self, what: &'static str) {
        self.change(|figures| *figures.received.entry(what).or_default() += 1);
    }

    pub(crate) fn so_far(&self) -> Figures {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_the_class_that_ends_at_or_above_it() {
        let counting = Counting::default();
        for micros in [1, 10, 11, 300, 20_000_000] {
            counting.call("Lookup", Duration::from_micros(micros), micros == 11);
        }
        let figures = counting.so_far();
        let lookups = &figures.calls["Lookup"];
        assert_eq!((lookups.classes[0], lookups.classes[1], lookups.classes[3], lookups.classes[12]), (2, 1, 1, 1));
        assert_eq!((lookups.count(), lookups.sum), (5, Duration::from_micros(20_000_322)));
        assert_eq!(figures.failed["Lookup"], 1);
    }
}
