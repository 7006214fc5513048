//! The commands that were sent and not answered: kept until they are, in the order of their numbers.
//!
//! They are no more at once than the window lets through, in number and in bytes: what is more would only wait elsewhere, before
//! others'. And they are sent again only where the first of them stays the first for a while: answers come in order, so else
//! nothing is lost, however slow it is; and what is sent twice makes it slower.

use super::CallId;
use crate::limits::{SESSION_WINDOW, SESSION_WINDOW_BYTES};
use crate::session::Command;
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct Unanswered {
    commands: BTreeMap<u64, (CallId, Command)>,
    bytes: usize,
    /// Since when the first of them is the first.
    since: u64,
}

impl Unanswered {
    /// Whether another command may be sent: one always may.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.commands.is_empty() || (self.commands.len() < SESSION_WINDOW && self.bytes + bytes <= SESSION_WINDOW_BYTES)
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.commands.keys().next().copied()
    }

    pub(super) fn commands(&self) -> impl Iterator<Item = &Command> {
        self.commands.values().map(|(_, command)| command)
    }

    pub(super) fn sent(&mut self, call: CallId, command: Command, now: u64) {
        if self.commands.is_empty() {
            self.since = now;
        }
        self.bytes += command.weight();
        self.commands.insert(command.number, (call, command));
    }

    pub(super) fn sent_again(&mut self, now: u64) {
        self.since = now;
    }

    pub(super) fn answered(&mut self, number: u64, now: u64) -> Option<(CallId, Command)> {
        if self.first() == Some(number) {
            self.since = now;
        }
        let (call, command) = self.commands.remove(&number)?;
        self.bytes -= command.weight();
        Some((call, command))
    }

    /// Whether the first of them waits for so long.
    pub(super) fn is_stuck(&self, for_us: u64, now: u64) -> bool {
        !self.commands.is_empty() && now >= self.since + for_us
    }

    /// The calls that these were for, which nobody answers any more.
    pub(super) fn give_up(&mut self) -> Vec<CallId> {
        std::mem::take(self).commands.into_values().map(|(call, _)| call).collect()
    }
}
