//! # What a question read
//!
//! A node that answers a question can hand over what it read for it ([`Recording`]); over that, the same question has the same
//! answer anywhere, for as long as nothing of it changes. Each [`Record`] belongs to the [`Object`] whose copy makes it true.

use super::ops::{Lookup, LookupName};
use super::{Fault, Key, Query, Store, Value, object_of};
use crate::types::{Ino, Object};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

/// One thing that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    Value(Key, Option<Value>),
    /// What [`Store::range`] answered to these arguments.
    Range {
        from: Key,
        to: Key,
        max: u64,
        found: Vec<(Key, Value)>,
    },
}

/// Something read, and the object it is part of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    pub object: Object,
    pub record: Record,
}

impl Query {
    /// What this question is about, where its answer can be kept under copies: not bytes of files (the slices they are in
    /// move without anybody's notice), not what is true of the moment only, nor all extended attributes with their values.
    pub fn about(&self) -> Option<Object> {
        match self {
            Query::Lookup(Lookup { dir, name: LookupName::Name(name) }) => Some(Object::Entry(*dir, name.clone())),
            Query::GetAttr(op) => Some(Object::Whole(op.ino)),
            Query::ReadLink(op) => Some(Object::Whole(op.ino)),
            Query::ReadDir(op) => Some(Object::Whole(op.ino)),
            Query::Open(op) => Some(Object::Whole(op.ino)),
            Query::Access(op) => Some(Object::Whole(op.ino)),
            Query::GetXattr(op) => Some(Object::Whole(op.ino)),
            Query::Lookup(_) | Query::ReadLayout(_) | Query::Seek(_) | Query::ListXattr(_) => None,
            Query::GetStatFs(_) | Query::GetLock(_) | Query::AwaitsLock(_) => None,
        }
    }

    /// The file or directory that it asks about.
    pub fn subject(&self) -> Option<Ino> {
        match self {
            Query::Lookup(op) => Some(op.dir),
            Query::ReadLayout(op) => Some(op.ino),
            Query::Seek(op) => Some(op.ino),
            Query::ListXattr(op) => Some(op.ino),
            query => Some(query.about()?.ino()),
        }
    }

    /// The object that makes a record of this question true. Who looks a name up needs of the directory only who may search
    /// it.
    pub fn object_of(&self, key: &Key) -> Option<Object> {
        match (self, key) {
            (Query::Lookup(lookup), Key::Inode(ino)) if lookup.dir == *ino => Some(Object::Rights(*ino)),
            _ => object_of(key),
        }
    }
}

/// A store that writes down what it is asked for.
pub struct Recording<'s, S: ?Sized> {
    store: &'s S,
    read: RefCell<Vec<Record>>,
}

impl<'s, S: Store + ?Sized> Recording<'s, S> {
    pub fn new(store: &'s S) -> Recording<'s, S> {
        Recording { store, read: RefCell::default() }
    }

    /// Whether nothing else was read than what is part of objects. (And where slices lie, which moves without anybody's
    /// notice: who does not find one there asks again.)
    pub fn is_all_of_objects(&self) -> bool {
        let of_object = |record: &Record| {
            let (Record::Value(key, _) | Record::Range { from: key, .. }) = record;
            matches!(key, Key::Slice(_)) || object_of(key).is_some()
        };
        self.read.borrow().iter().all(of_object)
    }

    /// What was read, as far as copies can make it true.
    pub fn facts(self, query: &Query) -> Vec<Fact> {
        let fact = |record: Record| {
            let (Record::Value(key, _) | Record::Range { from: key, .. }) = &record;
            Some(Fact { object: query.object_of(key)?, record })
        };
        self.read.into_inner().into_iter().filter_map(fact).collect()
    }
}

impl<S: Store + ?Sized> Store for Recording<'_, S> {
    fn get(&self, key: &Key) -> Result<Option<Value>, Fault> {
        let value = self.store.get(key)?;
        self.read.borrow_mut().push(Record::Value(key.clone(), value.clone()));
        Ok(value)
    }

    fn range(&self, from: &Key, to: &Key, max: usize) -> Result<Vec<(Key, Value)>, Fault> {
        let found = self.store.range(from, to, max)?;
        let record = Record::Range { from: from.clone(), to: to.clone(), max: max as u64, found: found.clone() };
        self.read.borrow_mut().push(record);
        Ok(found)
    }
}
