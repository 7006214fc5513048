use crate::meta::locks::{self, FileLock, InTheWay, LockOwner, WaitingLock};
use crate::meta::{Answer, Key, Run, Step, Store, Txn, Value};
use crate::types::{Cred, Errno, Ino};
use serde::{Deserialize, Serialize};

/// Locks a range of an object for an owner of the session that says it. Where somebody else's lock is in the way: EAGAIN, or
/// with a ticket the answer `Queued`, and the lock is taken when its turn comes; EDEADLK where that turn would never come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    pub ino: Ino,
    pub owner: u64,
    pub pid: u32,
    pub start: u64,
    /// The last byte.
    pub end: u64,
    pub exclusive: bool,
    /// A number of the mount's own, to ask by and to withdraw by: it is willing to wait.
    pub ticket: Option<u64>,
}

impl Step for Lock {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, _cred: &Cred) -> Run<Answer> {
        if self.start > self.end {
            return Err(Errno::EINVAL.into());
        }
        txn.inode(self.ino)?;
        let by = owner(txn, self.owner)?;
        locks::must_not_be_broken(txn, self.ino)?;
        let mut locks = locks::load(txn, self.ino)?;
        let lock = FileLock { by, pid: self.pid, start: self.start, end: self.end, exclusive: self.exclusive };
        let waits = locks.must_wait(&lock, locks.waiting.len());
        if locks.is_full() {
            return Err(Errno::ENOLCK.into());
        }
        match self.ticket {
            None if waits => return Err(Errno::EAGAIN.into()),
            Some(_) if waits && locks::would_deadlock(txn, &locks, &lock)? => return Err(Errno::EDEADLK.into()),
            Some(ticket) if waits => locks.waiting.push(WaitingLock { lock, ticket }),
            _ => {
                locks.hold(lock);
                // It may have taken the place of a stronger one.
                locks.grant();
            }
        }
        locks::store(txn, self.ino, locks)?;
        Ok(if waits { Answer::Queued } else { Answer::Done })
    }
}

/// Gives a range back, whatever of it the owner holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlock {
    pub ino: Ino,
    pub owner: u64,
    pub start: u64,
    /// The last byte.
    pub end: u64,
}

impl Step for Unlock {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, _cred: &Cred) -> Run<Answer> {
        if self.start > self.end {
            return Err(Errno::EINVAL.into());
        }
        let by = owner(txn, self.owner)?;
        let mut locks = locks::load(txn, self.ino)?;
        let before = locks.len();
        locks.let_go(by, self.start, self.end);
        // A range cut in two is one more.
        if locks.grew_too_long(before) {
            return Err(Errno::ENOLCK.into());
        }
        locks.grant();
        locks::store(txn, self.ino, locks)?;
        Ok(Answer::Done)
    }
}

/// Does not wait any longer: `Queued` if it still did, `Done` if the lock had been taken before, EIO if it was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelLock {
    pub ino: Ino,
    pub owner: u64,
    pub ticket: u64,
}

impl Step for CancelLock {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, _cred: &Cred) -> Run<Answer> {
        let by = owner(txn, self.owner)?;
        // It is in no queue any more, and was not given either.
        locks::must_not_be_broken(txn, self.ino)?;
        let mut locks = locks::load(txn, self.ino)?;
        if !locks.withdraw(by, self.ticket) {
            return Ok(Answer::Done);
        }
        locks.grant();
        locks::store(txn, self.ino, locks)?;
        Ok(Answer::Queued)
    }
}

/// The lock that is in the way of this one, if any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetLock {
    pub ino: Ino,
    pub by: LockOwner,
    pub start: u64,
    /// The last byte.
    pub end: u64,
    pub exclusive: bool,
}

impl Step for GetLock {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, _cred: &Cred) -> Run<Answer> {
        let (by, start, end, exclusive) = (self.by, self.start, self.end, self.exclusive);
        let lock = FileLock { by, pid: 0, start, end, exclusive };
        Ok(Answer::LockedBy(locks::load(txn, self.ino)?.held_against(&lock).copied()))
    }
}

/// Whether a lock is still waited for: `Behind` whatever is in its way, or `Done`; EIO if it was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitsLock {
    pub ino: Ino,
    pub by: LockOwner,
    pub ticket: u64,
}

impl Step for AwaitsLock {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, _cred: &Cred) -> Run<Answer> {
        if locks::is_broken(txn, self.by.session, self.ino)? {
            return Err(Errno::EIO.into());
        }
        let locks = locks::load(txn, self.ino)?;
        let Some(at) = locks.place(self.by, self.ticket) else { return Ok(Answer::Done) };
        let Some((lock, waits)) = locks.in_the_way(at) else { return Ok(Answer::Queued) };
        let client = match txn.get(&Key::Session(lock.by.session))? {
            Some(Value::Session(session)) => session.client,
            _ => String::new(),
        };
        Ok(Answer::Behind(InTheWay { lock: *lock, client, waits }))
    }
}

