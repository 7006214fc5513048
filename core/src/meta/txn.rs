//! What one operation (or one batch of them) changed so far, over the store it reads from.

use super::{Entry, Inode, Key, Run, Stop, Store, Value, Volume};
use crate::types::{Errno, Ino, Kind, Name, SessionId, Stamp};
use std::collections::BTreeMap;

/// Reads see the changes made before them; nothing reaches the store until someone takes the changes and applies them. So an
/// operation that stops in the middle leaves nothing behind.
pub struct Txn<'s, S: Store + ?Sized> {
    base: &'s S,
    changes: BTreeMap<Key, Option<Value>>,
    /// The moment to stamp on what changes.
    pub now: Stamp,
    /// Whose command it is, where it is a mount's.
    pub session: Option<SessionId>,
}

impl<'s, S: Store + ?Sized> Txn<'s, S> {
    pub fn new(base: &'s S, now: Stamp) -> Self {
        Txn { base, changes: BTreeMap::new(), now, session: None }
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

/// The same, in the words of a file system.
impl<S: Store + ?Sized> Txn<'_, S> {
    fn find_inode(&self, ino: Ino) -> Run<Option<Inode>> {
        match self.get(&Key::Inode(ino))? {
            Some(Value::Inode(inode)) => Ok(Some(inode)),
            Some(_) => Err(damaged()),
            None => Ok(None),
        }
    }

    /// The object with that number; ESTALE when it is gone.
    pub(super) fn inode(&self, ino: Ino) -> Run<Inode> {
        self.find_inode(ino)?.ok_or(Stop::Errno(Errno::ESTALE))
    }

    /// The directory with that number.
    pub(super) fn dir(&self, ino: Ino) -> Run<Inode> {
        let inode = self.inode(ino)?;
        if inode.kind != Kind::Directory {
            return Err(Errno::ENOTDIR.into());
        }
        Ok(inode)
    }

    /// The regular file with that number; EISDIR for a directory, EINVAL for anything else.
    pub(super) fn file(&self, ino: Ino) -> Run<Inode> {
        let inode = self.inode(ino)?;
        match inode.kind {
            Kind::File => Ok(inode),
            Kind::Directory => Err(Errno::EISDIR.into()),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    /// The object that an entry names: it must be there.
    pub(super) fn named(&self, entry: &Entry) -> Run<Inode> {
        self.find_inode(entry.ino)?.ok_or_else(damaged)
    }

    pub(super) fn entry(&self, dir: Ino, name: &Name) -> Run<Option<Entry>> {
        match self.get(&Key::Entry(dir, name.clone()))? {
            Some(Value::Entry(entry)) => Ok(Some(entry)),
            Some(_) => Err(damaged()),
            None => Ok(None),
        }
    }

    pub(super) fn volume(&self) -> Run<Volume> {
        match self.get(&Key::Volume)? {
            Some(Value::Volume(volume)) => Ok(volume),
            _ => Err(damaged()),
        }
    }

    /// Stores an inode: counts the change, and keeps the volume's `allocated` in step with the inode's, so that no
    /// operation can forget to. Answers the inode as it is stored.
    pub(super) fn put_inode(&mut self, ino: Ino, mut inode: Inode) -> Run<Inode> {
        let before = self.find_inode(ino)?.map_or(0, |old| old.allocated);
        if before != inode.allocated {
            let mut volume = self.volume()?;
            volume.allocated = (volume.allocated + inode.allocated).checked_sub(before).ok_or_else(damaged)?;
            self.put(Key::Volume, Value::Volume(volume));
        }
        inode.version = inode.version.next();
        self.put(Key::Inode(ino), Value::Inode(inode.clone()));
        Ok(inode)
    }

    /// Changes an inode that is there.
    pub(super) fn update(&mut self, ino: Ino, change: impl FnOnce(&mut Inode, Stamp)) -> Run<Inode> {
        let mut inode = self.inode(ino)?;
        change(&mut inode, self.now);
        self.put_inode(ino, inode)
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
