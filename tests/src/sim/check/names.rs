//! All directories together are one object: so a rename is seen at both its names at one moment, or at neither.

use super::super::history::{Act, History, NameId, Record, Saw};
use super::linear::{Call, Found, Model, search};
use baton_core::meta::ops::RenameHow;
use baton_core::types::{Errno, Ino};
use std::collections::BTreeMap;
use std::marker::PhantomData;

pub(super) fn check(history: &History, undecided: &mut u64) -> Result<(), String> {
    let records: Vec<&Record> = history.records.iter().filter(|r| says_something(r)).collect();
    let calls: Vec<Call<&Record>> = records.iter().map(|r| Call { began: r.began, ended: r.ended, what: *r }).collect();
    match search(&Names(PhantomData), &calls) {
        Found::Order => Ok(()),
        Found::GaveUp => {
            *undecided += 1;
            Ok(())
        }
        Found::None { placed, stuck_at } => Err(format!(
            "the namespace is not linearizable: {placed} of {} calls fit, then {:?}",
            calls.len(),
            records[stuck_at]
        )),
    }
}

fn says_something(record: &Record) -> bool {
    let names = matches!(
        record.act,
        Act::Create { .. }
            | Act::Mkdir { .. }
            | Act::Symlink { .. }
            | Act::Link { .. }
            | Act::Unlink { .. }
            | Act::Rmdir { .. }
            | Act::Rename { .. }
            | Act::Lookup { .. }
            | Act::List { .. }
    );
    let reads = matches!(record.act, Act::Lookup { .. } | Act::List { .. });
    match record.saw {
        Saw::Nothing => names && !reads,
        // Others depend on more than names.
        Saw::Failed(errno) => names && matches!(errno, Errno::ENOENT | Errno::EEXIST | Errno::ENOTEMPTY),
        _ => names,
    }
}

/// What a name stands for: an inode, or the object that a call of unknown outcome made, until somebody sees its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Object {
    Known(Ino),
    MadeBy(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Entry {
    object: Object,
    dir: bool,
}

#[derive(Clone, Debug, Default, Hash)]
struct Tree(BTreeMap<(Ino, NameId), Entry>);

impl Tree {
    /// Whether the name stands for this inode; an unknown object becomes known by being seen.
    fn sees(mut self, at: (Ino, NameId), ino: Ino) -> Option<Tree> {
        let object = self.0.get(&at)?.object;
        match object {
            Object::Known(known) => (known == ino).then_some(self),
            Object::MadeBy(_) if self.0.values().any(|e| e.object == Object::Known(ino)) => None,
            Object::MadeBy(_) => {
                for entry in self.0.values_mut().filter(|e| e.object == object) {
                    entry.object = Object::Known(ino);
                }
                Some(self)
            }
        }
    }

    fn add(mut self, at: (Ino, NameId), object: Object, dir: bool) -> Option<Tree> {
        let twin = |e: &Entry| e.object == object;
        if self.0.contains_key(&at) || (dir && self.0.values().any(twin)) {
            return None;
        }
        self.0.insert(at, Entry { object, dir });
        Some(self)
    }

    fn is_empty_dir(&self, object: Object) -> bool {
        match object {
            Object::Known(ino) => self.0.range((ino, 0)..=(ino, NameId::MAX)).next().is_none(),
            Object::MadeBy(_) => true,
        }
    }

    fn lists(self, dir: Ino, listing: &[(NameId, Ino)]) -> Option<Tree> {
        if self.0.range((dir, 0)..=(dir, NameId::MAX)).count() != listing.len() {
            return None;
        }
        listing.iter().try_fold(self, |tree, (name, ino)| tree.sees((dir, *name), *ino))
    }

    fn rename(mut self, from: (Ino, NameId), to: (Ino, NameId), how: RenameHow) -> Option<Tree> {
        let source = *self.0.get(&from)?;
        let target = self.0.get(&to).copied();
        match (how, target) {
            (RenameHow::NoReplace, Some(_)) | (RenameHow::Exchange, None) => return None,
            (_, Some(target)) if target.object == source.object => return Some(self),
            (RenameHow::Exchange, Some(target)) => {
                self.0.insert(from, target);
            }
            (_, Some(target)) if target.dir != source.dir || (target.dir && !self.is_empty_dir(target.object)) => {
                return None;
            }
            _ => {
                self.0.remove(&from);
            }
        }
        self.0.insert(to, source);
        Some(self)
    }
}

struct Names<'h>(PhantomData<&'h Record>);

