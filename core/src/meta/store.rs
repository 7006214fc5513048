//! Where an operation reads: the [`Store`], and the ways in which it can stop.

use super::{Key, Value};
use crate::types::Errno;
use std::collections::BTreeMap;

/// What a store does not know and someone must fetch before the operation can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Key(Key),
    Range(Key, Key),
}

/// Why an operation did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It failed, as POSIX says.
    Errno(Errno),
    /// The store lacks a piece; fetch it and start again.
    Fault(Fault),
    /// The answer depends on the caller's supplementary groups, which were not looked up.
    NeedGroups,
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Stop {
        Stop::Errno(errno)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Fault(fault)
    }
}

pub type Run<T> = Result<T, Stop>;

/// A sorted map that may not know everything.
pub trait Store {
    fn get(&self, key: &Key) -> Result<Option<Value>, Fault>;

    /// At most `max` pairs with `from <= key < to`, in order.
    fn range(&self, from: &Key, to: &Key, max: usize) -> Result<Vec<(Key, Value)>, Fault>;
}

/// A store that is a map in memory and knows everything: the model of the others, and what tests use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory(pub BTreeMap<Key, Value>);

impl Memory {
    pub fn apply(&mut self, changes: impl IntoIterator<Item = (Key, Option<Value>)>) {
        for (key, value) in changes {
            match value {
                Some(value) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
    }
}

impl Store for Memory {
    fn get(&self, key: &Key) -> Result<Option<Value>, Fault> {
        Ok(self.0.get(key).cloned())
    }

    fn range(&self, from: &Key, to: &Key, max: usize) -> Result<Vec<(Key, Value)>, Fault> {
        if from >= to {
            return Ok(Vec::new());
        }
        Ok(self.0.range(from.clone()..to.clone()).take(max).map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}
