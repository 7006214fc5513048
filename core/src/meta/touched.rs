//! # What an operation may change, before it has run
//!
//! Whoever is about to have a command carried out takes back the copies of everything that it may change. So this says rather
//! too much than too little: also what only some outcome changes. That it says enough is looked at by every test that runs
//! an operation ([`changed`] against [`Op::touches`]).

use super::{Fault, Key, Op, Store, Value};
use crate::types::{Ino, Name, Object};
use std::collections::BTreeMap;

impl Op {
    /// The names that it may make, remove or give another meaning.
    pub fn names(&self) -> Vec<(Ino, &Name)> {
        match self {
            Op::Create(op) => vec![(op.dir, &op.name)],
            Op::Mknod(op) => vec![(op.dir, &op.name)],
            Op::Mkdir(op) => vec![(op.dir, &op.name)],
            Op::Symlink(op) => vec![(op.dir, &op.name)],
            Op::Link(op) => vec![(op.dir, &op.name)],
            Op::Unlink(op) => vec![(op.dir, &op.name)],
            Op::Rmdir(op) => vec![(op.dir, &op.name)],
            Op::Rename(op) => vec![(op.dir, &op.name), (op.new_dir, &op.new_name)],
            _ => Vec::new(),
        }
    }

    /// Everything that anybody can have a copy of and that it may change, except objects that it makes. `store` is the state
    /// that it will be carried out on, as far as these names go.
    pub fn touches<S: Store + ?Sized>(&self, store: &S) -> Result<Vec<Object>, Fault> {
        let mut touched = Vec::new();
        for (dir, name) in self.names() {
            touched.push(Object::Entry(dir, name.clone()));
            touched.push(Object::Whole(dir));
            if let Some(Value::Entry(entry)) = store.get(&Key::Entry(dir, name.clone()))? {
                touched.push(Object::Whole(entry.ino));
            }
        }
        match self {
            Op::SetAttr(op) => {
                touched.push(Object::Whole(op.ino));
                if op.mode.is_some() || op.uid.is_some() || op.gid.is_some() {
                    touched.push(Object::Rights(op.ino));
                }
            }
            Op::Link(op) => touched.push(Object::Whole(op.ino)),
            Op::Write(op) => touched.push(Object::Whole(op.ino)),
            Op::Fallocate(op) => touched.push(Object::Whole(op.ino)),
            Op::CopyRange(op) => touched.push(Object::Whole(op.to)),
            Op::SetXattr(op) => touched.push(Object::Whole(op.ino)),
            Op::RemoveXattr(op) => touched.push(Object::Whole(op.ino)),
            Op::Reap(op) => touched.push(Object::Whole(op.ino)),
            Op::Merge(op) => touched.push(Object::Whole(op.ino)),
            Op::Create(_) | Op::Mknod(_) | Op::Mkdir(_) | Op::Symlink(_) | Op::Unlink(_) | Op::Rmdir(_) => {}
            Op::Rename(_) | Op::PlaceSlice(_) | Op::Lock(_) | Op::Unlock(_) | Op::CancelLock(_) => {}
            Op::ForgetBroken(_) | Op::BreakLocks(_) => {}
        }
        touched.sort_unstable();
        touched.dedup();
        Ok(touched)
    }
}

/// The object that a value under this key is part of.
pub fn object_of(key: &Key) -> Option<Object> {
    match key {
        Key::Inode(ino) | Key::Listing(ino, _) | Key::Extent(ino, _) | Key::Xattr(ino, _) => Some(Object::Whole(*ino)),
        Key::Entry(dir, name) => Some(Object::Entry(*dir, name.clone())),
        Key::Volume
        | Key::Orphan(_)
        | Key::Slice(_)
        | Key::Session(_)
        | Key::Locks(_)
        | Key::LockUse(..)
        | Key::Members
        | Key::Version => None,
    }
}

/// The objects that changes change, of those there were before.
pub fn changed<S: Store + ?Sized>(store: &S, changes: &BTreeMap<Key, Option<Value>>) -> Result<Vec<Object>, Fault> {
    let mut changed = Vec::new();
    for (key, value) in changes {
        let Some(object) = object_of(key) else { continue };
        if let Object::Whole(ino) = object {
            let Some(Value::Inode(before)) = store.get(&Key::Inode(ino))? else { continue };
            if let Some(Value::Inode(after)) = value
                && (before.mode, before.uid, before.gid) != (after.mode, after.uid, after.gid)
                && before.kind == crate::types::Kind::Directory
            {
                changed.push(Object::Rights(ino));
            }
        }
        changed.push(object);
    }
    changed.sort_unstable();
    changed.dedup();
    Ok(changed)
}
