//! # File locks: who may, who waits
//!
//! Ranges of a file, shared or exclusive, each of an *owner*: a process for `fcntl`, an open file for `flock`. The two kinds
//! stand in one table, as on NFS: the kernel's request does not say which of them it is.
//!
//! ```text
//!   held       [a: 0..9 exclusive]   [b: 20..29 shared]   [c: 20..24 shared]
//!   waiting    1. d: 5..25 exclusive      2. e: 20..29 shared      (e waits for d, which came first)
//! ```
//!
//! Invariants:
//! * two held locks of different owners never overlap, unless both are shared;
//! * an owner's own held locks never overlap, and neighbours of one mode are one lock;
//! * a waiting lock is granted at the first moment at which it conflicts neither with a held lock nor with one that waits
//!   before it: so the order is first come, first served, and no stream of readers keeps a writer out;
//! * `Key::LockUse` exists for exactly those sessions and objects where the session holds or awaits a lock, or had its locks
//!   broken: so a session's locks are found when it ends, and what an owner waits for when a deadlock is looked for.
//!
//! **Broken locks.** An operator can take an object's locks away from a session. Its programs believe that they hold them,
//! and its mount may not have heard: so from the entry on that breaks them the state itself refuses what the session does to
//! the object's bytes and locks, whatever was sent before and comes after. `Value::LocksBroken` stands in the place of
//! `LockUse` meanwhile (such a session holds and awaits nothing there), until the mount says that nobody there has the
//! object open any more, or the session ends.
//!
//! Locks are state like everything else: they outlive the loss of nodes, and end with their owner or its session.

use super::{Key, Run, Store, Txn, Value};
use crate::types::{Errno, Ino, SessionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};

/// Who locks: the kernel's name for a process or an open file, on one mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LockOwner {
    pub session: SessionId,
    pub owner: u64,
}

/// A lock on the bytes from `start` up to and with `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLock {
    pub by: LockOwner,
    /// The process, as its own machine numbers it.
    pub pid: u32,
    pub start: u64,
    pub end: u64,
    pub exclusive: bool,
}

impl FileLock {
    fn overlaps(&self, start: u64, end: u64) -> bool {
        self.start <= end && start <= self.end
    }

    fn conflicts(&self, other: &FileLock) -> bool {
        self.by != other.by && self.overlaps(other.start, other.end) && (self.exclusive || other.exclusive)
    }
}

/// A lock that somebody waits for, under a number of the waiting mount's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingLock {
    pub lock: FileLock,
    pub ticket: u64,
}

/// What keeps a lock that is waited for from who waits for it, for people: one of perhaps several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InTheWay {
    pub lock: FileLock,
    /// The mount whose session it is.
    pub client: String,
    /// It is not held either, but came first.
    pub waits: bool,
}

/// All locks of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLocks {
    pub held: Vec<FileLock>,
    /// In the order in which they came.
    pub waiting: Vec<WaitingLock>,
}

/// Held and waiting locks of one object: more is ENOLCK.
const LOCKS_MAX: usize = 4096;
/// Owners looked at when a deadlock is looked for. A longer chain of waiting counts as none.
const CHAIN_MAX: usize = 1024;

impl FileLocks {
    /// The lock that keeps this one from being held.
    pub(super) fn held_against(&self, lock: &FileLock) -> Option<&FileLock> {
        self.held.iter().find(|held| held.conflicts(lock))
    }

    /// Whether it would have to wait, behind those that wait before it.
    pub(super) fn must_wait(&self, lock: &FileLock, before: usize) -> bool {
        self.held_against(lock).is_some() || self.ahead_of(lock, before).next().is_some()
    }

    /// Those that wait before it and that it must not overtake. Who waits for this owner itself cannot be served before it,
    /// whatever more it takes.
    fn ahead_of<'a>(&'a self, lock: &'a FileLock, before: usize) -> impl Iterator<Item = &'a FileLock> {
        let waits_for_it = |other: &FileLock| self.held.iter().any(|held| held.by == lock.by && held.conflicts(other));
        let waiting = self.waiting[..before].iter().map(|w| &w.lock);
        waiting.filter(move |other| other.conflicts(lock) && !waits_for_it(other))
    }

