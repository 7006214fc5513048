use crate::meta::locks;
use crate::meta::{Answer, Key, Run, Step, Store, Txn, Value, access};
use crate::types::{Cred, Errno, Ino, SessionId};
use serde::{Deserialize, Serialize};

/// Takes the locks on an object away from all who hold some, or from one session. The cluster's own command, on an operator's
/// word. Those who wait get them in their turn; those who held them may neither write nor lock until they have closed the
/// object, for they do not know yet. Of such a session those who wait lose their places too: with a lock they could do nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakLocks {
    pub ino: Ino,
    pub session: Option<SessionId>,
    /// By which the node that was asked knows its answer; means nothing to the state.
    pub request: u64,
}

impl Step for BreakLocks {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        access::must_be_root(cred)?;
        txn.inode(self.ino)?;
        let mut locks = locks::load(txn, self.ino)?;
        let mut from = locks.holders();
        from.retain(|session| self.session.is_none_or(|only| only == *session));
        if from.is_empty() {
            return Ok(Answer::Broken(Vec::new()));
        }
        let broken = locks.forget(&from);
        locks::store(txn, self.ino, locks)?;
        for session in from {
            txn.put(Key::LockUse(session, self.ino), Value::LocksBroken);
        }
        Ok(Answer::Broken(broken))
    }
}

/// Nobody of the session that says it has the object open any more: it may write and lock there again though its locks were
/// broken. Nothing where they were not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetBroken {
    pub ino: Ino,
}

