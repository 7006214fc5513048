//! # The state as it is behind one entry
//!
//! Who checks a state walks over all of it, for seconds or minutes, and who compares two nodes' must see both behind the same
//! entry. So a state is kept as it is at that moment, which costs no more than what is not in the state store yet; nobody waits.

use super::NodeMachine;
use super::io::Output;
use std::collections::BTreeSet;

/// Requests that wait for an entry. Of more, that for the last one is refused.
const WAITING_MAX: usize = 64;

/// Which entries are waited for, by whom.
pub(super) type Freezing = BTreeSet<(u64, u64)>;

impl NodeMachine {
    pub(super) fn freeze(&mut self, request: u64, at: Option<u64>) {
        let at = at.unwrap_or(self.applied.0);
        if at <= self.applied.0 {
            return self.tell_frozen(request, at);
        }
        self.freezing.insert((at, request));
        if self.freezing.len() > WAITING_MAX
            && let Some((_, request)) = self.freezing.pop_last()
        {
            self.out.push(Output::Frozen { request, state: None });
        }
    }

    /// The state is that of another entry.
    pub(super) fn freeze_what_was_asked(&mut self) {
        while let Some((at, request)) = self.freezing.first().copied()
            && at <= self.applied.0
        {
            self.freezing.pop_first();
            self.tell_frozen(request, at);
        }
    }

    fn tell_frozen(&mut self, request: u64, at: u64) {
        // While a state is fetched from another node the store may be another one at any moment.
        let can_be = at == self.applied.0 && self.snapshot.is_none();
        let state = can_be.then(|| self.shared.read().freeze(at));
        self.out.push(Output::Frozen { request, state });
    }
}