    /// Whom it would wait for.
    fn blockers<'a>(&'a self, lock: &'a FileLock, before: usize) -> impl Iterator<Item = LockOwner> + 'a {
        let held = self.held.iter().filter(|other| other.conflicts(lock));
        held.chain(self.ahead_of(lock, before)).map(|other| other.by)
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= LOCKS_MAX
    }

    /// Whether a change that left this many behind made too many.
    pub(super) fn grew_too_long(&self, before: usize) -> bool {
        self.len() > before && self.len() > LOCKS_MAX
    }

    pub(super) fn len(&self) -> usize {
        self.held.len() + self.waiting.len()
    }

    /// Takes a lock that conflicts with nobody's: its owner's other locks give way where they overlap.
    pub(super) fn hold(&mut self, mut lock: FileLock) {
        self.let_go(lock.by, lock.start, lock.end);
        let joins = |other: &FileLock| {
            let touches = other.end.checked_add(1) == Some(lock.start) || lock.end.checked_add(1) == Some(other.start);
            other.by == lock.by && other.exclusive == lock.exclusive && touches
        };
        let (joined, apart): (Vec<FileLock>, Vec<FileLock>) =
            std::mem::take(&mut self.held).into_iter().partition(joins);
        for other in joined {
            lock.start = lock.start.min(other.start);
            lock.end = lock.end.max(other.end);
        }
        self.held = apart;
        self.held.push(lock);
    }

    /// Cuts a range out of what an owner holds.
    pub(super) fn let_go(&mut self, by: LockOwner, start: u64, end: u64) {
        let mut kept = Vec::with_capacity(self.held.len());
        for lock in std::mem::take(&mut self.held) {
            if lock.by != by || !lock.overlaps(start, end) {
                kept.push(lock);
                continue;
            }
            if lock.start < start {
                kept.push(FileLock { end: start - 1, ..lock });
            }
            if lock.end > end {
                kept.push(FileLock { start: end + 1, ..lock });
            }
        }
        self.held = kept;
    }

    /// Gives out what can be: to those who wait, in their order.
    pub(super) fn grant(&mut self) {
        let mut at = 0;
        while let Some(first) = self.waiting.get(at).map(|w| w.lock) {
            if self.must_wait(&first, at) {
                at += 1;
            } else {
                self.waiting.remove(at);
                // Where it takes the place of a stronger one of the same owner, others may go on.
                at = 0;
                self.hold(first);
            }
        }
    }

    pub(super) fn withdraw(&mut self, by: LockOwner, ticket: u64) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|w| w.lock.by != by || w.ticket != ticket);
        self.waiting.len() < before
    }

    /// The place in the queue.
    pub(super) fn place(&self, by: LockOwner, ticket: u64) -> Option<usize> {
        self.waiting.iter().position(|w| w.lock.by == by && w.ticket == ticket)
    }

    /// The first that keeps the one who waits at this place from its lock, and whether that one waits itself.
    pub(super) fn in_the_way(&self, at: usize) -> Option<(&FileLock, bool)> {
        let lock = &self.waiting.get(at)?.lock;
        let held = self.held_against(lock).map(|held| (held, false));
        held.or_else(|| self.ahead_of(lock, at).next().map(|waits| (waits, true)))
    }

    /// Ends all that these sessions hold and wait for, and answers what they held.
    pub(super) fn forget(&mut self, sessions: &BTreeSet<SessionId>) -> Vec<FileLock> {
        let theirs = |lock: &FileLock| sessions.contains(&lock.by.session);
        let (ended, kept) = std::mem::take(&mut self.held).into_iter().partition(theirs);
        self.held = kept;
        self.waiting.retain(|w| !theirs(&w.lock));
        self.grant();
        ended
    }

    pub(super) fn holders(&self) -> BTreeSet<SessionId> {
        self.held.iter().map(|lock| lock.by.session).collect()
    }

    pub(super) fn sessions(&self) -> BTreeSet<SessionId> {
        self.held.iter().chain(self.waiting.iter().map(|w| &w.lock)).map(|lock| lock.by.session).collect()
    }

    fn is_empty(&self) -> bool {
        self.held.is_empty() && self.waiting.is_empty()
    }
}

