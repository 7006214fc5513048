//! # The mount's copies: what it answers without asking, and what it lets the kernel answer
//!
//! A question that was asked before comes with the wish for copies of what its answer rests on. Over these records the same
//! question is answered here, by the same code that answers it on a node: where a record is missing, the node is asked. And
//! the kernel is told for how long it may keep an answer: never longer than the lease.
//!
//! ```text
//!   asked twice --keep--> node --facts--> records --> answers here, times for the kernel
//!                                           |
//!          Recall, end of the lease --------+--> gone; and where the kernel may still know: Forget, then Returned
//! ```
//! The kernel lets go of attributes at once. To let go of a name it waits for whatever happens in the name's directory, which
//! may itself wait for another mount that waits for this one. So a name's recall is over when the kernel has let go *or when
//! the time it was given is*, whatever comes first; and that time grows only with the time the name was at peace.
//!
//! Invariants:
//! * a record is used only while its object's copy is held and the lease lasts;
//! * the kernel's times end before the lease, and an object is returned only when they have, or the kernel let go of it;
//! * facts in the answer to a question that was asked before copies were given back are not believed: the node may count
//!   them as gone.

use super::{MountMachine, Output};
use crate::meta::{Fact, Fault, Key, Op, Query, Record, Step, Stop, Store, Txn, Value};
use crate::session::{Reply, ToNode};
use crate::types::{Cred, Ino, Kind, Object, Stamp};
use std::collections::BTreeMap;

/// The lease is renewed this often while there are copies, or were not long ago.
const RENEW_US: u64 = 150_000;
const ACTIVE_US: u64 = 10_000_000;
/// What the mount's clock may be slow by, against the leader's: a tenth.
const CLOCK_MARGIN: u64 = 10;
/// How much longer than told the kernel may keep an answer: it counts in ticks, and rounds up.
const KERNEL_ROUNDS_US: u64 = 20_000;
/// For how long the kernel may know a name at first.
const NAME_US: u64 = 100_000;
/// Nobody asked for it: given back.
const UNUSED_US: u64 = 30_000_000;
const SWEEP_US: u64 = 1_000_000;
/// What one message gives back.
const GIVE_BACK_MAX: usize = 4_096;
/// Objects of which there are copies at most.
const COPIES_MAX: usize = 100_000;
/// Questions whose repetition is noticed, and for how long.
const ASKED_MAX: usize = 50_000;
const ASKED_US: u64 = 60_000_000;
/// A question is asked this often before it comes with the wish for copies.
const OFTEN: u8 = 2;

/// Until when (on the mount's clock) the kernel may keep what it is answered; 0: for this one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Valid {
    pub entry: u64,
    pub attr: u64,
}

#[derive(Default)]
pub(super) struct Copies {
    /// Until when copies may be used; 0: there are none.
    until: u64,
    renewed: u64,
    active_until: u64,
    swept: u64,
    held: BTreeMap<Object, Held>,
    /// Asked back, and the kernel may know them until then.
    leaving: BTreeMap<Object, u64>,
    asked: BTreeMap<Object, u8>,
    asked_since: u64,
    /// Facts in answers to earlier questions are not believed.
    believe_from: u64,
}

#[derive(Default)]
struct Held {
    records: Vec<Record>,
    since: u64,
    used: u64,
    /// Until when the kernel may know something of it.
    kernel_until: u64,
}

/// The records as a store: it knows what was read for the same question.
struct Known<'c> {
    held: &'c BTreeMap<Object, Held>,
    query: &'c Query,
}

impl Known<'_> {
    fn records(&self, key: &Key) -> &[Record] {
        let held = self.query.object_of(key).and_then(|object| self.held.get(&object));
        held.map_or(&[], |held| &held.records)
    }
}

impl Store for Known<'_> {
    fn get(&self, key: &Key) -> Result<Option<Value>, Fault> {
        let find = |record: &Record| match record {
            Record::Value(k, value) if k == key => Some(value.clone()),
            _ => None,
        };
        self.records(key).iter().find_map(find).ok_or_else(|| Fault::Key(key.clone()))
    }

    fn range(&self, from: &Key, to: &Key, max: usize) -> Result<Vec<(Key, Value)>, Fault> {
        let find = |record: &Record| match record {
            Record::Range { from: f, to: t, max: m, found } if (f, t, *m) == (from, to, max as u64) => {
                Some(found.clone())
            }
            _ => None,
        };
        self.records(from).iter().find_map(find).ok_or_else(|| Fault::Range(from.clone(), to.clone()))
    }
}

/// A store that has nothing: what an operation touches beside what its own words say is not known here.
struct Nothing;

impl Store for Nothing {
    fn get(&self, _key: &Key) -> Result<Option<Value>, Fault> {
        Ok(None)
    }

    fn range(&self, _from: &Key, _to: &Key, _max: usize) -> Result<Vec<(Key, Value)>, Fault> {
        Ok(Vec::new())
    }
}

impl Copies {
    fn is_valid(&self, now: u64) -> bool {
        now < self.until
    }

