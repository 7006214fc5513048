//! What the tests beside the code share: a small world with one file system in memory.

use super::ops::{Create, GetAttr, Lookup, LookupName, Mkdir, Mknod, SetAttr, SliceRef, Write, WriteAt, WriteData};
use super::{Answer, Inode, Memory, Op, Query, Run, Step, Stop, Txn, check};
use crate::types::{Attr, Cred, Errno, Ino, Kind, Name, NodeId, Owner, SessionId, SliceId, Stamp};
use bytes::Bytes;

pub(super) struct World {
    pub(super) store: Memory,
    /// Goes on by a second with each operation.
    pub(super) now: Stamp,
    /// Whose commands they are.
    pub(super) session: Option<SessionId>,
}

/// Sets nothing: what a test sets it says.
pub(crate) const SET_NOTHING: SetAttr =
    SetAttr { ino: Ino::ROOT, mode: None, uid: None, gid: None, size: None, atime: None, mtime: None, opened: false };

pub(super) fn user(id: u32) -> Cred {
    Cred { uid: id, gid: id, groups: Some(Vec::new()) }
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

pub(super) fn slice(number: u64, len: u32) -> SliceRef {
    SliceRef { id: SliceId { session: SessionId(1), number }, len, nodes: vec![NodeId(1)] }
}

impl World {
    pub(super) const NOW: Stamp = Stamp { secs: 1000, nanos: 0 };

    /// A file system whose root everybody may write to.
    pub(super) fn new() -> World {
        let mut world = World { store: Memory::default(), now: World::NOW, session: None };
        world.store.apply(super::format(world.now, Owner::ROOT));
        world.change(|txn| txn.update(Ino::ROOT, |root, _| root.mode = 0o777));
        world
    }

    pub(super) fn change<T>(&mut self, change: impl FnOnce(&mut Txn<'_, Memory>) -> Run<T>) -> T {
        let mut txn = Txn::new(&self.store, self.now);
        let answer = change(&mut txn).unwrap();
        let changes = txn.into_changes();
        self.store.apply(changes);
        answer
    }

    pub(super) fn run(&mut self, cred: &Cred, op: impl Into<Op>) -> Result<Answer, Stop> {
        self.now.secs += 1;
        let mut txn = Txn::new(&self.store, self.now);
        txn.session = self.session;
        let op = op.into();
        let answer = op.run(&mut txn, cred)?;
        let changes = txn.into_changes();
        let said = op.touches(&self.store).unwrap();
        for object in super::changed(&self.store, &changes).unwrap() {
            assert!(said.contains(&object), "{op:?} changed {object:?} and had not said so");
        }
        self.store.apply(changes);
        self.check();
        Ok(answer)
    }

    pub(super) fn ask(&self, cred: &Cred, query: impl Into<Query>) -> Result<Answer, Stop> {
        let mut txn = Txn::new(&self.store, self.now);
        let answer = query.into().run(&mut txn, cred);
        assert!(txn.into_changes().is_empty(), "a question changed something");
        answer
    }

    #[track_caller]
    pub(super) fn check(&self) {
        let report = check::check(&self.store).unwrap();
        assert!(report.problems.is_empty(), "{:#?}", report.problems);
    }

    #[track_caller]
    pub(super) fn made(&mut self, cred: &Cred, op: impl Into<Op>) -> Ino {
        attr(self.run(cred, op)).ino
    }

    pub(super) fn file(&mut self, text: &str) -> Ino {
        self.file_of(&Cred::ROOT, text, 0o644)
    }

    pub(super) fn file_of(&mut self, cred: &Cred, text: &str, mode: u16) -> Ino {
        self.made(cred, Mknod { dir: Ino::ROOT, name: name(text), kind: Kind::File, mode, rdev: 0 })
    }

    pub(super) fn dir_of(&mut self, cred: &Cred, dir: Ino, text: &str, mode: u16) -> Ino {
        self.made(cred, Mkdir { dir, name: name(text), mode })
    }

    pub(super) fn write(&mut self, ino: Ino, offset: u64, data: &[u8]) {
        let data = WriteData::Inline(Bytes::copy_from_slice(data));
        let write = Write { ino, at: WriteAt::Offset(offset), data, kill_suid: false };
        self.change(|txn| write.run(txn, &Cred::ROOT));
    }

    pub(super) fn inode(&self, ino: Ino) -> Inode {
        Txn::new(&self.store, self.now).inode(ino).unwrap()
    }

    pub(super) fn attr(&self, ino: Ino) -> Attr {
        attr(self.ask(&Cred::ROOT, GetAttr { ino }))
    }

    pub(super) fn find(&self, dir: Ino, text: &str) -> Result<Attr, Stop> {
        match self.ask(&Cred::ROOT, Lookup { dir, name: LookupName::Name(name(text)) })? {
            Answer::Attr(attr) => Ok(attr),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn create(text: &str) -> Create {
    Create { dir: Ino::ROOT, name: name(text), mode: 0o644, exclusive: false, truncate: false, read: true, write: true }
}

#[track_caller]
pub(super) fn attr(answer: Result<Answer, Stop>) -> Attr {
    match answer {
        Ok(Answer::Attr(attr) | Answer::Written { attr, .. }) => attr,
        other => panic!("no attributes: {other:?}"),
    }
}

pub(super) fn fails(errno: Errno) -> Result<Answer, Stop> {
    Err(Stop::Errno(errno))
}
