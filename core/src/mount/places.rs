//! # Where the kernel has directories
//!
//! A kernel has a directory in one place only. Where an answer shows it the directory in another one, because another mount
//! moved it, the kernel moves it too, if it gets the old parent's lock and that of all renames at once. Else the program
//! gets ESTALE: for as long as anybody is busy in the old parent, and always where the program itself renames. So this
//! remembers the places, and has the kernel forget the old one before it hears of the new one:
//!
//! ```text
//!   Lookup y/a --node--> directory 7, which the kernel has at x/a
//!                          |  held back        Forget x/a --> kernel
//!                          +<------------------- Forgot ------+
//!                          +--> answered: y/a is directory 7
//! ```
//! To forget a name the kernel takes its directory's lock. Whoever looks up has the new parent locked, perhaps the old one
//! too (a rename from one to the other): so nobody waits for longer than [`MOVE_US`], and where both parents are the same,
//! where the kernel needs no lock, nobody waits at all. An answer that waited in vain is given as it is; the program may get
//! ESTALE then, but first the kernel tries once more, and it forgets the old place in between.
//!
//! Invariants:
//! * the kernel is told when no call of this mount is under way in the old parent, as with all names (see `copies`);
//! * an answer that was held back lets the kernel keep nothing: a copy may have been asked back meanwhile.

use super::{Call, CallId, Done, Forget, MountMachine, Output};
use crate::meta::ops::{Lookup, LookupName, Mkdir, RenameHow, Rmdir};
use crate::meta::{Answer, Op, Query};
use crate::types::{Ino, Kind, Name, Object};
use std::collections::BTreeMap;

/// An answer is held back for so long at most. What the kernel waits for meanwhile is one operation in the old parent.
const MOVE_US: u64 = 200_000;
/// Directories whose places are known at most: 20 MB of memory.
const PLACES_MAX: usize = 100_000;
/// Places of one directory. More than one is known only where listings showed it to the kernel, which may not have taken it.
const PLACES_OF_ONE_MAX: usize = 4;

type Place = (Ino, Name);

#[derive(Default)]
pub(super) struct Places {
    /// Where the kernel may have a directory; and what it has in a place.
    of: BTreeMap<Ino, Vec<Place>>,
    at: BTreeMap<Place, Ino>,
    /// Places that the kernel is to forget.
    leaving: BTreeMap<Place, Leaving>,
}

struct Leaving {
    told: bool,
    /// Answers that are held back until it did; until when they wait.
    waiting: Vec<CallId>,
    until: u64,
}

impl Places {
    /// The kernel may have it here as well.
    fn add(&mut self, ino: Ino, place: Place) {
        if self.at.get(&place) == Some(&ino) {
            return;
        }
        self.remove(&place);
        if self.of.len() >= PLACES_MAX {
            // Rather than to know nothing of what is new. It is learned again with the next look.
            self.of.clear();
            self.at.clear();
        }
        let places = self.of.entry(ino).or_default();
        if places.len() >= PLACES_OF_ONE_MAX {
            self.at.remove(&places.remove(0));
        }
        places.push(place.clone());
        self.at.insert(place, ino);
    }

    /// The kernel has it here and nowhere else.
    fn put(&mut self, ino: Ino, place: Place) {
        if self.of.get(&ino).is_some_and(|places| places[..] == [place.clone()]) {
            return;
        }
        for old in self.of.remove(&ino).unwrap_or_default() {
            self.at.remove(&old);
        }
        self.add(ino, place);
    }

    fn remove(&mut self, place: &Place) {
        let Some(ino) = self.at.remove(place) else { return };
        if let Some(places) = self.of.get_mut(&ino) {
            places.retain(|other| other != place);
            if places.is_empty() {
                self.of.remove(&ino);
            }
        }
    }

    fn rename(&mut self, from: Place, to: Place, how: RenameHow) {
        let (moved, there) = (self.at.get(&from).copied(), self.at.get(&to).copied());
        self.remove(&from);
        self.remove(&to);
        if let Some(ino) = moved {
            self.put(ino, to);
        }
        if let (Some(ino), RenameHow::Exchange) = (there, how) {
            self.put(ino, from);
        }
    }

    /// Whether answers wait for the kernel.
    pub(super) fn is_waiting(&self) -> bool {
        self.leaving.values().any(|leaving| !leaving.waiting.is_empty())
    }

