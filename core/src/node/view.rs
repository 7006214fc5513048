//! The state as this node knows it: the state store on disk, and above it the changes that are not there yet.
//!
//! ```text
//!   fresh     applied, not yet handed to the state store
//!   storing   handed to it, not yet readable there
//!   base      the state store
//! ```
//! The uppermost layer that knows a key decides. So the reply to a command waits for no database.

use super::io::Changes;
use super::members::listed;
use super::messages::Space;
use super::shares::room_for_all;
use crate::meta::{Answer, Fact, Fault, Key, Memory, Query, Recording, Run, Step, Stop, Store, Txn, Value};
use crate::session::Reply;
use crate::types::{Cred, Errno, Ino, NodeId, Stamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A store that can be kept as it is at one moment.
pub trait Freeze: Store + Send + Sync {
    /// As it is now, whatever changes later.
    fn freeze(self: Arc<Self>) -> Base;
}

/// The state store below: a database, or memory in the simulator.
pub type Base = Arc<dyn Freeze>;

impl Freeze for Memory {
    fn freeze(self: Arc<Self>) -> Base {
        self // nobody changes what is shared
    }
}

/// The whole state as it was behind one entry: who walks over it for minutes holds nobody up.
#[derive(Clone)]
pub struct Frozen {
    pub at: u64,
    view: Arc<View>,
}

impl std::fmt::Debug for Frozen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the state at {}", self.at)
    }
}

impl Store for Frozen {
    fn get(&self, key: &Key) -> Result<Option<Value>, Fault> {
        self.view.get(key)
    }

    fn range(&self, from: &Key, to: &Key, max: usize) -> Result<Vec<(Key, Value)>, Fault> {
        self.view.range(from, to, max)
    }
}

pub(super) struct View {
    pub(super) fresh: BTreeMap<Key, Option<Value>>,
    pub(super) storing: Changes,
    base: Base,
    /// Room on the disks of the nodes that were heard of lately, as far as this one was told.
    pub(super) spaces: BTreeMap<NodeId, Space>,
    /// Objects that lost their last link a moment ago and may still be opened: nobody was asked yet who holds them. Only the
    /// leader knows any.
    pub(super) just_unlinked: BTreeSet<Ino>,
}

impl View {
    pub(super) fn absorb(&mut self, changes: BTreeMap<Key, Option<Value>>) {
        self.fresh.extend(changes);
    }

    /// As it is now, which is behind entry `at`.
    pub(super) fn freeze(&self, at: u64) -> Frozen {
        let (fresh, storing, base) = (self.fresh.clone(), self.storing.clone(), self.base.clone().freeze());
        let view = View { fresh, storing, base, spaces: BTreeMap::new(), just_unlinked: BTreeSet::new() };
        Frozen { at, view: Arc::new(view) }
    }

    pub(super) fn waiting(&self) -> usize {
        self.fresh.len() + self.storing.len()
    }
}

impl Store for View {
    fn get(&self, key: &Key) -> Result<Option<Value>, Fault> {
        match self.fresh.get(key).or_else(|| self.storing.get(key)) {
            Some(changed) => Ok(changed.clone()),
            None => self.base.get(key),
        }
    }

    fn range(&self, from: &Key, to: &Key, max: usize) -> Result<Vec<(Key, Value)>, Fault> {
        if from >= to {
            return Ok(Vec::new());
        }
        let mut changed: BTreeMap<&Key, &Option<Value>> = self.storing.range(from.clone()..to.clone()).collect();
        changed.extend(self.fresh.range(from.clone()..to.clone()));
        let deleted = changed.values().filter(|value| value.is_none()).count();
        let base = self.base.range(from, to, max.saturating_add(deleted))?;
        Ok(crate::meta::overlay(base, changed.into_iter(), max))
    }
}

/// The state shared between the machine, which changes it, and whoever may answer questions beside it.
pub(super) struct Shared {
    view: RwLock<View>,
    /// Until when (on the monotonic clock) what is applied here is the latest there is; 0: it may not be.
    reads_until: AtomicU64,
    /// The state is that of this entry, and of this term, or newer.
    applied: AtomicU64,
    applied_term: AtomicU64,
    /// The last merge that was applied since the start.
    merged: AtomicU64,
}

