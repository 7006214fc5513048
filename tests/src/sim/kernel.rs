//! The double of the kernel's caches: names and attributes that a mount let it keep, answered without the mount, also while
//! the mount is stopped.
//!
//! It has the habits that make caches hard (docs/decisions: copies): an answer that is under way when the kernel is told to
//! forget attributes is not kept; a name is forgotten only when nothing happens in its directory, and a command of this
//! mount that is under way there counts; what a rename moves keeps its time under its new name.

use super::history::{Act, NameId};
use super::planted::Planted;
use super::workload::name_of;
use super::world::{Event, Life, World};
use baton_core::meta::Answer;
use baton_core::meta::ops::RenameHow;
use baton_core::mount::{Done, Forget, Input, Valid};
use baton_core::types::{Attr, Errno, Ino, Name, Object};
use std::collections::{BTreeMap, BTreeSet};

/// A kernel counts in ticks, and rounds up.
const TICK_US: u64 = 10_000;

#[derive(Default)]
pub(super) struct Kernel {
    names: BTreeMap<(Ino, Name), (Option<Attr>, u64)>,
    attrs: BTreeMap<Ino, (Attr, u64)>,
    /// Counts what it was told to forget; and by object, the last time.
    version: u64,
    forgotten: BTreeMap<Ino, u64>,
    /// The objects that it knows; others it cannot be told to forget.
    known: BTreeSet<Ino>,
}

/// What of the kernel's state a call found when it began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Since(u64);

type Outcome = Result<Done, Errno>;

impl Kernel {
    /// The answer, if the kernel has it.
    pub(super) fn answer(&self, act: &Act, now: u64) -> Option<Outcome> {
        let done = |attr: &Attr| Ok(Done::Answer(Answer::Attr(attr.clone())));
        match act {
            Act::Lookup { dir, name } => {
                let (found, _) = self.names.get(&(*dir, name_of(*name))).filter(|(_, until)| now < *until)?;
                Some(found.as_ref().map_or(Err(Errno::ENOENT), done))
            }
            Act::Stat { ino } => {
                let (attr, _) = self.attrs.get(ino).filter(|(_, until)| now < *until)?;
                Some(done(attr))
            }
            _ => None,
        }
    }

    pub(super) fn since(&self) -> Since {
        Since(self.version)
    }

    fn forgot_since(&self, ino: Ino, since: Since) -> bool {
        self.forgotten.get(&ino).is_some_and(|at| *at > since.0)
    }

    /// A reply of the mount.
    pub(super) fn hear(&mut self, act: &Act, since: Since, outcome: &Outcome, valid: Valid) {
        if let Ok(Done::Answer(Answer::Attr(attr))) = outcome {
            self.known.insert(attr.ino);
        }
        match (act, outcome) {
            (Act::Lookup { dir, name }, Ok(Done::Answer(Answer::Attr(attr)))) if valid.entry > 0 => {
                self.names.insert((*dir, name_of(*name)), (Some(attr.clone()), valid.entry + TICK_US));
                if !self.forgot_since(attr.ino, since) {
                    self.attrs.insert(attr.ino, (attr.clone(), valid.attr + TICK_US));
                }
            }
            (Act::Lookup { dir, name }, Err(Errno::ENOENT)) if valid.entry > 0 => {
                self.names.insert((*dir, name_of(*name)), (None, valid.entry + TICK_US));
            }
            (Act::Stat { ino }, Ok(Done::Answer(Answer::Attr(attr))))
                if valid.attr > 0 && !self.forgot_since(*ino, since) =>
            {
                self.attrs.insert(*ino, (attr.clone(), valid.attr + TICK_US));
            }
            (Act::Rename { dir, name, new_dir, new_name, how }, Ok(_)) => {
                let (old, new) = ((*dir, name_of(*name)), (*new_dir, name_of(*new_name)));
                let (moved, there) = (self.names.remove(&old), self.names.remove(&new));
                self.names.extend(moved.map(|entry| (new, entry)));
                if *how == RenameHow::Exchange {
                    self.names.extend(there.map(|entry| (old, entry)));
                }
            }
            // Of the rest it knows what came of it, or asks again.
            (act, Ok(_) | Err(Errno::EEXIST | Errno::ENOENT)) => {
                for (dir, name) in names_changed(act) {
                    self.names.remove(&(dir, name_of(name)));
                }
            }
            _ => {}
        }
    }
}