pub(super) fn load<S: Store + ?Sized>(txn: &Txn<'_, S>, ino: Ino) -> Run<FileLocks> {
    match txn.get(&Key::Locks(ino))? {
        Some(Value::Locks(locks)) => Ok(locks),
        Some(_) => Err(Errno::EIO.into()),
        None => Ok(FileLocks::default()),
    }
}

/// Stores an object's locks, and keeps `LockUse` in step.
pub(super) fn store<S: Store + ?Sized>(txn: &mut Txn<'_, S>, ino: Ino, locks: FileLocks) -> Run<()> {
    let (before, after) = (load(txn, ino)?.sessions(), locks.sessions());
    for session in before.difference(&after) {
        txn.delete(Key::LockUse(*session, ino));
    }
    for session in after.difference(&before) {
        txn.put(Key::LockUse(*session, ino), Value::LockUse);
    }
    match locks.is_empty() {
        true => txn.delete(Key::Locks(ino)),
        false => txn.put(Key::Locks(ino), Value::Locks(locks)),
    }
    Ok(())
}

/// The objects in which a session holds or awaits locks, or had them broken.
fn used_by<S: Store + ?Sized>(txn: &Txn<'_, S>, session: SessionId) -> Run<Vec<Ino>> {
    let (from, to) = (Key::LockUse(session, Ino(0)), Key::LockUse(session, Ino(u64::MAX)));
    let found = txn.range(&from, &to, usize::MAX)?;
    Ok(found.into_iter().filter_map(|(key, _)| if let Key::LockUse(_, ino) = key { Some(ino) } else { None }).collect())
}

/// A session is over: its locks pass on to those who wait.
pub(crate) fn end_session<S: Store + ?Sized>(txn: &mut Txn<'_, S>, session: SessionId) -> Run<()> {
    for ino in used_by(txn, session)? {
        if is_broken(txn, session, ino)? {
            txn.delete(Key::LockUse(session, ino));
            continue;
        }
        let mut locks = load(txn, ino)?;
        locks.forget(&BTreeSet::from([session]));
        store(txn, ino, locks)?;
    }
    Ok(())
}

/// Whether a session's locks on an object were broken, and it has not said since that nobody there has it open.
pub(super) fn is_broken<S: Store + ?Sized>(txn: &Txn<'_, S>, session: SessionId, ino: Ino) -> Run<bool> {
    Ok(txn.get(&Key::LockUse(session, ino))? == Some(Value::LocksBroken))
}

/// Whose locks on an object were broken must neither change its bytes nor lock it: EIO.
pub(super) fn must_not_be_broken<S: Store + ?Sized>(txn: &Txn<'_, S>, ino: Ino) -> Run<()> {
    match txn.session {
        Some(session) if is_broken(txn, session, ino)? => Err(Errno::EIO.into()),
        _ => Ok(()),
    }
}

