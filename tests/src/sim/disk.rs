//! One node's disk: what was synced survives a crash, the rest may or may not.
//!
//! * The Raft log: writes become durable in order, each when a sync that began after it completes. A crash keeps a prefix of those
//!   under way, each whole, and tears the next one: the real log cuts all of that off, the state of the vote with the entries, and
//!   what is behind it. Only where more was written behind it before the sync, and is there, the log goes on to the last whole write,
//!   and lacks the entries of the torn one: these and what follows them are cut off, the state of the vote is the newest
//!   (`node/storage/raft_log`).
//! * The state store: changes are readable once applied and durable at the next checkpoint; a crash goes back to that one.
//! * Slices: each is there when a sync that began after it was written completes. A crash before that loses it, or tears it, and
//!   the next start drops what is torn; or all of it is there, though nobody was told.
//! * The membership flag: durable when said so.

use super::rng::Rng;
use baton_core::meta::{Fault, Key, Store, Value};
use baton_core::node::{Base, Changes, Fit, Freeze, LogWrite, Recovered};
use baton_core::types::{NodeId, SliceId};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, RwLock};

pub(super) type State = BTreeMap<Key, Value>;

/// The state store as the machine reads it.
#[derive(Debug, Default)]
struct Readable(RwLock<State>);

impl Readable {
    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

impl Freeze for Readable {
    fn freeze(self: Arc<Self>) -> Base {
        Arc::new(Readable(RwLock::new(self.with(|state| state.clone()))))
    }
}

impl Store for Readable {
    fn get(&self, key: &Key) -> Result<Option<Value>, Fault> {
        Ok(self.with(|state| state.get(key).cloned()))
    }

    fn range(&self, from: &Key, to: &Key, max: usize) -> Result<Vec<(Key, Value)>, Fault> {
        if from >= to {
            return Ok(Vec::new());
        }
        let pairs = |state: &mut State| {
            state.range(from.clone()..to.clone()).take(max).map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        Ok(self.with(pairs))
    }
}

#[derive(Debug, Default)]
pub(super) struct Disk {
    /// Everything that is durable in the log, as one write: entries after `reset_to`.
    log: LogWrite,
    unsynced: VecDeque<LogWrite>,
    /// How many of them the sync under way will make durable; 0: there is none.
    syncing: usize,
    member: bool,
    readable: Arc<Readable>,
    /// Index and term of what is readable, and of what is durable.
    readable_at: (u64, u64),
    durable: State,
    durable_at: (u64, u64),
    /// Where the log ended when a state of this entry was taken from another node.
    imported_over: Option<(u64, (u64, u64))>,
    pub(super) slices: BTreeMap<SliceId, Bytes>,
    /// Slices that are written and not synced, by the number of the write.
    written: BTreeMap<u64, (SliceId, Bytes)>,
    writes: u64,
    /// Those whose bytes are not what they were; their checksums say so to who reads them.
    pub(super) damaged: BTreeSet<SliceId>,
    /// Those of them that somebody has read.
    found: RefCell<BTreeSet<SliceId>>,
    scrubbed: Option<SliceId>,
}

impl Disk {
    pub(super) fn write_log(&mut self, write: LogWrite) {
        self.unsynced.push_back(write);
    }

    /// Starts a sync of all that is written, if none is under way and there is anything: one for many, as the real log does.
    pub(super) fn start_sync(&mut self) -> bool {
        if self.syncing > 0 {
            return false;
        }
        self.syncing = self.unsynced.len();
        self.syncing > 0
    }

    /// The sync under way is done: the number of its last write.
    pub(super) fn log_synced(&mut self) -> Option<u64> {
        let mut last = None;
        for _ in 0..std::mem::take(&mut self.syncing) {
            let write = self.unsynced.pop_front()?;
            last = Some(write.number);
            self.keep(write);
        }
        last
    }

    fn keep(&mut self, write: LogWrite) {
        if write.reset_to.is_some() {
            self.log.entries.clear();
            self.log.reset_to = write.reset_to;
        }
        if let Some(first) = write.entries.first() {
            let keep = first.index.saturating_sub(self.start().0 + 1) as usize;
            assert!(keep <= self.log.entries.len(), "a log was written with a gap before entry {}", first.index);
            self.log.entries.truncate(keep);
            self.log.entries.extend(write.entries);
        }
        if write.hard_state.is_some() {
            self.log.hard_state = write.hard_state;
        }
    }

    fn last(&self) -> u64 {
        self.start().0 + self.log.entries.len() as u64
    }

