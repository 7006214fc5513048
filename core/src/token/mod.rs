//! # Tokens: who may change an object, and whose copy of it is true
//!
//! Every object has one token. It moves along a tree of nodes (whose leaves could be mounts as well: nothing here minds), by Raymond's
//! algorithm (K. Raymond, "A tree-based algorithm for distributed mutual exclusion", 1989), extended by shared copies. Each
//! vertex knows its neighbours only.
//!
//! ```text
//!              hub           holder: north       An untouched object's token is at the root, here `hub`, and nobody has
//!             /   \          copies: -           a record of it. Now:
//!            /     \
//!        north     south     north: token here, copies {a, b}      south: copy none, asked X of hub,
//!        /   \         \            queue [hub X]                         queue [c X]
//!       a     b         c    a, b: copies, read by programs        c: asked X of south, queue [c X]
//!                            hub:  asked X of north, queue [south X]
//! ```
//!
//! Next `north` recalls from `a` and `b`; each ends what its programs do with the copy and answers; then the token goes to
//! `hub`, `south` and `c`, which may change the object.
//!
//! A vertex works off its queue after every event:
//!
//! 1. While edges or the owner have to end something first: nothing. When that is over and an answer to a recall is owed:
//!    answer.
//! 2. The head wants to share, and there is a true copy here that the owner does not use exclusively: serve it, go on with
//!    the next.
//! 3. The token is not here: ask the holder's side, if it was not asked for as much already, and wait. If the head wants to
//!    share and somebody behind it wants more, ask for both: each takes its place in the holder's queue as early as it can.
//! 4. The owner has the object exclusively and the head wants to share: the owner is told to come down to sharing.
//! 5. The head wants it exclusively: the owner ends its use, copies are recalled from every edge but the head's, then the
//!    token goes to the head. What is still queued asks there, by rule 3.
//!
//! Only a head is ever served. So once somebody waits for exclusive use no new copy is given out (others call it freezing),
//! no one overtakes, and nobody starves: past a want that has been heard all the way to the token, no vertex is granted
//! exclusive use more than once. (Copies can be given to one vertex several times in that while, for each waits in a queue
//! on its own: on 200,000 random trees of up to 50 vertices three times were the most. Uses of what a vertex still holds are
//! no grants, and end with its recall.) Two who share and both want to change are no deadlock: waiting is not using, so the
//! copy of the one that comes second is recalled like any other.
//!
//! **Use and hold.** `want` begins a use, now or when it is granted; `done` ends it. What was granted stays *held* after the
//! last use: the owner may keep caches under a shared hold, and changes that were not sent yet under an exclusive one, and uses
//! it again at the cost of one look into a map. `Revoke` asks for it back; only after `revoked` (or `downgrade`) does the
//! vertex answer a recall or let the token go. Exclusion is between vertices: users of one vertex overlap as their owner
//! likes. An owner must be able to end every use without having another want for the same object granted.
//!
//! **Numbers.** Grants carry a serial, which is how a grant that comes twice or late is known, and a stamp, the Raft index at
//! which the object was as the grant says. A vertex that lets go hands on what the holder's side cannot know; the root
//! keeps the largest of all objects it has forgotten. So they never go back, though records come and go.
//!
//! **Loss.** Only the loss of a leaf is decided here, after its lease: [`Vertex::edge_lost`]. Where an inner vertex is lost
//! the next view begins with new vertices.
//!
//! Invariants, of all vertices together, at every moment:
//! * one token: in one vertex, or on its way between two;
//! * who holds exclusively has the token, and nobody else holds anything or has a true copy;
//! * a true copy is known, edge by edge, all the way to the token;
//! * a queue has at most two entries an edge, and two of the vertex itself;
//! * what nobody uses, waits for or was given away has no record, once it was tidied.

mod message;
mod neighbours;
mod owner;
mod record;
mod rules;
#[cfg(test)]
mod tests;

pub use message::{Grant, Message, Misuse, Mode, Output, Refusal, Row, Say, Wanted};

use crate::types::Ino;
use record::{Known, Outbox, Place, Record};
use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::fmt::Debug;

/// One vertex, with all its objects. `E` names an edge.
#[derive(Clone, Debug)]
pub struct Vertex<E> {
    to_root: Option<E>,
    edges: BTreeSet<E>,
    records: BTreeMap<Ino, Record<E>>,
    /// The largest serial and stamp of the records that were removed; of use at the root alone.
    forgotten: Known,
    out: Outbox<E>,
}

impl<E: Copy + Ord + Debug> Vertex<E> {
    /// The root, where no edge leads towards it; or a vertex with its first edge.
    pub fn new(to_root: Option<E>) -> Vertex<E> {
        Vertex {
            to_root,
            edges: to_root.into_iter().collect(),
            records: BTreeMap::new(),
            forgotten: Known::default(),
            out: Outbox::new(),
        }
    }

    /// A vertex that has nothing yet came below this one.
    pub fn edge_added(&mut self, edge: E) {
        self.edges.insert(edge);
    }

    /// The leaf beyond this edge is gone *and its lease is over*: its copies have ended, its wants vanish, a token that was
    /// there is here again. `stamp` is the index at which its end was agreed, behind which it can have changed nothing.
    pub fn edge_lost(&mut self, edge: E, stamp: u64) -> Result<(), Refusal> {
        if self.to_root == Some(edge) {
            return Err(Refusal::TowardsTheRoot);
        }
        if !self.edges.remove(&edge) {
            return Err(Refusal::NoSuchEdge);
        }
        self.out.forget_edge(edge);
        let objects: Vec<Ino> = self.records.keys().copied().collect();
        for object in objects {
            self.with(object, |record, out| record.lose(edge, stamp, object, out));
        }
        Ok(())
    }