/// Whether waiting for this lock would never end: somebody it would wait for waits, over others perhaps, for its own owner.
pub(super) fn would_deadlock<S: Store + ?Sized>(txn: &Txn<'_, S>, locks: &FileLocks, lock: &FileLock) -> Run<bool> {
    let mut next: Vec<LockOwner> = locks.blockers(lock, locks.waiting.len()).collect();
    let mut seen: BTreeSet<LockOwner> = BTreeSet::new();
    // Objects on which somebody of a session waits.
    let mut waits: BTreeMap<SessionId, Vec<FileLocks>> = BTreeMap::new();
    while let Some(owner) = next.pop() {
        if owner == lock.by {
            return Ok(true);
        }
        if !seen.insert(owner) {
            continue;
        }
        if seen.len() > CHAIN_MAX {
            return Ok(false);
        }
        if let Entry::Vacant(unknown) = waits.entry(owner.session) {
            let mut found = Vec::new();
            for ino in used_by(txn, owner.session)? {
                let there = load(txn, ino)?;
                if there.waiting.iter().any(|w| w.lock.by.session == owner.session) {
                    found.push(there);
                }
            }
            unknown.insert(found);
        }
        for there in &waits[&owner.session] {
            for (at, waiting) in there.waiting.iter().enumerate().filter(|(_, w)| w.lock.by == owner) {
                next.extend(there.blockers(&waiting.lock, at));
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lock(owner: u64, start: u64, end: u64, exclusive: bool) -> FileLock {
        let by = LockOwner { session: SessionId(owner % 3), owner };
        FileLock { by, pid: owner as u32, start, end, exclusive }
    }

    #[test]
    fn an_owners_locks_are_cut_and_joined() {
        let mut locks = FileLocks::default();
        locks.hold(lock(1, 0, 99, true));
        locks.hold(lock(1, 40, 59, false));
        let ranges = |locks: &FileLocks| {
            let mut ranges: Vec<_> = locks.held.iter().map(|l| (l.start, l.end, l.exclusive)).collect();
            ranges.sort_unstable();
            ranges
        };
        assert_eq!(ranges(&locks), [(0, 39, true), (40, 59, false), (60, 99, true)]);
        locks.hold(lock(1, 30, 69, true));
        assert_eq!(ranges(&locks), [(0, 99, true)]);
        locks.let_go(lock(1, 0, 0, true).by, 10, u64::MAX);
        assert_eq!(ranges(&locks), [(0, 9, true)]);
    }

    #[test]
    fn who_holds_a_lock_need_not_wait_for_who_waits_for_it() {
        let mut locks = FileLocks::default();
        locks.hold(lock(1, 0, 9, true));
        locks.waiting.push(WaitingLock { lock: lock(2, 0, 19, true), ticket: 1 });
        for wanted in [lock(1, 0, 9, false), lock(1, 0, 9, true), lock(1, 10, 14, true)] {
            assert!(!locks.must_wait(&wanted, 1), "{wanted:?}");
        }
        assert!(locks.must_wait(&lock(3, 10, 14, true), 1));
    }

    #[test]
    fn readers_do_not_overtake_a_writer_that_waits() {
        let mut locks = FileLocks::default();
        locks.hold(lock(1, 0, 9, false));
        locks.waiting.push(WaitingLock { lock: lock(2, 0, 9, true), ticket: 1 });
        assert!(locks.must_wait(&lock(3, 0, 9, false), 1));
        locks.waiting.push(WaitingLock { lock: lock(3, 0, 9, false), ticket: 1 });
        locks.grant();
        assert_eq!((locks.held.len(), locks.waiting.len()), (1, 2));
        locks.let_go(lock(1, 0, 0, true).by, 0, u64::MAX);
        locks.grant();
        assert_eq!(locks.held, [lock(2, 0, 9, true)]);
        locks.let_go(lock(2, 0, 0, true).by, 0, u64::MAX);
        locks.grant();
        assert_eq!((&locks.held[..], locks.waiting.len()), (&[lock(3, 0, 9, false)][..], 0));
    }

    proptest! {
        /// Against a table of single bytes, whatever is asked in whatever order.
        #[test]
        fn no_two_owners_ever_hold_what_conflicts(
            steps in proptest::collection::vec((0..4u64, 0..12u64, 0..12u64, 0..5u8), 1..80),
        ) {
            let mut locks = FileLocks::default();
            for (ticket, (owner, a, b, what)) in (1..).zip(steps) {
                let wanted = lock(owner, a.min(b), a.max(b), what % 2 == 0);
                match what {
                    0 | 1 if locks.must_wait(&wanted, locks.waiting.len()) => {
                        locks.waiting.push(WaitingLock { lock: wanted, ticket });
                    }
                    0 | 1 => locks.hold(wanted),
                    2 | 3 => locks.let_go(wanted.by, wanted.start, wanted.end),
                    _ => {
                        if let Some(first) = locks.waiting.first().copied() {
                            prop_assert!(locks.withdraw(first.lock.by, first.ticket));
                        }
                    }
                }
                locks.grant();
                for byte in 0..12 {
                    let at: Vec<&FileLock> = locks.held.iter().filter(|l| l.overlaps(byte, byte)).collect();
                    let owners: BTreeSet<LockOwner> = at.iter().map(|l| l.by).collect();
                    prop_assert_eq!(owners.len(), at.len(), "an owner's locks overlap");
                    prop_assert!(at.len() <= 1 || at.iter().all(|l| !l.exclusive));
                }
                for (at, waiting) in locks.waiting.iter().enumerate() {
                    prop_assert!(locks.must_wait(&waiting.lock, at), "it waits for nobody");
                }
            }
        }
    }
}
