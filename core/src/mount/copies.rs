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
//! may itself wait for another mount that waits for this one. It is asked to when no call of this mount is in the directory; and a name's recall is over when the kernel has let go *or when
//! the time it was given is*, whatever comes first; and that time grows only with the time the name was at peace.
//!
//! Invariants:
//! * a record is used only while its object's copy is held and the lease lasts;
//! * the kernel's times end before the lease, and an object is returned only when they have, or the kernel let go of it;
//! * facts in the answer to a question that was asked before copies were given back are not believed: the node may count
//!   them as gone.

use super::flow::Running;
use super::{Call, MountMachine, Output};
use crate::meta::ops::GetAttr;
use crate::meta::{Fact, Fault, Key, Op, Query, Record, Step, Stop, Store, Txn, Value};
use crate::session::{Reply, ToNode};
use crate::types::{Cred, Ino, Kind, Name, Object, Stamp};
use std::collections::{BTreeMap, BTreeSet};

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
/// What is kept of one object at most.
const RECORDS_MAX: usize = 128;
/// Objects of which there are copies at most.
const COPIES_MAX: usize = 100_000;
/// Questions whose repetition is noticed, and for how long.
const ASKED_MAX: usize = 50_000;
const ASKED_US: u64 = 60_000_000;
/// For how long after a mapped page was written there may be more that are to be: the kernel writes each after half a minute.
const MAPPED_US: u64 = 40_000_000;
/// A question is asked this often before it comes with the wish for copies.
const OFTEN: u8 = 2;

/// Until when (on the mount's clock) the kernel may keep what it is answered; 0: for this one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Valid {
    pub entry: u64,
    pub attr: u64,
    /// Of what is being opened: what will be read.
    pub pages: Pages,
    /// Of what is being opened: nobody needs to hear of each close.
    pub quiet: bool,
}

/// Whether the kernel may keep bytes of a file, or a directory's listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pages {
    #[default]
    No,
    /// From now on; what it has from before may be old.
    Fresh,
    /// And what it has is true.
    Known,
}

/// What the kernel is to know no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forget {
    Name(Ino, Name),
    Attr(Ino),
    /// Attributes and pages.
    All(Ino),
    /// Attributes and some pages. Nobody waits for it.
    Range {
        ino: Ino,
        offset: u64,
        len: u32,
    },
}

impl Forget {
    /// What [`super::Input::Forgot`] names when it is done.
    pub fn object(&self) -> Option<Object> {
        match self {
            Forget::Name(dir, name) => Some(Object::Entry(*dir, name.clone())),
            Forget::Attr(ino) | Forget::All(ino) => Some(Object::Whole(*ino)),
            Forget::Range { .. } => None,
        }
    }
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
    leaving: BTreeMap<Object, Leaving>,
    /// Files of which the kernel wrote mapped pages, and when last.
    mapped: BTreeMap<Ino, u64>,
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
    /// Until when it may know something that it cannot be told to forget.
    sure_until: u64,
    /// The kernel may have pages of it.
    paged: bool,
    /// And has none from before there was this copy.
    fresh: bool,
}

impl Held {
    fn is_unknown_to_kernel(&self, now: u64) -> bool {
        !self.paged && self.kernel_until.max(self.sure_until) <= now
    }
}