/// The names that an act changes.
fn names_changed(act: &Act) -> impl Iterator<Item = (Ino, NameId)> + use<> {
    let (name, new_name) = match act {
        Act::Create { dir, name, .. }
        | Act::Mkdir { dir, name }
        | Act::Symlink { dir, name }
        | Act::Link { dir, name, .. }
        | Act::Unlink { dir, name }
        | Act::Rmdir { dir, name } => (Some((*dir, *name)), None),
        Act::Rename { dir, name, new_dir, new_name, .. } => (Some((*dir, *name)), Some((*new_dir, *new_name))),
        _ => (None, None),
    };
    name.into_iter().chain(new_name)
}

/// The directories whose names an act changes or reads.
fn directories(act: &Act) -> impl Iterator<Item = Ino> + use<> {
    let read = match act {
        Act::Lookup { dir, .. } | Act::List { dir } => Some(*dir),
        _ => None,
    };
    read.into_iter().chain(names_changed(act).map(|(dir, _)| dir))
}

/// Whether an act has the directory locked while it is under way; what only reads, with others that do.
fn locks(act: &Act, dir: Ino) -> Option<bool> {
    directories(act).any(|d| d == dir).then(|| names_changed(act).next().is_some())
}

impl World {
    /// Whether a process of this mount has to wait for another one that is busy in the same directory.
    pub(super) fn directory_is_locked(&self, mount: usize, act: &Act) -> bool {
        directories(act).any(|dir| {
            let mine = locks(act, dir).unwrap_or(false);
            self.acts_under_way(mount).any(|other| locks(other, dir).is_some_and(|theirs| theirs || mine))
        })
    }

    /// Whether a process of this mount is changing this very name. A kernel may find the old one until it has the reply, though
    /// others found the new one already (docs/semantics: between two programs on one mount): what is found so is not judged.
    pub(super) fn is_being_changed_here(&self, mount: usize, act: &Act) -> bool {
        let Act::Lookup { dir, name } = act else { return false };
        self.acts_under_way(mount).any(|other| names_changed(other).any(|changed| changed == (*dir, *name)))
    }

    fn acts_under_way(&self, mount: usize) -> impl Iterator<Item = &Act> {
        self.mounts[mount].processes.iter().filter_map(|process| process.act_under_way())
    }

    /// The machine wants the kernel to forget something: done in a while, and tried again while the directory is locked.
    pub(super) fn forget(&mut self, mount: usize, life: Life, what: Forget) {
        if !self.mount_lives(mount, life) {
            return;
        }
        if let Forget::Name(dir, _) = &what
            && self.acts_under_way(mount).any(|act| locks(act, *dir).is_some())
        {
            return self.after(500, Event::Forget(mount, life, what));
        }
        let keeps = self.plan.planted == Some(Planted::KernelKeeps);
        // Who asks for an object's attributes has the object; else the kernel may have thrown it out.
        let in_use = |ino: Ino| self.acts_under_way(mount).any(|act| matches!(act, Act::Stat { ino: i } if *i == ino));
        let in_use = what.object().is_some_and(|object| matches!(object, Object::Whole(ino) if in_use(ino)));
        let thrown_out = self.rng.one_in(8);
        let kernel = &mut self.mounts[mount].kernel;
        let mut knew = true;
        match &what {
            _ if keeps => {}
            Forget::Name(dir, name) => drop(kernel.names.remove(&(*dir, name.clone()))),
            // An object that it does not know it cannot forget, and what is on its way to it comes.
            Forget::Attr(ino) | Forget::All(ino) | Forget::Range { ino, .. } => {
                knew = kernel.known.contains(ino) || in_use;
                kernel.attrs.remove(ino);
                if knew {
                    kernel.version += 1;
                    kernel.forgotten.insert(*ino, kernel.version);
                }
                if thrown_out && !in_use {
                    kernel.known.remove(ino);
                }
            }
        }
        if let Some(object) = what.object() {
            self.step_mount(mount, Input::Forgot { object, knew });
        }
    }
}