    fn start(&self) -> (u64, u64) {
        self.log.reset_to.unwrap_or_default()
    }

    pub(super) fn compact_log(&mut self, at: (u64, u64)) {
        let gone = at.0.saturating_sub(self.start().0) as usize;
        if gone > 0 && gone <= self.log.entries.len() {
            self.log.entries.drain(..gone);
            self.log.reset_to = Some(at);
        }
    }

    pub(super) fn become_member(&mut self) {
        self.member = true;
    }

    /// Changes up to `at`; those that a snapshot overtook are nothing.
    pub(super) fn store(&mut self, at: (u64, u64), changes: &Changes, lose_one: bool) {
        if at.0 <= self.readable_at.0 {
            return;
        }
        let lost = lose_one.then(|| changes.keys().find(|k| matches!(k, Key::Entry(..)))).flatten();
        self.readable.with(|state| {
            for (key, value) in changes.iter().filter(|(key, _)| Some(*key) != lost) {
                match value {
                    Some(value) => state.insert(key.clone(), value.clone()),
                    None => state.remove(key),
                };
            }
        });
        self.readable_at = at;
    }

    /// What is readable becomes durable: up to which index, if that is news.
    pub(super) fn checkpoint(&mut self) -> Option<u64> {
        if self.durable_at == self.readable_at {
            return None;
        }
        self.durable = self.readable.with(|state| state.clone());
        self.durable_at = self.readable_at;
        Some(self.durable_at.0)
    }

    /// A copy of what is readable: what another node fetches.
    pub(super) fn snapshot(&self) -> Option<((u64, u64), State)> {
        (self.readable_at.0 > 0).then(|| (self.readable_at, self.readable.with(|state| state.clone())))
    }

    /// Another node's state takes the place of this one's, durably: which there is now, and the slices that this node should
    /// have kept before and should not any more. What is not newer is not taken: what is here takes its part.
    pub(super) fn install(&mut self, at: (u64, u64), state: State, me: NodeId) -> ((u64, u64), Vec<SliceId>) {
        if at.0 <= self.readable_at.0 {
            return (self.readable_at, Vec::new());
        }
        let kept_in = |state: &State| {
            let kept = |(key, value): (&Key, &Value)| match (key, value) {
                (Key::Slice(id), Value::Slice(info)) if info.nodes.contains(&me) => Some(*id),
                _ => None,
            };
            state.iter().filter_map(kept).collect::<BTreeSet<SliceId>>()
        };
        let (before, after) = (self.readable.with(|state| kept_in(state)), kept_in(&state));
        self.imported_over = Some((self.start().0 + self.log.entries.len() as u64, at));
        self.durable = state.clone();
        self.durable_at = at;
        self.readable.with(|readable| *readable = state);
        self.readable_at = at;
        (at, before.difference(&after).copied().collect())
    }

    /// The power goes: some of what was under way made it. What became of the rest, for who counts.
    pub(super) fn crash(&mut self, rng: &mut Rng) -> Vec<&'static str> {
        let mut left = Vec::new();
        for (id, data) in std::mem::take(&mut self.written).into_values() {
            left.push(match rng.below(3) {
                0 => "unsynced slice lost",
                1 => "unsynced slice torn",
                _ => {
                    self.put_slice(id, data);
                    "unsynced slice there"
                }
            });
        }
        self.syncing = rng.below(self.unsynced.len() + 1);
        self.log_synced();
        let torn = std::mem::take(&mut self.unsynced);
        if !torn.is_empty() {
            left.push("torn log write");
        }
        if torn.len() > 1 && rng.one_in(2) {
            left.push("torn log write in the middle");
            self.keep_behind_a_hole(torn, rng);
        }
        self.found.get_mut().clear();
        // The machine that is gone may still be read by nobody; the new one gets a store of its own.
        self.readable = Arc::new(Readable(RwLock::new(self.durable.clone())));
        self.readable_at = self.durable_at;
        left
    }

    /// The middle of a write is missing, its end and some writes behind it are there: what became of the log.
    fn keep_behind_a_hole(&mut self, mut torn: VecDeque<LogWrite>, rng: &mut Rng) {
        torn.truncate(2 + rng.below(torn.len() - 1));
        for (at, mut write) in torn.into_iter().enumerate() {
            if write.reset_to.is_some() {
                self.keep(LogWrite { entries: Vec::new(), hard_state: None, ..write.clone() });
            }
            if let Some(first) = write.entries.first() {
                self.log.entries.truncate(first.index.saturating_sub(self.start().0 + 1) as usize);
                if at == 0 || first.index > self.last() + 1 {
                    write.entries.clear();
                }
            }
            self.keep(LogWrite { reset_to: None, ..write });
        }
        let last = self.last();
        if let Some(hard_state) = &mut self.log.hard_state {
            hard_state.commit = hard_state.commit.min(last);
        }
    }