impl<'h> Model for Names<'h> {
    type State = Tree;
    type What = &'h Record;

    fn start(&self) -> Tree {
        Tree::default()
    }

    fn apply(&self, tree: &Tree, record: &&'h Record, at: usize) -> Option<Tree> {
        match record.saw {
            Saw::Failed(errno) => failed(tree, &record.act, errno).then(|| tree.clone()),
            _ => done(tree.clone(), record, at),
        }
    }
}

fn done(mut tree: Tree, record: &Record, at: usize) -> Option<Tree> {
    let made = match record.saw {
        Saw::Object(ino) => Object::Known(ino),
        _ => Object::MadeBy(at),
    };
    match record.act {
        Act::Create { dir, name, exclusive } => match (tree.0.get(&(dir, name)), made) {
            (Some(_), _) if exclusive => None,
            (Some(entry), _) if entry.dir => None,
            (Some(_), Object::Known(ino)) => tree.sees((dir, name), ino),
            (Some(_), Object::MadeBy(_)) => Some(tree),
            (None, made) if tree.0.values().any(|e| e.object == made) => None,
            (None, made) => tree.add((dir, name), made, false),
        },
        Act::Mkdir { dir, name } => tree.add((dir, name), made, true),
        Act::Symlink { dir, name } => tree.add((dir, name), made, false),
        Act::Link { ino, dir, name } => tree.add((dir, name), Object::Known(ino), false),
        Act::Unlink { dir, name } => {
            let gone = tree.0.remove(&(dir, name))?;
            (!gone.dir).then_some(tree)
        }
        Act::Rmdir { dir, name } => {
            let gone = tree.0.remove(&(dir, name))?;
            (gone.dir && tree.is_empty_dir(gone.object)).then_some(tree)
        }
        Act::Rename { dir, name, new_dir, new_name, how } => tree.rename((dir, name), (new_dir, new_name), how),
        Act::Lookup { dir, name } => match record.saw {
            Saw::Object(ino) => tree.sees((dir, name), ino),
            _ => None,
        },
        Act::List { dir } => match &record.saw {
            Saw::Listing(listing) => tree.lists(dir, listing),
            _ => None,
        },
        _ => None,
    }
}

/// Whether the names explain a failure. A directory that is gone explains many; whether it is gone is not known here, so
/// only the root's names speak where that could be the reason.
fn failed(tree: &Tree, act: &Act, errno: Errno) -> bool {
    let has = |dir: Ino, name: NameId| tree.0.contains_key(&(dir, name));
    let lacks = |dir: Ino, name: NameId| !has(dir, name);
    match (errno, act) {
        (Errno::EEXIST, Act::Create { dir, name, .. })
        | (Errno::EEXIST, Act::Mkdir { dir, name })
        | (Errno::EEXIST, Act::Symlink { dir, name })
        | (Errno::EEXIST, Act::Link { dir, name, .. }) => has(*dir, *name),
        (Errno::EEXIST, Act::Rename { new_dir, new_name, .. }) => has(*new_dir, *new_name),
        (Errno::ENOENT, Act::Lookup { dir, name })
        | (Errno::ENOENT, Act::Unlink { dir, name })
        | (Errno::ENOENT, Act::Rmdir { dir, name }) => lacks(*dir, *name),
        (Errno::ENOENT, Act::Rename { dir, name, new_dir, new_name, how }) => {
            lacks(*dir, *name) || (*how == RenameHow::Exchange && lacks(*new_dir, *new_name)) || *new_dir != Ino::ROOT
        }
        (Errno::ENOTEMPTY, Act::Rmdir { dir, name }) => {
            tree.0.get(&(*dir, *name)).is_some_and(|e| e.dir && !tree.is_empty_dir(e.object))
        }
        _ => true,
    }
}
