//! A file system in this process: the operations of `core` over a map in memory, so that a real mount can be tried with no
//! cluster behind it.

use baton_core::limits::{INLINE_WRITE_MAX, SLICE_MAX};
use baton_core::meta::locks::LockOwner;
use baton_core::meta::ops::{GetLock, Lock, Open, ReadLayout, Reap, SliceRef, Unlock, Write, WriteAt, WriteData};
use baton_core::meta::{Answer, Key, Memory, Op, Piece, PieceSource, Query, Step, Stop, Txn, format};
use baton_core::mount::{Call, Done, Handle};
use baton_core::types::{Attr, Cred, Errno, Ino, NodeId, Owner, SessionId, SliceId, Stamp};
use baton_fs_mount::fuse::{Caller, Kept, MountOptions, Mounted, OnDone, Who, mount};
use bytes::Bytes;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

/// All that is done here is done by one session.
const SESSION: SessionId = SessionId(1);

#[derive(Default)]
struct State {
    memory: Memory,
    slices: HashMap<SliceId, Bytes>,
    open: HashMap<Handle, Ino>,
    next: u64,
    now: Stamp,
}

pub(crate) struct InMemory(Mutex<State>);

impl InMemory {
    fn new() -> InMemory {
        let mut state = State::default();
        let changes = format(state.tick(), Owner::ROOT);
        state.memory.apply(changes);
        InMemory(Mutex::new(state))
    }
}

impl Caller for InMemory {
    fn call(&self, who: Who, call: Call, done: OnDone) {
        let result = self.0.lock().unwrap().carry(who, call);
        done(result, Kept::default());
    }
}

