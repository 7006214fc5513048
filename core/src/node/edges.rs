//! One edge of the tree: what is said over it arrives exactly once and in order, though the network may lose, repeat and
//! reorder. Each side numbers what it says, says again what the other has not confirmed, and hears the next number only.

use crate::token::Message;
use std::collections::VecDeque;

/// What was not confirmed for this long is said again.
const AGAIN_US: u64 = 300_000;
/// Whoever confirms nothing for this long does not hear, or is not heard.
const PARTED_US: u64 = 2_000_000;

/// What travels: some messages under a number (0: none), and the last number heard from the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    pub number: u64,
    pub heard: u64,
    pub messages: Vec<Message>,
}

#[derive(Debug, Default)]
pub(super) struct Edge {
    sent: u64,
    unconfirmed: VecDeque<(u64, Vec<Message>)>,
    /// When something was sent, or sent again, last; and since when nothing of that was confirmed.
    sent_at: u64,
    silent_since: u64,
    heard: u64,
    owes_word: bool,
}

impl Edge {
    pub(super) fn say(&mut self, messages: Vec<Message>, now: u64) -> Parcel {
        self.sent += 1;
        if self.unconfirmed.is_empty() {
            (self.sent_at, self.silent_since) = (now, now);
        }
        self.unconfirmed.push_back((self.sent, messages.clone()));
        self.owes_word = false;
        Parcel { number: self.sent, heard: self.heard, messages }
    }

    /// What is new of it.
    pub(super) fn hear(&mut self, parcel: Parcel, now: u64) -> Option<Vec<Message>> {
        while self.unconfirmed.front().is_some_and(|(number, _)| *number <= parcel.heard) {
            self.unconfirmed.pop_front();
            self.silent_since = now;
        }
        if parcel.number == 0 {
            return None;
        }
        self.owes_word = true;
        if parcel.number != self.heard + 1 {
            return None;
        }
        self.heard = parcel.number;
        Some(parcel.messages)
    }

    /// The word that something was heard, if nothing else said so.
    pub(super) fn word(&mut self) -> Option<Parcel> {
        std::mem::take(&mut self.owes_word).then_some(Parcel { number: 0, heard: self.heard, messages: Vec::new() })
    }

    /// Whether the other side has confirmed nothing for long.
    pub(super) fn is_parted(&self, now: u64) -> bool {
        !self.unconfirmed.is_empty() && now >= self.silent_since + PARTED_US
    }

    /// What is to be said again: at once, where it is known that something was lost.
    pub(super) fn again(&mut self, lost: bool, now: u64) -> Vec<Parcel> {
        if self.unconfirmed.is_empty() || !(lost || now >= self.sent_at + AGAIN_US) {
            return Vec::new();
        }
        self.sent_at = now;
        let heard = self.heard;
        let parcel =
            |(number, messages): &(u64, Vec<Message>)| Parcel { number: *number, heard, messages: messages.clone() };
        self.unconfirmed.iter().map(parcel).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{Mode, Say};
    use crate::types::Ino;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Event {
        Say(bool),
        /// One of the parcels on the way arrives, and stays on the way or not.
        Arrive {
            at: prop::sample::Index,
            twice: bool,
        },
        Lose(prop::sample::Index),
        Tick,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            any::<bool>().prop_map(Event::Say),
            (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(at, twice)| Event::Arrive { at, twice }),
            any::<prop::sample::Index>().prop_map(Event::Lose),
            Just(Event::Tick),
        ]
    }

    /// Two ends, and what is on its way to each.
    #[derive(Default)]
    struct Pair {
        ends: [Edge; 2],
        way: Vec<(usize, Parcel)>,
        heard: [Vec<Ino>; 2],
        said: [u64; 2],
        now: u64,
    }

    impl Pair {
        fn say(&mut self, by: usize) {
            self.said[by] += 1;
            let message = Message { object: Ino(self.said[by]), say: Say::Want(Mode::Shared) };
            let parcel = self.ends[by].say(vec![message], self.now);
            self.way.push((1 - by, parcel));
        }

        fn arrive(&mut self, to: usize, parcel: Parcel) {
            if let Some(messages) = self.ends[to].hear(parcel, self.now) {
                self.heard[to].extend(messages.into_iter().map(|message| message.object));
            }
            let word = self.ends[to].word();
            self.way.extend(word.map(|word| (1 - to, word)));
        }

        fn tick(&mut self) {
            self.now += AGAIN_US;
            for end in 0..2 {
                let again = self.ends[end].again(false, self.now);
                self.way.extend(again.into_iter().map(|parcel| (1 - end, parcel)));
            }
        }
    }

    proptest! {
        #[test]
        fn everything_is_heard_once_and_in_order(events in prop::collection::vec(event(), 0..200)) {
            let mut pair = Pair::default();
            for event in events {
                match event {
                    Event::Say(first) => pair.say(usize::from(first)),
                    Event::Arrive { at, twice } if !pair.way.is_empty() => {
                        let at = at.index(pair.way.len());
                        let (to, parcel) = if twice { pair.way[at].clone() } else { pair.way.swap_remove(at) };
                        pair.arrive(to, parcel);
                    }
                    Event::Lose(at) if !pair.way.is_empty() => {
                        pair.way.swap_remove(at.index(pair.way.len()));
                    }
                    Event::Tick => pair.tick(),
                    _ => {}
                }
            }
            // From now on nothing is lost.
            for _ in 0..3 {
                pair.tick();
                while !pair.way.is_empty() {
                    let (to, parcel) = pair.way.remove(0);
                    pair.arrive(to, parcel);
                }
            }
            for end in 0..2 {
                let all: Vec<Ino> = (1..=pair.said[1 - end]).map(Ino).collect();
                prop_assert_eq!(&pair.heard[end], &all);
                prop_assert!(pair.ends[end].unconfirmed.is_empty(), "confirmed, and forgotten");
            }
        }
    }
}