impl Shared {
    pub(super) fn new(base: Base, applied: (u64, u64)) -> Arc<Shared> {
        let view = View {
            fresh: BTreeMap::new(),
            storing: Changes::default(),
            base,
            spaces: BTreeMap::new(),
            just_unlinked: BTreeSet::new(),
        };
        Arc::new(Shared {
            view: RwLock::new(view),
            reads_until: AtomicU64::new(0),
            applied: AtomicU64::new(applied.0),
            applied_term: AtomicU64::new(applied.1),
            merged: AtomicU64::new(0),
        })
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn has_applied(&self, (index, term): (u64, u64)) {
        self.applied.store(index, Ordering::SeqCst);
        self.applied_term.store(term, Ordering::SeqCst);
    }

    pub(super) fn has_merged(&self, number: u64) {
        self.merged.fetch_max(number, Ordering::SeqCst);
    }

    pub(super) fn allow_reads_until(&self, until: u64) {
        self.reads_until.store(until, Ordering::SeqCst);
    }

    pub(super) fn may_read(&self, now: u64) -> bool {
        now < self.reads_until.load(Ordering::SeqCst)
    }
}

/// Answers questions beside the machine, from any thread, while this node's leadership lasts.
#[derive(Clone)]
pub struct Reader(pub(super) Arc<Shared>);

impl Reader {
    /// The answer, or `None` where this node cannot be sure to have the latest state: then the machine must be asked.
    /// `clock` is read after the state was: the answer counts only if the lease was still good then.
    pub fn ask(&self, clock: impl Fn() -> u64, cred: &Cred, query: &Query) -> Option<Reply> {
        if !self.0.may_read(clock()) {
            return None;
        }
        let reply = answer(&self.0.read(), cred, query);
        self.0.may_read(clock()).then_some(reply)
    }

    /// What is seen of the state after this is that of this entry, or newer.
    pub fn applied(&self) -> u64 {
        self.0.applied.load(Ordering::SeqCst)
    }

    /// In which term that entry, or a newer one, was proposed.
    pub(super) fn applied_term(&self) -> u64 {
        self.0.applied_term.load(Ordering::SeqCst)
    }

    pub(super) fn merged(&self) -> u64 {
        self.0.merged.load(Ordering::SeqCst)
    }

    /// Room on the disks of the nodes that were heard of lately, as far as this one was told.
    pub fn spaces(&self) -> BTreeMap<NodeId, Space> {
        self.0.read().spaces.clone()
    }

    /// The state as far as this node has applied it: for checks and repairs, not for answers to programs.
    pub fn with_state<T>(&self, look: impl FnOnce(&dyn Store) -> T) -> T {
        look(&*self.0.read())
    }
}

/// The answer, and what it rests on.
pub(super) fn answer_with_facts(view: &View, cred: &Cred, query: &Query) -> (Reply, Vec<Fact>) {
    let recording = Recording::new(view);
    let mut txn = Txn::new(&recording, Stamp::default());
    let outcome = run(view, &mut txn, cred, query);
    let reply = reply_of(outcome, view);
    (reply, recording.facts(query))
}

/// The same, if it rests on nothing but what tokens and copies protect.
pub(super) fn answer_with_all_facts(view: &View, cred: &Cred, query: &Query) -> Option<(Reply, Vec<Fact>)> {
    let recording = Recording::new(view);
    let mut txn = Txn::new(&recording, Stamp::default());
    let outcome = run(view, &mut txn, cred, query);
    recording.is_all_of_objects().then(|| (reply_of(outcome, view), recording.facts(query)))
}

pub(super) fn answer(view: &View, cred: &Cred, query: &Query) -> Reply {
    let mut txn = Txn::new(view, Stamp::default());
    let outcome = run(view, &mut txn, cred, query);
    reply_of(outcome, view)
}

fn run<S: Store + ?Sized>(view: &View, txn: &mut Txn<'_, S>, cred: &Cred, query: &Query) -> Run<Answer> {
    match query {
        Query::Open(open) if view.just_unlinked.contains(&open.ino) => open.run_though_unlinked(txn, cred),
        query => query.run(txn, cred),
    }
}

/// What the disks of those that stay can keep.
pub(super) fn disks_together(view: &View) -> Space {
    room_for_all(&disks_that_stay(view))
}

fn disks_that_stay(view: &View) -> Vec<Space> {
    let staying = listed(view).ok().flatten().map(|members| members.staying()).unwrap_or_default();
    staying.iter().filter_map(|node| view.spaces.get(node).copied()).collect()
}

fn reply_of(outcome: Run<Answer>, view: &View) -> Reply {
    match outcome {
        Ok(Answer::StatFs(mut stat)) => {
            let room = disks_together(view);
            stat.total = room.total;
            stat.free = room.free;
            Reply::Done(Answer::StatFs(stat))
        }
        Ok(answer) => Reply::Done(answer),
        Err(Stop::Errno(errno)) => Reply::Failed(errno),
        Err(Stop::NeedGroups) => Reply::NeedGroups,
        // The state store failed to read; it has said so itself and stops the node.
        Err(Stop::Fault(_)) => Reply::Failed(Errno::EIO),
    }
}