impl State {
    fn tick(&mut self) -> Stamp {
        let now = Stamp::from_nanos(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i128);
        self.now = now.max(self.now.just_after());
        self.now
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn carry(&mut self, who: Who, call: Call) -> Result<Done, Errno> {
        match call {
            Call::Ask(query) => Ok(Done::Answer(self.run(who, &query)?)),
            Call::Do(op) => Ok(Done::Answer(self.run(who, &op)?)),
            Call::Open { ino, read, write, exec } => {
                let answer = self.run(who, &Query::Open(Open { ino, read, write, exec }))?;
                Ok(self.opened(answer))
            }
            Call::Create(create) => {
                let answer = self.run(who, &Op::Create(create))?;
                Ok(self.opened(answer))
            }
            Call::Read { ino, offset, len, .. } => Ok(Done::Data(self.read(who, ino, offset, len)?)),
            Call::Write { ino, at, data, kill_suid, .. } => self.write(who, ino, at, data, kill_suid),
            Call::Sync { .. } => Ok(Done::Nothing),
            Call::Release(handle) => {
                self.release(handle);
                Ok(Done::Nothing)
            }
            // Nobody else is here: who would wait gets EAGAIN.
            Call::Lock { ino, owner, pid, start, end, exclusive, .. } => {
                let lock = Lock { ino, owner, pid, start, end, exclusive, ticket: None };
                Ok(Done::Answer(self.run(who, &Op::from(lock))?))
            }
            Call::Unlock { ino, owner, start, end } => {
                Ok(Done::Answer(self.run(who, &Op::from(Unlock { ino, owner, start, end }))?))
            }
            Call::GetLock { ino, owner, start, end, exclusive } => {
                let by = LockOwner { session: SESSION, owner };
                Ok(Done::Answer(self.run(who, &Query::from(GetLock { ino, by, start, end, exclusive }))?))
            }
        }
    }

    fn run(&mut self, who: Who, step: &impl Step) -> Result<Answer, Errno> {
        match self.try_run(&who.cred(), step) {
            Err(Stop::NeedGroups) => self.try_run(&who.cred_with_groups(), step),
            other => other,
        }
        .map_err(|stop| match stop {
            Stop::Errno(errno) => errno,
            other => panic!("{other:?} from a store that knows everything"),
        })
    }

    fn try_run(&mut self, cred: &Cred, step: &impl Step) -> Result<Answer, Stop> {
        let now = self.tick();
        let mut txn = Txn::new(&self.memory, now);
        txn.session = Some(SESSION);
        let answer = step.run(&mut txn, cred)?;
        let changes = txn.into_changes();
        self.memory.apply(changes);
        Ok(answer)
    }

    fn opened(&mut self, answer: Answer) -> Done {
        let attr = attr(answer);
        let handle = Handle(self.number());
        self.open.insert(handle, attr.ino);
        Done::Opened { handle, attr }
    }

    fn release(&mut self, handle: Handle) {
        let ino = self.open.remove(&handle).expect("a handle is released once");
        let is_open = self.open.values().any(|open| *open == ino);
        if !is_open && self.memory.0.contains_key(&Key::Orphan(ino)) {
            self.try_run(&Cred::ROOT, &Op::Reap(Reap { ino })).expect("an orphan can be reaped");
        }
    }

    fn read(&mut self, who: Who, ino: Ino, mut offset: u64, len: u32) -> Result<Vec<Bytes>, Errno> {
        let end = offset + u64::from(len);
        let mut data = Vec::new();
        while offset < end {
            let layout = self.run(who, &Query::ReadLayout(ReadLayout { ino, offset, len: (end - offset) as u32 }))?;
            let Answer::Layout(layout) = layout else { panic!("{layout:?} is no layout") };
            let found: u64 = layout.pieces.iter().map(|piece| piece.len).sum();
            if found == 0 {
                break;
            }
            data.extend(layout.pieces.into_iter().map(|piece| self.bytes_of(piece)));
            offset += found;
        }
        Ok(data)
    }

    fn bytes_of(&self, Piece { len, source }: Piece) -> Bytes {
        let len = len as usize;
        match source {
            PieceSource::Zeros => vec![0; len].into(),
            PieceSource::Inline(bytes) => bytes,
            PieceSource::Slice { id, at, .. } => self.slices[&id].slice(at as usize..at as usize + len),
        }
    }

    fn write(&mut self, who: Who, ino: Ino, at: WriteAt, data: Bytes, kill_suid: bool) -> Result<Done, Errno> {
        let data_of = |state: &mut State| {
            if data.len() <= INLINE_WRITE_MAX {
                return WriteData::Inline(data.clone());
            }
            assert!(data.len() <= SLICE_MAX, "the kernel's requests are smaller than a slice");
            let id = SliceId { session: SessionId(1), number: state.number() };
            state.slices.insert(id, data.clone());
            WriteData::Slice(SliceRef { id, len: data.len() as u32, nodes: vec![NodeId(1)] })
        };
        let write = Write { ino, at, data: data_of(self), kill_suid };
        match self.run(who, &Op::Write(write))? {
            Answer::Written { offset, attr } => Ok(Done::Written { offset, len: data.len() as u64, attr }),
            other => panic!("{other:?} answers no write"),
        }
    }
}

fn attr(answer: Answer) -> Attr {
    match answer {
        Answer::Attr(attr) => attr,
        other => panic!("{other:?} are no attributes"),
    }
}

/// A mount of a new file system in memory; both go when this goes.
pub(crate) struct Fs {
    pub(crate) mounted: Mounted,
    _mountpoint: tempfile::TempDir,
}

impl Fs {
    pub(crate) fn new() -> Fs {
        let dir = tempfile::tempdir().unwrap();
        let options = MountOptions { suid: true, dev: true, ..MountOptions::default() };
        let mounted = mount(Arc::new(InMemory::new()), dir.path(), &options, 4).unwrap();
        Fs { mounted, _mountpoint: dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.mounted.path().join(name)
    }

    pub(crate) fn root(&self) -> &Path {
        self.mounted.path()
    }
}