    /// Whether this question was asked often enough to be worth a copy.
    fn is_asked_often(&mut self, about: Object, now: u64) -> bool {
        if self.asked.len() >= ASKED_MAX || now > self.asked_since + ASKED_US {
            self.asked.clear();
            self.asked_since = now;
        }
        let times = self.asked.entry(about).or_default();
        *times = times.saturating_add(1);
        if *times >= OFTEN {
            self.active_until = now + ACTIVE_US;
        }
        *times > OFTEN
    }

    fn take(&mut self, facts: Vec<Fact>, now: u64) {
        for Fact { object, record } in facts {
            let held = self.held.entry(object).or_insert_with(|| Held { since: now, used: now, ..Held::default() });
            held.used = now;
            let place = |r: &Record| match (r, &record) {
                (Record::Value(a, _), Record::Value(b, _)) => a == b,
                (Record::Range { from: a, max: m, .. }, Record::Range { from: b, max: n, .. }) => (a, m) == (b, n),
                _ => false,
            };
            match held.records.iter_mut().find(|r| place(r)) {
                Some(old) => *old = record,
                None => held.records.push(record),
            }
        }
    }

    fn inode(&self, object: &Object) -> Option<&crate::meta::Inode> {
        self.held.get(object)?.records.iter().find_map(|record| match record {
            Record::Value(Key::Inode(_), Some(Value::Inode(inode))) => Some(inode),
            _ => None,
        })
    }

    /// Names in this directory that the kernel may know: until when, the last of them.
    fn names_until(&self, dir: Ino) -> u64 {
        let of_dir = |(object, held): (&Object, &Held)| match object {
            Object::Entry(d, _) if *d == dir => held.kernel_until,
            _ => 0,
        };
        let leaving = |(object, until): (&Object, &u64)| match object {
            Object::Entry(d, _) if *d == dir => *until,
            _ => 0,
        };
        let held = self.held.iter().map(of_dir).max().unwrap_or(0);
        held.max(self.leaving.iter().map(leaving).max().unwrap_or(0))
    }

    /// The kernel is about to be told: until when, if at all.
    fn let_kernel_keep(&mut self, object: &Object, longest: u64, now: u64) -> u64 {
        let until = self.until.saturating_sub(KERNEL_ROUNDS_US).min(now + longest);
        let Some(held) = self.held.get_mut(object) else { return 0 };
        if until <= now {
            return 0;
        }
        held.kernel_until = held.kernel_until.max(until + KERNEL_ROUNDS_US);
        until
    }
}

impl MountMachine {
    /// The answer, if copies have everything that it rests on.
    pub(super) fn answer_here(&mut self, cred: &Cred, query: &Query) -> Option<Reply> {
        let about = query.about()?;
        let now = self.now;
        if !self.copies.is_valid(now) {
            return None;
        }
        self.copies.held.get_mut(&about)?.used = now;
        let known = Known { held: &self.copies.held, query };
        let mut txn = Txn::new(&known, Stamp::default());
        match query.run(&mut txn, cred) {
            Ok(answer) => Some(Reply::Done(answer)),
            Err(Stop::Errno(errno)) => Some(Reply::Failed(errno)),
            Err(Stop::NeedGroups) => Some(Reply::NeedGroups),
            Err(Stop::Fault(_)) => None,
        }
    }

    /// Whether a question that goes to the node should bring copies along.
    pub(super) fn wants_copies(&mut self, query: &Query) -> bool {
        let Some(about) = query.about() else { return false };
        let now = self.now;
        let room = self.copies.held.len() < COPIES_MAX;
        self.copies.is_asked_often(about, now) && room && self.copies.is_valid(now)
    }

    /// Facts came with the answer to a question; whether they can be believed.
    pub(super) fn take_facts(&mut self, asked: u64, facts: Vec<Fact>) -> bool {
        let believed = asked >= self.copies.believe_from && self.copies.is_valid(self.now);
        if believed {
            self.copies.take(facts, self.now);
        }
        believed
    }

    /// For how long the kernel may keep the answer to a question that was answered under copies.
    pub(super) fn validity(&mut self, query: &Query) -> Valid {
        let (now, copies) = (self.now, &mut self.copies);
        if !copies.is_valid(now) {
            return Valid::default();
        }
        match (query, query.about()) {
            (Query::GetAttr(_), Some(whole)) => {
                Valid { entry: 0, attr: copies.let_kernel_keep(&whole, u64::MAX / 2, now) }
            }
            (Query::Lookup(lookup), Some(entry)) => {
                // The kernel walks through names that it knows without asking who does: only where everybody may.
                let for_all = |dir: &crate::meta::Inode| dir.kind == Kind::Directory && dir.mode & 0o111 == 0o111;
                if !copies.inode(&Object::Rights(lookup.dir)).is_some_and(for_all) {
                    return Valid::default();
                }
                let since = copies.held.get(&entry).map_or(now, |held| held.since);
                Valid { entry: copies.let_kernel_keep(&entry, NAME_US.max((now - since) / 2), now), attr: 0 }
            }
            _ => Valid::default(),
        }
    }