    /// A copy that can be served. One that is damaged is found out by this.
    pub(super) fn slice(&self, id: SliceId) -> Option<&Bytes> {
        if self.damaged.contains(&id) {
            self.found.borrow_mut().insert(id);
        }
        self.sound(id)
    }

    /// The same, for who knows without reading.
    pub(super) fn sound(&self, id: SliceId) -> Option<&Bytes> {
        self.slices.get(&id).filter(|_| !self.damaged.contains(&id))
    }

    /// It is here, and was not found damaged.
    pub(super) fn is_good(&self, id: SliceId) -> bool {
        self.slices.contains_key(&id) && !self.found.borrow().contains(&id)
    }

    /// Reads some slices back, these behind those of the last time.
    pub(super) fn scrub(&mut self, some: usize) {
        let from = self.scrubbed.map_or(Bound::Unbounded, Bound::Excluded);
        let next: Vec<SliceId> = self.slices.range((from, Bound::Unbounded)).map(|(id, _)| *id).take(some).collect();
        self.scrubbed = next.last().copied().filter(|_| next.len() == some);
        self.found.get_mut().extend(next.into_iter().filter(|id| self.damaged.contains(id)));
    }

    fn is_sound_again(&mut self, id: SliceId) {
        self.damaged.remove(&id);
        self.found.get_mut().remove(&id);
    }

    /// Writes a slice: the number of the write, for when it is synced.
    pub(super) fn write_slice(&mut self, id: SliceId, data: Bytes) -> u64 {
        self.writes += 1;
        self.written.insert(self.writes, (id, data));
        self.writes
    }

    pub(super) fn slice_synced(&mut self, write: u64) {
        if let Some((id, data)) = self.written.remove(&write) {
            self.put_slice(id, data);
        }
    }

    /// One that is synced already.
    pub(super) fn put_slice(&mut self, id: SliceId, data: Bytes) {
        self.slices.insert(id, data);
        self.is_sound_again(id);
    }

    pub(super) fn drop_slice(&mut self, id: SliceId) {
        self.slices.remove(&id);
        self.is_sound_again(id);
    }

    /// Some bits of it change.
    pub(super) fn damage_slice(&mut self, id: SliceId) {
        if let Some(data) = self.slices.get_mut(&id) {
            *data = data.iter().map(|byte| byte ^ 0x10).collect();
            self.damaged.insert(id);
        }
    }

    /// All but the slices is found damaged: it is moved away.
    pub(super) fn lose_log(&mut self) {
        let (slices, damaged) = (std::mem::take(&mut self.slices), std::mem::take(&mut self.damaged));
        *self = Disk { slices, damaged, ..Disk::default() }; // what was found is found again
    }

    /// The process ends in good order: nothing is left unwritten.
    pub(super) fn flush(&mut self) {
        std::mem::take(&mut self.written).into_values().for_each(|(id, data)| self.put_slice(id, data));
        self.syncing = self.unsynced.len();
        self.log_synced();
        self.checkpoint();
    }

    /// Whether the node that has this disk votes.
    pub(super) fn votes(&self) -> bool {
        self.member
    }

    pub(super) fn is_empty(&self) -> bool {
        self.log.hard_state.is_none() && self.durable_at.0 == 0
    }

    /// What a start finds, made to fit as a node's shell does it.
    pub(super) fn recover(&mut self, claims_membership: bool) -> Recovered {
        let found = self.found(claims_membership);
        let Fit::Reset { votes_on, .. } = found.fit() else { return found };
        self.member &= votes_on;
        self.log.entries.clear();
        self.log.reset_to = Some(self.durable_at);
        if let Some(hard_state) = &mut self.log.hard_state {
            hard_state.commit = self.durable_at.0;
        }
        self.found(claims_membership)
    }

    fn found(&self, claims_membership: bool) -> Recovered {
        Recovered {
            member: self.member || claims_membership,
            hard_state: self.log.hard_state.clone().unwrap_or_default(),
            start: self.start(),
            entries: self.log.entries.clone(),
            base: self.readable.clone() as Base,
            stored: self.durable_at,
            imported_over: self.imported_over.filter(|(_, at)| *at == self.durable_at).map(|(log_end, _)| log_end),
        }
    }
}