impl Step for ForgetBroken {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, _cred: &Cred) -> Run<Answer> {
        let session = txn.session.ok_or(Errno::EPERM)?;
        if locks::is_broken(txn, session, self.ino)? {
            txn.delete(Key::LockUse(session, self.ino));
        }
        Ok(Answer::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::Op;
    use crate::meta::locks::{FileLock, LockOwner};
    use crate::meta::ops::{
        AwaitsLock, CancelLock, CopyRange, Fallocate, FallocateHow, Lock, Reap, SetAttr, Unlink, Unlock, Write,
        WriteAt, WriteData,
    };
    use crate::meta::testing::{SET_NOTHING, World, create, fails, name, user};
    use bytes::Bytes;

    fn lock(ino: Ino, owner: u64, ticket: Option<u64>) -> Lock {
        Lock { ino, owner, pid: 7, start: 0, end: u64::MAX, exclusive: true, ticket }
    }

    fn write(ino: Ino) -> Op {
        let data = WriteData::Inline(Bytes::from_static(b"late"));
        Write { ino, at: WriteAt::Offset(0), data, kill_suid: false }.into()
    }

    fn truncate(ino: Ino, opened: bool) -> Op {
        SetAttr { ino, size: Some(0), opened, ..SET_NOTHING }.into()
    }

    fn awaits(ino: Ino, session: u64, owner: u64, ticket: u64) -> AwaitsLock {
        AwaitsLock { ino, by: LockOwner { session: SessionId(session), owner }, ticket }
    }

    impl World {
        fn as_session(&mut self, session: u64, op: impl Into<Op>) -> Run<Answer> {
            let id = SessionId(session);
            let known = crate::session::Session::new("here:/mnt".into(), session, self.now);
            self.store.0.insert(Key::Session(id), Value::Session(known));
            self.session = Some(id);
            let answer = self.run(&Cred::ROOT, op);
            self.session = None;
            answer
        }

        fn break_locks(&mut self, ino: Ino, session: Option<u64>) -> Vec<FileLock> {
            match self.run(&Cred::ROOT, BreakLocks { ino, session: session.map(SessionId), request: 1 }) {
                Ok(Answer::Broken(broken)) => broken,
                other => panic!("{other:?}"),
            }
        }

        fn waits(&self, ino: Ino, session: u64) -> bool {
            matches!(self.ask(&Cred::ROOT, awaits(ino, session, 1, 1)), Ok(Answer::Behind(_)))
        }

        fn marks(&self) -> usize {
            self.store.0.values().filter(|value| **value == Value::LocksBroken).count()
        }
    }

    #[test]
    fn a_broken_lock_passes_on_to_who_waits_first() {
        let mut world = World::new();
        let ino = world.file("f");
        assert_eq!(world.as_session(1, lock(ino, 1, None)), Ok(Answer::Done));
        assert_eq!(world.as_session(2, lock(ino, 1, Some(1))), Ok(Answer::Queued));
        assert_eq!(world.as_session(3, lock(ino, 1, Some(1))), Ok(Answer::Queued));
        let broken = world.break_locks(ino, None);
        let by = LockOwner { session: SessionId(1), owner: 1 };
        assert_eq!(broken, [FileLock { by, pid: 7, start: 0, end: u64::MAX, exclusive: true }]);
        assert_eq!(world.ask(&Cred::ROOT, awaits(ino, 2, 1, 1)), Ok(Answer::Done));
        assert!(world.waits(ino, 3), "the second one waits on");
        assert!(world.as_session(2, write(ino)).is_ok(), "who got it writes");
    }

    #[test]
    fn whose_lock_was_broken_changes_nothing_until_it_has_closed_the_file() {
        let mut world = World::new();
        let (ino, other) = (world.file("f"), world.file("g"));
        world.as_session(1, lock(ino, 1, None)).unwrap();
        world.as_session(1, write(ino)).unwrap();
        world.break_locks(ino, None);
        let allocate = Fallocate { ino, offset: 0, len: 9, how: FallocateHow::Allocate, keep_size: false };
        let copy = CopyRange { from: other, from_offset: 0, to: ino, to_offset: 0, len: 1 };
        let over = crate::meta::ops::Create { truncate: true, ..create("f") };
        let refused: [Op; 8] = [
            write(ino),
            truncate(ino, true),
            truncate(ino, false),
            allocate.into(),
            copy.into(),
            over.into(),
            lock(ino, 1, None).into(),
            lock(ino, 2, Some(9)).into(),
        ];
        for op in refused {
            assert_eq!(world.as_session(1, op.clone()), fails(Errno::EIO), "{op:?}");
        }
        assert_eq!(world.attr(ino).size, 4, "what was written before stays");
        // Giving back, other files and other sessions are as before; so is reading the file.
        let unlock = Unlock { ino, owner: 1, start: 0, end: u64::MAX };
        assert_eq!(world.as_session(1, unlock), Ok(Answer::Done));
        assert_eq!(
            world.as_session(1, write(ino)),
            fails(Errno::EIO),
            "that one owner gave back says nothing of others"
        );
        assert!(world.as_session(1, write(other)).is_ok());
        let away = CopyRange { from: ino, from_offset: 0, to: other, to_offset: 0, len: 4 };
        assert_eq!(world.as_session(1, away), Ok(Answer::Copied(4)));
        assert!(world.as_session(2, write(ino)).is_ok());
        assert_eq!(world.as_session(1, ForgetBroken { ino }), Ok(Answer::Done));
        assert_eq!(world.marks(), 0);
        assert!(world.as_session(1, write(ino)).is_ok());
        assert_eq!(world.as_session(1, lock(ino, 1, None)), Ok(Answer::Done));
    }

    #[test]
    fn who_waits_beside_a_broken_lock_is_told_that_it_will_not_come() {
        let mut world = World::new();
        let ino = world.file("f");
        world.as_session(1, lock(ino, 1, None)).unwrap();
        assert_eq!(world.as_session(1, lock(ino, 2, Some(5))), Ok(Answer::Queued));
        world.break_locks(ino, None);
        assert_eq!(world.ask(&Cred::ROOT, awaits(ino, 1, 2, 5)), fails(Errno::EIO), "not that its turn has come");
        let cancel = CancelLock { ino, owner: 2, ticket: 5 };
        assert_eq!(world.as_session(1, cancel), fails(Errno::EIO), "nor that it was given");
        assert_eq!(world.as_session(2, lock(ino, 1, None)), Ok(Answer::Done), "nobody stands in the way");
    }

    #[test]
    fn one_sessions_locks_are_broken_and_the_others_stay() {
        let mut world = World::new();
        let ino = world.file("f");
        for session in [1, 2] {
            let shared = Lock { exclusive: false, ..lock(ino, 1, None) };
            assert_eq!(world.as_session(session, shared), Ok(Answer::Done));
        }
        assert_eq!(world.as_session(3, lock(ino, 1, Some(1))), Ok(Answer::Queued));
        assert_eq!(world.break_locks(ino, Some(3)), [], "who waits holds nothing");
        assert_eq!(world.break_locks(ino, Some(2)).len(), 1);
        assert_eq!(world.as_session(2, write(ino)), fails(Errno::EIO));
        assert!(world.as_session(1, write(ino)).is_ok());
        assert!(world.waits(ino, 3), "session 1 holds its lock");
        assert_eq!(world.break_locks(ino, None).len(), 1);
        assert_eq!(world.ask(&Cred::ROOT, awaits(ino, 3, 1, 1)), Ok(Answer::Done));
        let nowhere = world.file("g");
        assert_eq!(world.break_locks(nowhere, None), []);
    }

    #[test]
    fn what_is_left_of_broken_locks_ends_with_the_session_and_outlives_the_file() {
        let mut world = World::new();
        let ino = world.file("f");
        for session in [1, 2] {
            world.as_session(session, lock(ino, 1, None)).unwrap();
            world.break_locks(ino, None);
        }
        assert_eq!(world.marks(), 2);
        world.run(&Cred::ROOT, Unlink { dir: Ino::ROOT, name: name("f") }).unwrap();
        world.run(&Cred::ROOT, Reap { ino }).unwrap();
        world.change(|txn| locks::end_session(txn, SessionId(1)));
        world.check();
        assert_eq!(world.marks(), 1);
        assert_eq!(world.as_session(2, ForgetBroken { ino }), Ok(Answer::Done));
        assert_eq!(world.marks(), 0);
    }

    #[test]
    fn only_the_cluster_breaks_locks_and_only_of_what_there_is() {
        let mut world = World::new();
        let ino = world.file("f");
        let order = BreakLocks { ino, session: None, request: 1 };
        assert_eq!(world.run(&user(5), order.clone()), fails(Errno::EPERM));
        assert_eq!(world.run(&Cred::ROOT, BreakLocks { ino: Ino(99), ..order }), fails(Errno::ESTALE));
    }

    #[test]
    fn a_mark_beside_a_lock_is_found() {
        let mut world = World::new();
        let ino = world.file("f");
        world.as_session(1, lock(ino, 1, None)).unwrap();
        world.store.0.insert(Key::LockUse(SessionId(1), ino), Value::LocksBroken);
        let found = crate::meta::check::check(&world.store).unwrap().problems;
        assert!(matches!(found[..], [crate::meta::check::Problem::LockUse { .. }]), "{found:?}");
    }
}
