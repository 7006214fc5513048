//! What a vertex knows of one object.

use super::message::{Message, Mode, Output, Say};
use crate::types::Ino;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// This vertex itself, or what lies beyond one of its edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place<E> {
    Here,
    Beyond(E),
}

impl<E> From<Option<E>> for Place<E> {
    /// Where the root, and so an untouched object's token, is.
    fn from(to_root: Option<E>) -> Place<E> {
        to_root.map_or(Place::Here, Place::Beyond)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting<E> {
    pub(super) who: Place<E>,
    pub(super) mode: Mode,
    /// Of this vertex: so many wants that came while this one waited share its place. Of an edge: one.
    pub(super) users: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Users {
    pub(super) shared: u32,
    pub(super) exclusive: u32,
}

impl Users {
    pub(super) fn of(&mut self, mode: Mode) -> &mut u32 {
        match mode {
            Mode::Shared => &mut self.shared,
            Mode::Exclusive => &mut self.exclusive,
        }
    }
}

/// What outlives a record that was removed, so that a later one does not begin behind it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    pub(super) serial: u64,
    pub(super) stamp: u64,
}

impl Known {
    pub(super) fn at_least(&mut self, other: Known) {
        self.serial = self.serial.max(other.serial);
        self.stamp = self.stamp.max(other.stamp);
    }
}

/// The empty collections of a record hold no memory of their own.
#[derive(Clone, Debug)]
pub(super) struct Record<E> {
    pub(super) holder: Place<E>,
    /// What is here is true: it may be shared here and copies of it given.
    pub(super) copy: bool,
    /// The most that was granted to the owner and that it may still rely on.
    pub(super) held: Option<Mode>,
    pub(super) users: Users,
    /// The owner was told to end what it holds, down to what it may keep, and has not answered.
    pub(super) revoking: Option<Option<Mode>>,
    pub(super) copies: BTreeSet<E>,
    pub(super) queue: VecDeque<Waiting<E>>,
    pub(super) asked: Option<Mode>,
    /// Edges that owe an answer to a recall.
    pub(super) recalling: BTreeSet<E>,
    /// An answer to a recall is owed, to the holder's edge.
    pub(super) owes: bool,
    /// The largest serial and stamp seen.
    pub(super) known: Known,
    /// The serial of the last grant that came from the holder's edge or went there.
    pub(super) floor: u64,
}

impl<E: Copy + Ord> Record<E> {
    /// What is true of an object that nobody has touched.
    pub(super) fn untouched(root: Place<E>, known: Known) -> Record<E> {
        Record {
            holder: root,
            copy: root == Place::Here,
            held: None,
            users: Users::default(),
            revoking: None,
            copies: BTreeSet::new(),
            queue: VecDeque::new(),
            asked: None,
            recalling: BTreeSet::new(),
            owes: false,
            known,
            floor: 0,
        }
    }

    /// Nothing is used, waited for, given away or owed: the vertex could let go of what it has.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_none()
            && self.copies.is_empty()
            && self.queue.is_empty()
            && self.recalling.is_empty()
            && self.revoking.is_none()
            && !self.owes
    }

    /// It says no more than having no record does.
    pub(super) fn is_untouched(&self, root: Place<E>) -> bool {
        self.is_idle() && self.asked.is_none() && self.holder == root && self.copy == (root == Place::Here)
    }

    /// Counts a user in, if what is here is enough and nobody waits. It has no outbox to write to, so this costs nothing
    /// but the record.
    pub(super) fn use_at_once(&mut self, mode: Mode) -> Option<u64> {
        let quiet = self.queue.is_empty() && self.recalling.is_empty() && self.revoking.is_none() && !self.owes;
        let enough = match mode {
            Mode::Shared => self.copy,
            Mode::Exclusive => self.holder == Place::Here && self.copies.is_empty(),
        };
        (quiet && enough).then(|| {
            self.begin(mode, 1);
            self.known.stamp
        })
    }

    pub(super) fn begin(&mut self, mode: Mode, users: u32) {
        self.held = self.held.max(Some(mode));
        *self.users.of(mode) += users;
    }
}

/// What one or several events made a vertex say, until its owner takes it.
#[derive(Clone, Debug)]
pub(super) struct Outbox<E> {
    sending: BTreeMap<E, Vec<Message>>,
    told: Vec<Output<E>>,
    /// A mistake made on purpose: it proves that the tests see.
    #[cfg(test)]
    pub(super) planted: Option<super::tests::Planted>,
}

/// Whether this mistake is to be made; outside tests it is `false`, and nothing else is compiled.
macro_rules! planted {
    ($out:expr, $mistake:ident) => {{
        #[cfg(test)]
        let planted = $out.planted == Some(crate::token::tests::Planted::$mistake);
        #[cfg(not(test))]
        let (planted, _) = (false, &$out);
        planted
    }};
}
pub(super) use planted;

impl<E: Copy + Ord> Outbox<E> {
    pub(super) fn new() -> Outbox<E> {
        Outbox {
            sending: BTreeMap::new(),
            told: Vec::new(),
            #[cfg(test)]
            planted: None,
        }
    }

    pub(super) fn send(&mut self, edge: E, object: Ino, say: Say) {
        self.sending.entry(edge).or_default().push(Message { object, say });
    }

    pub(super) fn tell(&mut self, output: Output<E>) {
        self.told.push(output);
    }

    pub(super) fn forget_edge(&mut self, edge: E) {
        self.sending.remove(&edge);
    }

    pub(super) fn take(&mut self) -> Vec<Output<E>> {
        let mut all = std::mem::take(&mut self.told);
        let sending = std::mem::take(&mut self.sending);
        all.extend(sending.into_iter().map(|(edge, messages)| Output::Send { edge, messages }));
        all
    }
}