/// A command's owners are those of the session that sent it.
fn owner<S: Store + ?Sized>(txn: &Txn<'_, S>, owner: u64) -> Run<LockOwner> {
    Ok(LockOwner { session: txn.session.ok_or(Errno::EPERM)?, owner })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::locks::end_session;
    use crate::meta::testing::{World, fails};
    use crate::types::SessionId;

    fn lock(ino: Ino, owner: u64, ticket: Option<u64>) -> Lock {
        Lock { ino, owner, pid: 7, start: 0, end: u64::MAX, exclusive: true, ticket }
    }

    fn as_session(world: &mut World, session: u64, op: impl Into<crate::meta::Op>) -> Run<Answer> {
        let id = SessionId(session);
        let known = crate::session::Session::new("here:/mnt".into(), session, world.now);
        world.store.0.insert(Key::Session(id), Value::Session(known));
        world.session = Some(id);
        world.run(&Cred::ROOT, op)
    }

    #[test]
    fn a_lock_passes_on_to_who_waits_when_its_session_ends() {
        let mut world = World::new();
        let ino = world.file("f");
        assert_eq!(as_session(&mut world, 1, lock(ino, 1, None)), Ok(Answer::Done));
        assert_eq!(as_session(&mut world, 2, lock(ino, 1, None)), fails(Errno::EAGAIN));
        assert_eq!(as_session(&mut world, 2, lock(ino, 1, Some(5))), Ok(Answer::Queued));
        let by = LockOwner { session: SessionId(2), owner: 1 };
        let ask = AwaitsLock { ino, by, ticket: 5 };
        match world.ask(&Cred::ROOT, ask.clone()) {
            Ok(Answer::Behind(InTheWay { lock, client, waits: false })) => {
                assert_eq!((lock.by.session, lock.pid, client.as_str()), (SessionId(1), 7, "here:/mnt"));
            }
            other => panic!("{other:?}"),
        }
        world.change(|txn| end_session(txn, SessionId(1)));
        assert_eq!(world.ask(&Cred::ROOT, ask), Ok(Answer::Done));
        let free = GetLock { ino, by: LockOwner { owner: 9, ..by }, start: 3, end: 3, exclusive: false };
        match world.ask(&Cred::ROOT, free) {
            Ok(Answer::LockedBy(Some(lock))) => assert_eq!(lock.by, by),
            other => panic!("{other:?}"),
        }
        let unlock = Unlock { ino, owner: 1, start: 0, end: u64::MAX };
        assert_eq!(as_session(&mut world, 2, unlock), Ok(Answer::Done));
        let left = world.store.0.keys().filter(|key| matches!(key, Key::Locks(_) | Key::LockUse(..)));
        assert_eq!(left.count(), 0, "nothing is left");
    }

    #[test]
    fn waiting_in_a_circle_is_refused_over_several_files() {
        let mut world = World::new();
        let (f, g, h) = (world.file("f"), world.file("g"), world.file("h"));
        for (session, ino) in [(1, f), (2, g), (3, h)] {
            assert_eq!(as_session(&mut world, session, lock(ino, 1, None)), Ok(Answer::Done));
        }
        assert_eq!(as_session(&mut world, 1, lock(g, 1, Some(1))), Ok(Answer::Queued));
        assert_eq!(as_session(&mut world, 2, lock(h, 1, Some(1))), Ok(Answer::Queued));
        assert_eq!(as_session(&mut world, 3, lock(f, 1, Some(1))), fails(Errno::EDEADLK));
        // Another owner of the same session may wait: its own lock keeps nobody.
        assert_eq!(as_session(&mut world, 3, lock(f, 2, Some(1))), Ok(Answer::Queued));
    }

    #[test]
    fn who_stops_waiting_lets_those_behind_go_on() {
        let mut world = World::new();
        let ino = world.file("f");
        let shared = |owner, ticket| Lock { exclusive: false, ..lock(ino, owner, ticket) };
        assert_eq!(as_session(&mut world, 1, shared(1, None)), Ok(Answer::Done));
        assert_eq!(as_session(&mut world, 1, lock(ino, 2, Some(1))), Ok(Answer::Queued));
        assert_eq!(as_session(&mut world, 1, shared(3, Some(2))), Ok(Answer::Queued), "behind the one that waits");
        let by = LockOwner { session: SessionId(1), owner: 3 };
        match world.ask(&Cred::ROOT, AwaitsLock { ino, by, ticket: 2 }) {
            Ok(Answer::Behind(InTheWay { lock, waits: true, .. })) => assert_eq!(lock.by.owner, 2),
            other => panic!("{other:?}"),
        }
        let cancel = CancelLock { ino, owner: 2, ticket: 1 };
        assert_eq!(as_session(&mut world, 1, cancel.clone()), Ok(Answer::Queued));
        assert_eq!(as_session(&mut world, 1, cancel), Ok(Answer::Done));
        assert_eq!(world.ask(&Cred::ROOT, AwaitsLock { ino, by, ticket: 2 }), Ok(Answer::Done));
    }
}