    /// Begins a use, now or later. An operation asks once for an object, in the strongest mode it will need.
    pub fn want(&mut self, object: Ino, mode: Mode) -> Wanted {
        self.with(object, |record, out| record.want(mode, object, out))
    }

    /// What an object that nobody has touched is true at: nothing older is handed on. For the root, before it grants anything.
    pub fn begin_at(&mut self, stamp: u64) {
        self.forgotten.at_least(Known { serial: 0, stamp });
    }

    /// Ends one use.
    pub fn done(&mut self, object: Ino, mode: Mode) -> Result<(), Misuse> {
        self.records.get_mut(&object).ok_or(Misuse::NotUsed(object))?.done(mode, object)
    }

    /// Ends a shared use and wants an exclusive one. What was read may have changed by the time that is granted.
    pub fn upgrade(&mut self, object: Ino) -> Result<Wanted, Misuse> {
        self.done(object, Mode::Shared)?;
        Ok(self.want(object, Mode::Exclusive))
    }

    /// The owner holds the object shared at most from now on, all it changed is committed at `stamp`.
    pub fn downgrade(&mut self, object: Ino, stamp: u64) -> Result<(), Misuse> {
        self.with(object, |record, out| record.downgrade(stamp, object, out))
    }

    /// The owner holds nothing of the object from now on, whether it was asked to or not: its users are done, its caches
    /// dropped, all it changed is committed at `stamp`.
    pub fn revoked(&mut self, object: Ino, stamp: u64) -> Result<(), Misuse> {
        self.with(object, |record, out| record.revoked(stamp, object, out))
    }

    /// A message from the vertex beyond an edge. What no state allows is refused and changes nothing.
    pub fn receive(&mut self, edge: E, message: Message) -> Result<(), Refusal> {
        if !self.edges.contains(&edge) {
            return Err(Refusal::NoSuchEdge);
        }
        let (to_root, Message { object, say }) = (self.to_root, message);
        self.with(object, |record, out| record.hear(edge, to_root, say, object, out))
    }

    /// Drops the object's copy, or gives its token back towards the root, if nobody here or below has use for it. Whether
    /// there was something to let go of.
    pub fn tidy(&mut self, object: Ino) -> bool {
        let to_root = self.to_root;
        self.with(object, |record, out| record.tidy(to_root, object, out))
    }

    /// Tidies every object; how many there were something to let go of.
    pub fn tidy_idle(&mut self) -> usize {
        let idle: Vec<Ino> = self.records.iter().filter(|(_, r)| r.is_idle()).map(|(object, _)| *object).collect();
        idle.into_iter().filter(|object| self.tidy(*object)).count()
    }

    /// All that was to be said since it was last asked for: grants and revocations in their order, then one `Send` an edge.
    pub fn outputs(&mut self) -> Vec<Output<E>> {
        self.out.take()
    }

    /// What the owner holds of the object: granted and not given back.
    pub fn held(&self, object: Ino) -> Option<Mode> {
        self.records.get(&object)?.held
    }

    /// The index at which what is known of the object here is true: its state must have got there before it is used.
    pub fn stamp(&self, object: Ino) -> u64 {
        let untouched = if self.to_root.is_none() { self.forgotten } else { Known::default() };
        self.records.get(&object).map_or(untouched, |record| record.known).stamp
    }

    /// The edge towards the object's token, or `None` if it is here.
    pub fn holder(&self, object: Ino) -> Option<E> {
        let holder = self.records.get(&object).map_or(Place::from(self.to_root), |record| record.holder);
        match holder {
            Place::Here => None,
            Place::Beyond(edge) => Some(edge),
        }
    }

    /// All that the owner holds.
    pub fn holds(&self) -> impl Iterator<Item = (Ino, Mode)> {
        self.records.iter().filter_map(|(object, record)| Some((*object, record.held?)))
    }

    /// All that there is to say, object by object, from this one on.
    pub fn rows(&self, from: Ino) -> impl Iterator<Item = Row<E>> {
        self.records.range(from..).map(|(object, record)| {
            let edge = |place: Place<E>| if let Place::Beyond(edge) = place { Some(edge) } else { None };
            Row {
                object: *object,
                towards: edge(record.holder),
                held: record.held,
                copies: record.copies.iter().copied().collect(),
                queue: record.queue.iter().map(|waiting| (edge(waiting.who), waiting.mode)).collect(),
            }
        })
    }

    /// Objects of which there is more to say than that they are untouched.
    pub fn records(&self) -> usize {
        self.records.len()
    }

    /// Lets something happen to an object's record, which exists for as long as it says anything.
    fn with<T>(&mut self, object: Ino, event: impl FnOnce(&mut Record<E>, &mut Outbox<E>) -> T) -> T {
        let root = Place::from(self.to_root);
        match self.records.entry(object) {
            Entry::Occupied(mut kept) => {
                let outcome = event(kept.get_mut(), &mut self.out);
                if kept.get().is_untouched(root) {
                    self.forgotten.at_least(kept.remove().known);
                }
                outcome
            }
            Entry::Vacant(free) => {
                let known = if root == Place::Here { self.forgotten } else { Known::default() };
                let mut record = Record::untouched(root, known);
                let outcome = event(&mut record, &mut self.out);
                if record.is_untouched(root) {
                    self.forgotten.at_least(record.known);
                } else {
                    free.insert(record);
                }
                outcome
            }
        }
    }
}