    pub(super) fn recalled(&mut self, objects: Vec<Object>) {
        let (mut gone, mut leaving) = (Vec::new(), Vec::new());
        for object in objects {
            let mut until = self.copies.held.remove(&object).map_or(0, |held| held.kernel_until);
            if let Object::Rights(dir) = &object {
                until = until.max(self.copies.names_until(*dir));
            }
            if until > self.now { leaving.push((object, until)) } else { gone.push(object) }
        }
        for (object, until) in leaving {
            self.copies.leaving.insert(object.clone(), until);
            // Who may search a directory the kernel knows only by the names in it, and their times are short.
            if !matches!(object, Object::Rights(_)) {
                self.out.push(Output::Forget(object));
            }
        }
        self.say_returned(gone);
    }

    /// The kernel knows nothing of it any more.
    pub(super) fn forgot(&mut self, object: Object) {
        if self.copies.leaving.remove(&object).is_some() {
            self.say_returned(vec![object]);
        }
    }

    fn say_returned(&mut self, objects: Vec<Object>) {
        if !objects.is_empty() {
            self.out.push(Output::Tell(ToNode::Returned(objects)));
        }
    }

    /// A command is about to be sent: what the node would ask back for it goes back now, if the kernel knows nothing of it.
    pub(super) fn give_back_before(&mut self, op: &Op) {
        let touched = op.touches(&Nothing).unwrap_or_default();
        let now = self.now;
        let is_free = |object: &Object| {
            !matches!(object, Object::Entry(..))
                && self.copies.held.get(object).is_some_and(|held| held.kernel_until <= now)
                && !matches!(object, Object::Rights(dir) if self.copies.names_until(*dir) > now)
        };
        let free: Vec<Object> = touched.into_iter().filter(is_free).collect();
        self.give_back(free);
    }

    fn give_back(&mut self, objects: Vec<Object>) {
        if objects.is_empty() {
            return;
        }
        for object in &objects {
            self.copies.held.remove(object);
        }
        self.copies.believe_from = self.next_ask;
        self.out.push(Output::Tell(ToNode::GaveBack(objects)));
    }

    /// An own command has its reply: what was known of its names is over; the kernel knows better, and what it knew of one
    /// name it may now know of the other.
    pub(super) fn names_changed(&mut self, op: &Op) {
        let names: Vec<Object> = op.names().into_iter().map(|(dir, name)| Object::Entry(dir, name.clone())).collect();
        let known = |object: &Object| self.copies.held.get(object).map(|held| held.kernel_until);
        let Some(until) = names.iter().filter_map(known).max() else { return };
        for name in names {
            let now = self.now;
            self.copies.held.insert(name, Held { records: Vec::new(), since: now, used: now, kernel_until: until });
        }
    }

    pub(super) fn lease_came(&mut self, sent: u64, lasts: u64) {
        let until = sent + lasts - lasts / CLOCK_MARGIN;
        if until > self.now {
            self.copies.until = self.copies.until.max(until);
        }
    }

    /// A stream to a node is new: it has given nothing out yet.
    pub(super) fn without_copies(&mut self) {
        self.copies.held.clear();
        self.copies.leaving.clear();
        self.copies.until = 0;
        self.copies.renewed = 0;
        self.copies.believe_from = self.next_ask;
    }

    /// Before anything else happens: what lasted until now is over.
    pub(super) fn expire_copies(&mut self) {
        if self.copies.until != 0 && !self.copies.is_valid(self.now) {
            self.without_copies();
            self.out.push(Output::Tell(ToNode::Empty));
        }
    }

    pub(super) fn tick_copies(&mut self) {
        let now = self.now;
        let left: Vec<Object> =
            self.copies.leaving.iter().filter(|(_, until)| **until <= now).map(|(object, _)| object.clone()).collect();
        for object in &left {
            self.copies.leaving.remove(object);
        }
        self.say_returned(left);
        self.renew_if_due();
        if now >= self.copies.swept + SWEEP_US {
            self.copies.swept = now;
            let unused = |held: &Held| held.kernel_until <= now && held.used + UNUSED_US <= now;
            let free = self.copies.held.iter().filter(|(_, held)| unused(held)).map(|(object, _)| object.clone());
            let free = free.take(GIVE_BACK_MAX).collect();
            self.give_back(free);
        }
    }

    pub(super) fn renew_if_due(&mut self) {
        let now = self.now;
        let active = !self.copies.held.is_empty() || now < self.copies.active_until;
        if self.link.is_up() && active && (self.copies.renewed == 0 || now >= self.copies.renewed + RENEW_US) {
            self.copies.renewed = now;
            self.out.push(Output::Tell(ToNode::Renew { sent: now }));
        }
    }

    /// Whether something is to be done soon: the shell ticks faster then.
    pub fn is_waiting_for_kernel(&self) -> bool {
        !self.copies.leaving.is_empty()
    }
}
