//! # Turns: whose command is proposed next
//!
//! What was let in waits here until the log has room for it. A mount may send much at once, and the log takes one entry after the
//! other: were they taken in the order in which they came, everybody would wait for whoever sends most. So each session has a
//! line of its own, and they take turns:
//!
//! ```text
//!   own     Form, Members, Copied, Reap ...  --first-->+
//!   s1      a b c d e f g ...                --turn--->+--> take() --> one entry of the log
//!   s2      x                                --turn--->+
//! ```
//! This helps only as long as what waits, waits here, and not in the log: see [`Ahead`].
//!
//! Invariants:
//! * a session's commands stay in their order, and its end behind them;
//! * a session in whose line something stands stands in `order` exactly once;
//! * a turn is [`TURN_BYTES`] at most or one command: who comes now waits for one turn of each other session.

use super::messages::Item;
use crate::limits::{AHEAD_BYTES_MAX, AHEAD_COMMANDS_MAX, BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, TURN_BYTES};
use crate::types::SessionId;
use std::collections::{BTreeMap, VecDeque};

/// What waits to be proposed.
#[derive(Default)]
pub(super) struct Turns {
    /// The cluster's own.
    own: VecDeque<Item>,
    lines: BTreeMap<SessionId, VecDeque<Item>>,
    /// Whose turn comes when.
    order: VecDeque<SessionId>,
}

impl Turns {
    pub(super) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.lines.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.own.len() + self.lines.values().map(VecDeque::len).sum::<usize>()
    }

    /// Whether anything of the cluster's own waits: more of it can wait until that is done.
    pub(super) fn own_waits(&self) -> bool {
        !self.own.is_empty()
    }

    pub(super) fn push(&mut self, item: Item) {
        match &item {
            Item::Command { command, .. } => {
                let session = command.session;
                let line = self.lines.entry(session).or_default();
                if line.is_empty() {
                    self.order.push_back(session);
                }
                line.push_back(item);
            }
            Item::EndSession(session) => self.lines.get_mut(session).unwrap_or(&mut self.own).push_back(item),
            _ => self.own.push_back(item),
        }
    }

    /// As much as one entry takes.
    pub(super) fn take(&mut self) -> Vec<Item> {
        let mut entry = Entry::default();
        entry.take_from(&mut self.own, BATCH_BYTES_MAX);
        while !entry.is_full()
            && let Some(session) = self.order.pop_front()
        {
            let Some(line) = self.lines.get_mut(&session) else { continue };
            entry.take_from(line, TURN_BYTES);
            if line.is_empty() {
                self.lines.remove(&session);
            } else {
                self.order.push_back(session);
            }
        }
        entry.items
    }

    /// All that waits; a session's in their order.
    pub(super) fn take_all(&mut self) -> Vec<Item> {
        let Turns { own, lines, .. } = std::mem::take(self);
        own.into_iter().chain(lines.into_values().flatten()).collect()
    }
}

#[derive(Default)]
struct Entry {
    items: Vec<Item>,
    bytes: usize,
}

impl Entry {
    fn is_full(&self) -> bool {
        self.items.len() >= BATCH_COMMANDS_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    /// The first of the line, and as many behind it as are `most` bytes together; the entry may grow over its bound by one
    /// command.
    fn take_from(&mut self, line: &mut VecDeque<Item>, most: usize) {
        let mut taken = 0;
        while !self.is_full()
            && let Some(weight) = line.front().map(weight_of)
            && (taken == 0 || taken + weight <= most)
        {
            taken += weight;
            self.bytes += weight;
            self.items.extend(line.pop_front());
        }
    }
}

fn weight_of(item: &Item) -> usize {
    if let Item::Command { command, .. } = item { command.weight() } else { 128 }
}

/// What a leader has proposed and does not know to be committed: the log is one line for all, so that it is kept short. While it
/// is full commands wait in their [`Turns`], and so do those who sent them.
#[derive(Default)]
pub(super) struct Ahead(VecDeque<Proposed>);

struct Proposed {
    index: u64,
    bytes: usize,
    commands: usize,
}

impl Ahead {
    pub(super) fn proposed(&mut self, index: u64, items: &[Item]) {
        let bytes = items.iter().map(weight_of).sum();
        self.0.push_back(Proposed { index, bytes, commands: items.len() });
    }

    /// Whether there is room behind this entry, which was committed last.
    pub(super) fn has_room(&mut self, committed: u64) -> bool {
        while self.0.front().is_some_and(|first| first.index <= committed) {
            self.0.pop_front();
        }
        let (bytes, commands) = self.0.iter().fold((0, 0), |(b, c), next| (b + next.bytes, c + next.commands));
        bytes < AHEAD_BYTES_MAX && commands < AHEAD_COMMANDS_MAX
    }
}