/// What was asked back and the kernel has not let go of.
#[derive(Clone)]
struct Leaving {
    /// It is over then, whatever the kernel does, and not before.
    until: u64,
    not_before: u64,
    forgot: bool,
    /// What the kernel is still to be told.
    tell: Option<Forget>,
    /// Pages came in meanwhile: once more.
    again: bool,
    /// Nobody asked for it back.
    own_will: bool,
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
    pub(super) fn count(&self) -> usize {
        self.held.len()
    }

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
            if self.leaving.contains_key(&object) {
                continue;
            }
            let held = self.held.entry(object).or_insert_with(|| Held { since: now, used: now, ..Held::default() });
            held.used = now;
            let place = |r: &Record| match (r, &record) {
                (Record::Value(a, _), Record::Value(b, _)) => a == b,
                (Record::Range { from: a, max: m, .. }, Record::Range { from: b, max: n, .. }) => (a, m) == (b, n),
                _ => false,
            };
            match held.records.iter().position(place) {
                Some(at) => held.records[at] = record,
                // Who asks for ever new parts of it asks the node.
                None if held.records.len() < RECORDS_MAX => held.records.push(record),
                None => {}
            }
        }
    }

    fn inode(&self, object: &Object) -> Option<&crate::meta::Inode> {
        self.held.get(object)?.records.iter().find_map(|record| match record {
            Record::Value(Key::Inode(_), Some(Value::Inode(inode))) => Some(inode),
            _ => None,
        })
    }

    fn everybody_may_search(&self, dir: Ino) -> bool {
        let open = |dir: &crate::meta::Inode| dir.kind == Kind::Directory && dir.mode & 0o111 == 0o111;
        self.inode(&Object::Rights(dir)).is_some_and(open)
    }

    /// What the name stands for.
    fn found(&self, entry: &Object) -> Option<Ino> {
        self.held.get(entry)?.records.iter().find_map(|record| match record {
            Record::Value(_, Some(Value::Entry(entry))) => Some(entry.ino),
            _ => None,
        })
    }

    /// Names in this directory that the kernel may know: until when, the last of them.
    fn names_until(&self, dir: Ino) -> u64 {
        let of_dir = |(object, held): (&Object, &Held)| match object {
            Object::Entry(d, _) if *d == dir => held.kernel_until,
            _ => 0,
        };
        let leaving = |(object, leaving): (&Object, &Leaving)| match object {
            Object::Entry(d, _) if *d == dir => leaving.until,
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

    /// The attributes that come with a name: if the kernel does not know the object yet, it cannot be told to forget them
    /// while they are on their way. It says so, and then whoever asks for the object back waits until their time is over.
    fn let_kernel_keep_found(&mut self, object: &Object, longest: u64, now: u64) -> u64 {
        let until = self.let_kernel_keep(object, longest, now);
        if let Some(held) = self.held.get_mut(object).filter(|_| until > 0) {
            held.sure_until = until + KERNEL_ROUNDS_US;
        }
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
                Valid { attr: copies.let_kernel_keep(&whole, u64::MAX / 2, now), ..Valid::default() }
            }
            (Query::Lookup(lookup), Some(entry)) => {
                // The kernel walks through names that it knows without asking who does: only where everybody may.
                if !copies.everybody_may_search(lookup.dir) {
                    return Valid::default();
                }
                let since = copies.held.get(&entry).map_or(now, |held| held.since);
                let longest = NAME_US.max((now - since) / 2);
                let until = copies.let_kernel_keep(&entry, longest, now);
                let found = copies.found(&entry).map(Object::Whole);
                let attr = found.map_or(0, |whole| copies.let_kernel_keep_found(&whole, longest, now));
                Valid { entry: until, attr, ..Valid::default() }
            }
            _ => Valid::default(),
        }
    }

    /// An object is being opened: whether the kernel may keep what is read, and whether closes matter.
    pub(super) fn pages_of(&mut self, ino: Ino, write: bool) -> Valid {
        let whole = Object::Whole(ino);
        if write || !self.copies.is_valid(self.now) || self.copies.mapped.contains_key(&ino) {
            return Valid::default();
        }
        let is_file = self.copies.inode(&whole).is_some_and(|inode| inode.kind == Kind::File);
        let quiet = is_file && !self.has_locks_on(ino);
        let Some(held) = self.copies.held.get_mut(&whole) else { return Valid::default() };
        held.paged = true;
        let pages = if std::mem::replace(&mut held.fresh, true) { Pages::Known } else { Pages::Fresh };
        Valid { pages, quiet, ..Valid::default() }
    }

    /// Pages went to the kernel, however the file was opened. Without a copy it must not keep them for long; and a file that is
    /// read so often is worth one.
    pub(super) fn pages_read(&mut self, ino: Ino, offset: u64, len: u32) {
        if self.keeps_mapped(ino) {
            return;
        }
        let (whole, now) = (Object::Whole(ino), self.now);
        if let Some(held) = self.copies.held.get_mut(&whole) {
            (held.paged, held.used) = (true, now);
        } else if let Some(leaving) = self.copies.leaving.get_mut(&whole) {
            leaving.again = true;
        } else {
            self.out.push(Output::Forget(Forget::Range { ino, offset, len }));
            let asking = |r: &Running| matches!(&r.call, Call::Ask(Query::GetAttr(get)) if get.ino == ino);
            if !self.running.values().any(asking) {
                self.begin_own(Call::Ask(GetAttr { ino }.into()));
            }
        }
    }

    pub(super) fn recalled(&mut self, objects: Vec<Object>) {
        let mut gone = Vec::new();
        self.stats.recalled += objects.len() as u64;
        for object in objects {
            let comes = self.comes_with_a_reply(&object);
            if let Some(leaving) = self.copies.leaving.get_mut(&object) {
                leaving.own_will = false;
            } else if !self.take_from_kernel(&object, comes, false) {
                gone.push(object);
            }
        }
        self.tell_kernel();
        self.say_returned(gone);
    }

    /// Until when the kernel may know a name that it does not know yet: that of a rename under way, if it knows the other one.
    fn comes_with_a_reply(&self, object: &Object) -> u64 {
        let Object::Entry(dir, name) = object else { return 0 };
        let known = |(dir, name): (Ino, &Name)| {
            let object = Object::Entry(dir, name.clone());
            let leaving = self.copies.leaving.get(&object).map_or(0, |leaving| leaving.until);
            self.copies.held.get(&object).map_or(leaving, |held| held.kernel_until)
        };
        let ops = self.unanswered.commands().map(|command| &command.op);
        let its = ops.filter(|op| op.names().contains(&(*dir, name)));
        its.flat_map(|op| op.names()).map(known).max().unwrap_or(0)
    }

    /// A listing went to the kernel, which keeps it where the directory was opened so.
    pub(super) fn listing_read(&mut self, dir: Ino) {
        if self.is_open_cached(dir)
            && let Some(held) = self.copies.held.get_mut(&Object::Whole(dir))
        {
            held.paged = true;
        }
    }

    /// An open file of which the kernel may keep pages.
    fn is_open_cached(&self, ino: Ino) -> bool {
        self.handles.values().any(|opened| opened.ino == ino && opened.cached)
    }

    /// A mapped page begins or ends being written. Until it is, the kernel cannot let go of it, and a node may be waiting with it
    /// for this mount's own copy. So for a while its pages are kept without a copy (docs/semantics).
    pub(super) fn writes_mapped(&mut self, ino: Ino) {
        self.copies.mapped.insert(ino, self.now);
    }

    /// Whether pages of a file stay in the kernel though others change it: this kernel writes mapped ones, and nobody has the
    /// file open so that `read` would show what else it has.
    fn keeps_mapped(&self, ino: Ino) -> bool {
        self.copies.mapped.contains_key(&ino) && !self.is_open_cached(ino)
    }

    /// Drops a copy. `true`: the kernel may still know something, or comes to until then, and is to be told to forget it
    /// ([`Self::tell_kernel`]).
    fn take_from_kernel(&mut self, object: &Object, comes: u64, own_will: bool) -> bool {
        let held = self.copies.held.remove(object).unwrap_or_default();
        let mut until = held.kernel_until.max(held.sure_until).max(comes);
        let forget = match object {
            // It knows who may search a directory only by the names in it, and their times are short.
            Object::Rights(dir) => {
                until = until.max(self.copies.names_until(*dir));
                None
            }
            Object::Entry(dir, name) => Some(Forget::Name(*dir, name.clone())),
            Object::Whole(ino) if held.paged && !self.keeps_mapped(*ino) => {
                // Pages have no time; but the node waits no longer than the lease.
                until = until.max(self.copies.until);
                Some(Forget::All(*ino))
            }
            Object::Whole(ino) => Some(Forget::Attr(*ino)),
        };
        if until <= self.now {
            return false;
        }
        let leaving =
            Leaving { until, not_before: held.sure_until, forgot: false, tell: forget, again: false, own_will };
        self.copies.leaving.insert(object.clone(), leaving);
        true
    }

    /// Has the kernel forget what was asked back, where nothing of this mount is under way there: else the kernel would wait
    /// for it, deaf to everything, and if this process was killed then, both would wait for ever.
    pub(super) fn tell_kernel(&mut self) {
        self.tell_places();
        if self.copies.leaving.is_empty() {
            return;
        }
        let running = &self.running;
        for leaving in self.copies.leaving.values_mut() {
            let busy = |call: &Call| match &leaving.tell {
                Some(Forget::Name(dir, _)) => call.is_in(*dir),
                Some(Forget::All(ino)) => matches!(call, Call::Read { ino: i, pages: true, .. } if i == ino),
                Some(_) | None => false,
            };
            if leaving.tell.is_some() && !running.values().any(|r| busy(&r.call)) {
                self.out.extend(leaving.tell.take().map(Output::Forget));
            }
        }
    }

    /// The kernel knows nothing of it any more. What it did not know may still be on its way to it.
    pub(super) fn forgot(&mut self, object: Object, knew: bool) {
        if self.place_forgotten(&object) {
            return;
        }
        let now = self.now;
        let Some(leaving) = self.copies.leaving.get_mut(&object) else { return };
        if std::mem::take(&mut leaving.again)
            && let Object::Whole(ino) = &object
        {
            leaving.tell = Some(Forget::All(*ino));
            return self.tell_kernel();
        }
        leaving.forgot = true;
        if knew {
            leaving.not_before = 0;
        }
        if leaving.not_before <= now {
            self.left(object);
        }
    }

    /// The kernel is done with it.
    fn left(&mut self, object: Object) {
        match self.copies.leaving.remove(&object) {
            Some(Leaving { own_will: true, .. }) => self.give_back(vec![object]),
            Some(_) => self.say_returned(vec![object]),
            None => {}
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
                && self.copies.held.get(object).is_some_and(|held| held.is_unknown_to_kernel(now))
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
    /// name it may now know of the other. What was asked back meanwhile goes back when the kernel has forgotten it.
    pub(super) fn names_changed(&mut self, op: &Op) {
        let names: Vec<Object> = op.names().into_iter().map(|(dir, name)| Object::Entry(dir, name.clone())).collect();
        let known = |object: &Object| self.copies.held.get(object).map(|held| held.kernel_until);
        let Some(until) = names.iter().filter_map(known).max() else { return };
        let now = self.now;
        for name in names {
            let was_held = self.copies.held.contains_key(&name);
            if let Some(leaving) = self.copies.leaving.get_mut(&name) {
                leaving.until = leaving.until.max(until);
            } else if was_held || until > now {
                self.copies.held.insert(name, Held { since: now, used: now, kernel_until: until, ..Held::default() });
            }
        }
    }

    /// A rename took a name that the kernel knew into a directory that not everybody may search: there the kernel must ask.
    pub(super) fn shut_behind(&mut self, op: &Op) {
        let Op::Rename(rename) = op else { return };
        let now = self.now;
        for (dir, name) in [(rename.new_dir, &rename.new_name), (rename.dir, &rename.name)] {
            let object = Object::Entry(dir, name.clone());
            let known = self.copies.held.get(&object).is_some_and(|held| held.kernel_until > now);
            if known && !self.copies.everybody_may_search(dir) {
                self.out.push(Output::Forget(Forget::Name(dir, name.clone())));
            }
        }
    }

    pub(super) fn lease_came(&mut self, sent: u64, lasts: u64) {
        let until = sent.saturating_add(lasts - lasts / CLOCK_MARGIN);
        if sent <= self.now && until > self.now {
            self.copies.until = self.copies.until.max(until);
        }
    }

    /// A stream to a node is new: it has given nothing out yet.
    pub(super) fn without_copies(&mut self) {
        // Times are over, or watched over by those who gave the copies out. Pages have none.
        for (object, held) in std::mem::take(&mut self.copies.held) {
            if let Object::Whole(ino) = object
                && held.paged
            {
                self.out.push(Output::Forget(Forget::All(ino)));
            }
        }
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
        let over = |leaving: &Leaving| leaving.until <= now || leaving.forgot && leaving.not_before <= now;
        let left: Vec<Object> =
            self.copies.leaving.iter().filter(|(_, leaving)| over(leaving)).map(|(object, _)| object.clone()).collect();
        for object in left {
            self.left(object);
        }
        self.renew_if_due();
        if now >= self.copies.swept + SWEEP_US {
            self.copies.swept = now;
            self.copies.mapped.retain(|_, written| *written + MAPPED_US > now);
            self.give_back_unused();
        }
    }

    /// What nobody asked for in a while: at once where the kernel knows nothing of it, else when it forgot.
    fn give_back_unused(&mut self) {
        let now = self.now;
        let unused = |held: &Held| held.kernel_until.max(held.sure_until) <= now && held.used + UNUSED_US <= now;
        let open: BTreeSet<Ino> =
            self.handles.values().filter(|opened| opened.cached).map(|opened| opened.ino).collect();
        let in_use = |object: &Object| matches!(object, Object::Whole(ino) if open.contains(ino));
        let unused = self.copies.held.iter().filter(|(object, held)| unused(held) && !(held.paged && in_use(object)));
        let unused = unused.take(GIVE_BACK_MAX);
        let mut unused: Vec<Object> = unused.map(|(object, _)| object.clone()).collect();
        unused.retain(|object| !self.take_from_kernel(object, 0, true));
        self.tell_kernel();
        self.give_back(unused);
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
        !self.copies.leaving.is_empty() || self.places.is_waiting()
    }
}