    fn is_held(&self, call: CallId) -> bool {
        self.leaving.values().any(|leaving| leaving.waiting.contains(&call))
    }
}

impl MountMachine {
    /// A call is about to end like this. `true`: not yet, for the kernel has a directory elsewhere and is to forget that.
    pub(super) fn is_held_back(&mut self, id: CallId, done: &Done) -> bool {
        let Some(running) = self.running.get_mut(&id).filter(|running| !running.placed) else { return false };
        let Call::Ask(Query::Lookup(Lookup { dir, name: LookupName::Name(_) })) = &running.call else { return false };
        let Done::Answer(Answer::Attr(attr)) = done else { return false };
        let places = self.places.of.get(&attr.ino).into_iter().flatten();
        // Within one directory the kernel needs no lock; and to forget the old name it would need the one that is held.
        let others: Vec<Place> = places.filter(|(parent, _)| parent != dir).cloned().collect();
        if attr.kind != Kind::Directory || others.is_empty() {
            return false;
        }
        running.under_copies = false;
        for place in others {
            let new = Leaving { told: false, waiting: Vec::new(), until: 0 };
            let leaving = self.places.leaving.entry(place).or_insert(new);
            leaving.waiting.push(id);
            leaving.until = self.now + MOVE_US;
        }
        true
    }

    /// What the kernel learns from the end of a call.
    pub(super) fn note_places(&mut self, call: &Call, done: &Done) {
        let places = &mut self.places;
        match (call, done) {
            (
                Call::Ask(Query::Lookup(Lookup { dir, name: LookupName::Name(name) }))
                | Call::Do(Op::Mkdir(Mkdir { dir, name, .. })),
                Done::Answer(Answer::Attr(attr)),
            ) => match attr.kind {
                Kind::Directory => places.put(attr.ino, (*dir, name.clone())),
                _ => places.remove(&(*dir, name.clone())),
            },
            (Call::Ask(Query::ReadDir(list)), Done::Answer(Answer::Listing { entries, .. })) if list.attrs => {
                for entry in entries.iter().filter(|entry| entry.kind == Kind::Directory) {
                    places.add(entry.ino, (list.ino, entry.name.clone()));
                }
            }
            (Call::Do(Op::Rename(rename)), _) => {
                let (from, to) = ((rename.dir, rename.name.clone()), (rename.new_dir, rename.new_name.clone()));
                places.rename(from, to, rename.how);
            }
            (Call::Do(Op::Rmdir(Rmdir { dir, name })), _) => places.remove(&(*dir, name.clone())),
            _ => {}
        }
    }

    /// Has the kernel forget old places, where nothing of this mount is under way.
    pub(super) fn tell_places(&mut self) {
        for ((dir, name), leaving) in &mut self.places.leaving {
            if !leaving.told && !self.running.values().any(|running| running.call.is_in(*dir)) {
                leaving.told = true;
                self.out.push(Output::Forget(Forget::Name(*dir, name.clone())));
            }
        }
    }

    /// The kernel forgot a name. `true`: it was told so for a directory's old place. It may have been told of the same name
    /// twice, also for a copy: then the copy has gone when it said so twice.
    pub(super) fn place_forgotten(&mut self, object: &Object) -> bool {
        let Object::Entry(dir, name) = object else { return false };
        let place = (*dir, name.clone());
        if !self.places.leaving.get(&place).is_some_and(|leaving| leaving.told) {
            return false;
        }
        let waiting = self.places.leaving.remove(&place).map(|leaving| leaving.waiting).unwrap_or_default();
        self.let_go(waiting);
        true
    }

    /// Answers that waited for long enough. What the kernel was told it still does.
    pub(super) fn tick_places(&mut self) {
        let now = self.now;
        let mut waited = Vec::new();
        for leaving in self.places.leaving.values_mut().filter(|leaving| leaving.until <= now) {
            waited.append(&mut leaving.waiting);
        }
        self.places.leaving.retain(|_, leaving| leaving.told || leaving.until > now);
        self.let_go(waited);
    }

    /// Lets held answers go, where they do not wait for another place as well.
    fn let_go(&mut self, calls: Vec<CallId>) {
        for id in calls {
            if !self.places.is_held(id)
                && let Some(running) = self.running.get_mut(&id)
            {
                running.placed = true;
                self.run(id);
            }
        }
    }
}
