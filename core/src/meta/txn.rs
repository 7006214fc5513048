//! What one operation (or one batch of them) changed so far, over the store it reads from.

use super::{Key, Run, Stop, Store, Value};
use crate::types::{Errno, Stamp};
use std::collections::BTreeMap;

/// Reads see the changes made before them; nothing reaches the store until someone takes the changes and applies them. So an
/// operation that stops in the middle leaves nothing behind.
pub struct Txn<'s, S: Store + ?Sized> {
    base: &'s S,
    changes: BTreeMap<Key, Option<Value>>,
    /// The moment to stamp on what changes.
    pub now: Stamp,
}

impl<'s, S: Store + ?Sized> Txn<'s, S> {
    pub fn new(base: &'s S, now: Stamp) -> Self {
        Txn { base, changes: BTreeMap::new(), now }
    }

    pub fn into_changes(self) -> BTreeMap<Key, Option<Value>> {
        self.changes
    }

    pub fn get(&self, key: &Key) -> Run<Option<Value>> {
        match self.changes.get(key) {
            Some(changed) => Ok(changed.clone()),
            None => Ok(self.base.get(key)?),
        }
    }

    /// At most `max` pairs with `from <= key < to`, in order, this transaction's changes included.
    pub fn range(&self, from: &Key, to: &Key, max: usize) -> Run<Vec<(Key, Value)>> {
        if from >= to {
            return Ok(Vec::new());
        }
        let changed = || self.changes.range(from.clone()..to.clone());
        let deleted = changed().filter(|(_, value)| value.is_none()).count();
        let base = self.base.range(from, to, max.saturating_add(deleted))?;
        Ok(overlay(base, changed(), max))
    }

    pub fn put(&mut self, key: Key, value: Value) {
        self.changes.insert(key, Some(value));
    }

    pub fn delete(&mut self, key: Key) {
        self.changes.insert(key, None);
    }
}

/// Merges pairs with the changes above them. `base` holds at least `max` pairs and one for every deletion, or all there are.
pub(crate) fn overlay<'a>(
    base: Vec<(Key, Value)>,
    changes: impl Iterator<Item = (&'a Key, &'a Option<Value>)>,
    max: usize,
) -> Vec<(Key, Value)> {
    let mut merged = Vec::with_capacity(base.len().min(max));
    let mut base = base.into_iter().peekable();
    for (key, value) in changes {
        while let Some(pair) = base.next_if(|(k, _)| k < key) {
            merged.push(pair);
        }
        base.next_if(|(k, _)| k == key);
        if let Some(value) = value {
            merged.push((key.clone(), value.clone()));
        }
    }
    merged.extend(base);
    merged.truncate(max);
    merged
}

/// A value of the wrong kind under a key means that the state is damaged: never guess, say EIO.
pub(super) fn damaged() -> Stop {
    Stop::Errno(Errno::EIO)
}
