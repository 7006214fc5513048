//! Whether locks exclude: no two programs hold ranges against each other.
//!
//! A lock is surely held from when the call that took it returned until a call that may give it back begins. Where a session
//! ended in between, or the lock was broken, the program cannot know until when it held; such a lock is not looked at.

use super::super::history::{Act, History, Record, Saw};
use std::collections::BTreeMap;

struct Held {
    client: u64,
    exclusive: bool,
    from: u64,
    to: u64,
}

pub(super) fn check(history: &History) -> Result<(), String> {
    let mut by_range: BTreeMap<u8, Vec<Held>> = BTreeMap::new();
    let mut now: BTreeMap<(u64, u8), (bool, u64)> = BTreeMap::new();
    // In the order in which each client's calls began, which is its own order.
    for record in &history.records {
        match (&record.act, &record.saw) {
            (Act::Lock { range, exclusive, .. }, Saw::Done) => {
                end(&mut by_range, &mut now, record, *range);
                now.insert((record.client, *range), (*exclusive, record.ended));
            }
            (Act::Unlock { range }, Saw::Done) => end(&mut by_range, &mut now, record, *range),
            // Of these nothing is known: the session was over, perhaps long before. (One that failed changed nothing.)
            (Act::Lock { range, .. } | Act::Unlock { range }, Saw::Nothing) => {
                now.remove(&(record.client, *range));
            }
            (Act::LocksLost, _) => now.retain(|(client, _), _| *client != record.client),
            _ => {}
        }
    }
    for (range, mut held) in by_range {
        held.sort_by_key(|lock| lock.from);
        for (at, lock) in held.iter().enumerate() {
            let later = held[at + 1..].iter().take_while(|other| other.from < lock.to);
            if let Some(other) = later.filter(|o| o.client != lock.client).find(|o| o.exclusive || lock.exclusive) {
                return Err(format!(
                    "clients {} and {} both hold range {range} from {} us on, one of them exclusively",
                    lock.client, other.client, other.from
                ));
            }
        }
    }
    Ok(())
}

/// The client's lock on the range, if it has one, ends at the latest when this call began.
fn end(by_range: &mut BTreeMap<u8, Vec<Held>>, now: &mut BTreeMap<(u64, u8), (bool, u64)>, record: &Record, range: u8) {
    if let Some((exclusive, from)) = now.remove(&(record.client, range)) {
        let held = Held { client: record.client, exclusive, from, to: record.began };
        by_range.entry(range).or_default().push(held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_holders_are_seen() {
        let mut history = History::default();
        let mut call = |client, began, ended, act| {
            let entry = history.begin(client, began, act);
            history.end(entry, ended, Saw::Done);
        };
        let lock = |exclusive| Act::Lock { range: 1, exclusive, wait: true };
        call(1, 0, 10, lock(false));
        call(2, 0, 20, lock(false));
        call(1, 30, 40, Act::Unlock { range: 1 });
        call(2, 50, 60, Act::Unlock { range: 1 });
        call(1, 35, 55, lock(true));
        call(1, 90, 95, Act::Unlock { range: 1 });
        assert_eq!(check(&history), Ok(()));
        let entry = history.begin(3, 60, lock(false));
        history.end(entry, 70, Saw::Done);
        let entry = history.begin(3, 80, Act::Unlock { range: 1 });
        history.end(entry, 85, Saw::Done);
        assert!(check(&history).is_err());
    }
}
