//! The part of the Raft log that is in memory: everything after the last compaction.

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use std::collections::VecDeque;

/// Entries can be read as soon as they are appended here; what is durable is the machine's business.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) hard_state: HardState,
    pub(super) conf_state: ConfState,
    /// Index and term of the last entry that is not here any more.
    start: (u64, u64),
    entries: VecDeque<Entry>,
    bytes: usize,
    /// What a snapshot taken now would hold: the state store's index and term.
    pub(super) stored: (u64, u64),
}

impl Log {
    pub(super) fn new(hard_state: HardState, conf_state: ConfState, start: (u64, u64), entries: Vec<Entry>) -> Log {
        let mut log = Log { hard_state, conf_state, start, stored: start, ..Log::default() };
        log.append(&entries);
        log
    }

    pub(super) fn is_empty(&self) -> bool {
        self.last() == 0
    }

    pub(super) fn last(&self) -> u64 {
        self.start.0 + self.entries.len() as u64
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Up to here it was compacted.
    pub(super) fn start_index(&self) -> u64 {
        self.start.0
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Entries as Raft hands them out: what stood at their indexes or behind is void.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        debug_assert!(first.index > self.start.0 && first.index <= self.last() + 1, "a gap in the log");
        while self.last() >= first.index {
            self.bytes -= self.entries.pop_back().map_or(0, |e| e.data.len());
        }
        self.bytes += entries.iter().map(|e| e.data.len()).sum::<usize>();
        self.entries.extend(entries.iter().cloned());
    }

    pub(super) fn reset_to(&mut self, start: (u64, u64)) {
        self.entries.clear();
        self.bytes = 0;
        self.start = start;
        self.stored = start;
    }

    /// Forgets entries up to and with `index`; answers the new start, if anything went.
    pub(super) fn compact(&mut self, index: u64) -> Option<(u64, u64)> {
        let index = index.min(self.last());
        if index <= self.start.0 {
            return None;
        }
        let term = self.term_of(index)?;
        while self.start.0 < index {
            self.bytes -= self.entries.pop_front().map_or(0, |e| e.data.len());
            self.start.0 += 1;
        }
        self.start = (index, term);
        Some(self.start)
    }

    pub(super) fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.start.0 {
            return Some(self.start.1);
        }
        let at = index.checked_sub(self.start.0 + 1)?;
        self.entries.get(at as usize).map(|e| e.term)
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.start.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        let max = max_size.into().unwrap_or(u64::MAX);
        let mut size = 0u64;
        let from = (low - self.start.0 - 1) as usize;
        let to = (high - self.start.0 - 1) as usize;
        let mut taken = Vec::new();
        for entry in self.entries.range(from..to) {
            size += entry.data.len() as u64 + 32;
            if size > max && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
        Ok(taken)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.start.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        self.term_of(index).ok_or(raft::Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.start.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// The message that starts a transfer carries no state: who gets it fetches that from the sender, as of then.
    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        if self.stored.0 < request_index || self.stored.0 == 0 {
            return Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut snapshot = Snapshot::default();
        let meta = snapshot.mut_metadata();
        meta.index = self.stored.0;
        meta.term = self.stored.1;
        meta.set_conf_state(self.conf_state.clone());
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index, term, data: vec![0u8; 10].into(), ..Entry::default() }
    }

    fn log() -> Log {
        Log::new(HardState::default(), ConfState::default(), (0, 0), (1..=5).map(|i| entry(i, 1)).collect())
    }

    #[test]
    fn what_is_appended_again_replaces_what_followed() {
        let mut log = log();
        log.append(&[entry(3, 2)]);
        assert_eq!((log.last(), log.term_of(3), log.bytes()), (3, Some(2), 30));
    }

    #[test]
    fn compaction_remembers_the_last_term() {
        let mut log = log();
        assert_eq!(log.compact(3), Some((3, 1)));
        assert_eq!(log.compact(2), None);
        assert_eq!(log.term(3).unwrap(), 1);
        assert!(matches!(log.term(2), Err(raft::Error::Store(StorageError::Compacted))));
        assert!(log.entries(3, 5, None, GetEntriesContext::empty(false)).is_err());
        assert_eq!(log.entries(4, 6, None, GetEntriesContext::empty(false)).unwrap().len(), 2);
    }
}
