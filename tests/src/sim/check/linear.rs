//! Whether a history of one object could have happened one call at a time (linearizability), after Wing and Gong, with
//! Lowe's memory of what was tried.
//!
//! Each call takes effect at one moment between its begin and its end. The search places one call after the other: next may
//! only be a call that began before every unplaced one ended. Calls with an unknown outcome may come at any time after
//! their begin, or never; they are tried last, so that a history without need for them is found at once.

use super::super::rng::mix;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Calls placed in one search before it is given up.
const STEPS_MAX: u64 = 400_000;

/// One call on the object.
#[derive(Clone, Debug)]
pub(super) struct Call<O> {
    pub(super) began: u64,
    /// `u64::MAX`: nobody knows.
    pub(super) ended: u64,
    pub(super) what: O,
}

/// What an object is and what calls do to it.
pub(super) trait Model {
    type State: Clone + Hash;
    type What;

    fn start(&self) -> Self::State;

    /// The state afterwards, if the call could have seen what it saw in this state.
    fn apply(&self, state: &Self::State, what: &Self::What, at: usize) -> Option<Self::State>;
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Order,
    /// No order explains it; the furthest that one came, in calls, and the call that ended first of those left.
    None {
        placed: usize,
        stuck_at: usize,
    },
    GaveUp,
}

struct Frame<S> {
    state: S,
    candidates: Vec<usize>,
    next: usize,
}

struct Search<'a, M: Model> {
    model: &'a M,
    calls: &'a [Call<M::What>],
    /// By begin: calls whose outcome is known, and the others.
    closed: Vec<usize>,
    open: Vec<usize>,
    by_end: Vec<usize>,
    placed: Vec<bool>,
    tried: HashSet<(u64, u64)>,
    done: u64,
}

pub(super) fn search<M: Model>(model: &M, calls: &[Call<M::What>]) -> Found {
    let mut closed: Vec<usize> = (0..calls.len()).filter(|i| calls[*i].ended != u64::MAX).collect();
    let mut open: Vec<usize> = (0..calls.len()).filter(|i| calls[*i].ended == u64::MAX).collect();
    closed.sort_by_key(|i| calls[*i].began);
    open.sort_by_key(|i| calls[*i].began);
    let mut by_end = closed.clone();
    by_end.sort_by_key(|i| calls[*i].ended);
    let placed = vec![false; calls.len()];
    Search { model, calls, closed, open, by_end, placed, tried: HashSet::new(), done: 0 }.run()
}

impl<M: Model> Search<'_, M> {
    fn run(mut self) -> Found {
        let total = self.closed.len();
        let (mut known_placed, mut best, mut stuck_at) = (0, 0, 0);
        let mut first_unended = 0;
        let mut first_unbegun = 0;
        let mut stack: Vec<Frame<M::State>> = Vec::new();
        let mut path: Vec<usize> = Vec::new();
        let start = self.model.start();
        stack.push(Frame {
            candidates: self.candidates(&mut first_unended, &mut first_unbegun),
            state: start,
            next: 0,
        });
        let mut steps = 0;
        while let Some(frame) = stack.last_mut() {
            if known_placed == total {
                return Found::Order;
            }
            let Some(call) = frame.candidates.get(frame.next).copied() else {
                stack.pop();
                if let Some(undone) = path.pop() {
                    self.placed[undone] = false;
                    self.done ^= bit(undone);
                    known_placed -= usize::from(self.calls[undone].ended != u64::MAX);
                    (first_unended, first_unbegun) = (0, 0);
                }
                continue;
            };
            frame.next += 1;
            let Some(state) = self.model.apply(&frame.state, &self.calls[call].what, call) else { continue };
            let done = self.done ^ bit(call);
            if !self.tried.insert((done, hash_of(&state))) {
                continue;
            }
            steps += 1;
            if steps > STEPS_MAX {
                return Found::GaveUp;
            }
            self.placed[call] = true;
            self.done = done;
            path.push(call);
            known_placed += usize::from(self.calls[call].ended != u64::MAX);
            let candidates = self.candidates(&mut first_unended, &mut first_unbegun);
            if known_placed > best {
                best = known_placed;
                stuck_at = self.by_end.get(first_unended).copied().unwrap_or(0);
            }
            stack.push(Frame { state, candidates, next: 0 });
        }
        if total == 0 { Found::Order } else { Found::None { placed: best, stuck_at } }
    }

    /// What may come next: began before every unplaced call ended. Those that must end soonest first.
    fn candidates(&self, first_unended: &mut usize, first_unbegun: &mut usize) -> Vec<usize> {
        while self.by_end.get(*first_unended).is_some_and(|i| self.placed[*i]) {
            *first_unended += 1;
        }
        while self.closed.get(*first_unbegun).is_some_and(|i| self.placed[*i]) {
            *first_unbegun += 1;
        }
        let Some(end) = self.by_end.get(*first_unended).map(|i| self.calls[*i].ended) else { return Vec::new() };
        let may = |i: &&usize| self.calls[**i].began < end;
        let mut next: Vec<usize> =
            self.closed[*first_unbegun..].iter().take_while(may).filter(|i| !self.placed[**i]).copied().collect();
        next.sort_by_key(|i| self.calls[*i].ended);
        next.extend(self.open.iter().take_while(may).filter(|i| !self.placed[**i]));
        next
    }
}

fn bit(call: usize) -> u64 {
    mix(call as u64 + 0x1234_5678)
}

fn hash_of(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register: `Ok` is a write, `Err` a read that saw the value.
    struct Register;

    impl Model for Register {
        type State = u32;
        type What = Result<u32, u32>;

        fn start(&self) -> u32 {
            0
        }

        fn apply(&self, state: &u32, what: &Result<u32, u32>, _: usize) -> Option<u32> {
            match what {
                Ok(written) => Some(*written),
                Err(seen) => (seen == state).then_some(*state),
            }
        }
    }

    fn call(began: u64, ended: u64, what: Result<u32, u32>) -> Call<Result<u32, u32>> {
        Call { began, ended, what }
    }

    #[test]
    fn a_read_during_a_write_may_see_either() {
        for seen in [0, 1] {
            let calls = [call(0, 10, Ok(1)), call(2, 5, Err(seen))];
            assert_eq!(search(&Register, &calls), Found::Order);
        }
    }

    #[test]
    fn a_read_after_a_write_must_see_it() {
        let calls = [call(0, 10, Ok(1)), call(11, 12, Err(0))];
        assert!(matches!(search(&Register, &calls), Found::None { placed: 1, .. }));
    }

    #[test]
    fn what_one_read_saw_the_next_one_sees() {
        let calls = [call(0, 100, Ok(1)), call(1, 2, Err(1)), call(3, 4, Err(0))];
        assert!(matches!(search(&Register, &calls), Found::None { .. }));
    }

    #[test]
    fn an_unknown_write_may_come_late_or_never() {
        let late = [call(0, u64::MAX, Ok(1)), call(1, 2, Err(0)), call(50, 51, Err(1))];
        assert_eq!(search(&Register, &late), Found::Order);
        let never = [call(0, u64::MAX, Ok(1)), call(50, 51, Err(0))];
        assert_eq!(search(&Register, &never), Found::Order);
    }
}
