//! How long something still takes, as fast as it went lately.

use core::time::Duration;
use std::collections::VecDeque;

/// How far back is looked: so many looks, of which no two lie closer together than this.
const LOOKS: usize = 30;
const APART_US: u64 = 1_000_000;

/// How much was left, and when. Nothing is said of what has not begun to get less.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    looks: VecDeque<(u64, u64)>,
}

impl Pace {
    /// So much is left at this moment.
    pub fn look(&mut self, now: u64, left: u64) {
        // What is more than before was not there to be done before: what is done counts from here.
        if self.looks.back().is_some_and(|(_, before)| left > *before) {
            self.looks.clear();
        }
        let apart = |(a, _): &(u64, u64), (b, _): &(u64, u64)| b.saturating_sub(*a) >= APART_US;
        if let Some([.., a, b]) = Some(self.looks.make_contiguous())
            && !apart(a, b)
        {
            self.looks.pop_back();
        }
        if self.looks.len() == LOOKS {
            self.looks.pop_front();
        }
        self.looks.push_back((now, left));
    }

    /// How long what is left takes, if some of it was seen to be done.
    pub fn left(&self) -> Option<Duration> {
        let ((began, first), (now, left)) = (*self.looks.front()?, *self.looks.back()?);
        let done = first.checked_sub(left).filter(|done| *done > 0 && left > 0)?;
        let took = u128::from(now.saturating_sub(began));
        u64::try_from(took * u128::from(left) / u128::from(done)).ok().map(Duration::from_micros)
    }
}

/// What is said of it to people.
pub fn to_go(left: Duration) -> String {
    format!("about {} to go", roughly(left))
}

/// A length of time, for people.
fn roughly(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{} s", seconds.max(1)),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn pace(looks: &[(u64, u64)]) -> Pace {
        let mut pace = Pace::default();
        looks.iter().for_each(|(at, left)| pace.look(*at * SECOND, *left));
        pace
    }

    fn seconds(looks: &[(u64, u64)]) -> Option<u64> {
        pace(looks).left().map(|left| left.as_secs())
    }

    #[test]
    fn what_is_left_takes_as_long_as_what_was_done() {
        assert_eq!(seconds(&[(0, 100), (10, 60)]), Some(15));
        assert_eq!(seconds(&[(0, 100), (10, 60), (20, 60)]), Some(30), "it went on slower");
    }

    #[test]
    fn nothing_is_said_before_something_was_done_nor_when_all_is() {
        assert_eq!(seconds(&[]), None);
        assert_eq!(seconds(&[(0, 100)]), None);
        assert_eq!(seconds(&[(0, 100), (10, 100)]), None);
        assert_eq!(seconds(&[(0, 100), (10, 0)]), None);
        let stuck: Vec<(u64, u64)> = [(0, 100)].into_iter().chain((1..=LOOKS as u64).map(|at| (at, 50))).collect();
        assert_eq!(seconds(&stuck), None, "it stopped, long ago");
    }

    #[test]
    fn what_came_in_addition_does_not_count_as_undone() {
        assert_eq!(seconds(&[(0, 100), (10, 60), (20, 500)]), None);
        assert_eq!(seconds(&[(0, 100), (10, 60), (20, 500), (30, 400)]), Some(40));
    }

    #[test]
    fn many_looks_at_once_are_one() {
        let mut pace = pace(&[(0, 1_000)]);
        (0..10_000).for_each(|look| pace.look(10 * SECOND + look, 1_000 - look / 20));
        assert_eq!((pace.looks.len(), pace.left().map(|left| left.as_secs())), (3, Some(10)));
    }
}
