//! # memfs: the most that FUSE allows
//!
//! The simplest file system in memory: one lock, one map, no permissions, and a kernel that may keep everything for a
//! second. What it does in a second no FUSE file system can beat, so benchmarks have it beside them. It is no model of
//! anything and keeps nothing. `memfs MOUNTPOINT` serves until it is unmounted.
//!
//! `memfs MOUNTPOINT HOLD` is a disk that hangs for tests: while the file HOLD is there, nobody gets an answer to a read of a
//! node's segment files (`*.slices`), which the kernel never has then. All else goes on.

use fuser::{
    BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

const KEPT: Duration = Duration::from_secs(1);
const GENERATION: Generation = Generation(0);
const ROOT: u64 = 1;

struct Node {
    attr: FileAttr,
    data: Vec<u8>,
    /// Of a directory: what is in it. A listing's place is the position in this order.
    entries: BTreeMap<OsString, (u64, FileType)>,
    /// Reads of it may be held.
    is_segment: bool,
}

struct State {
    nodes: HashMap<u64, Node>,
    next: u64,
}

struct Memfs {
    state: Mutex<State>,
    hold: Option<PathBuf>,
}

type Outcome<T> = Result<T, Errno>;

impl State {
    fn new() -> State {
        let mut state = State { nodes: HashMap::new(), next: ROOT };
        state.add(FileType::Directory, 0o755, (0, 0));
        state
    }

    fn add(&mut self, kind: FileType, perm: u16, (uid, gid): (u32, u32)) -> FileAttr {
        let (now, ino) = (SystemTime::now(), self.next);
        self.next += 1;
        let nlink = if kind == FileType::Directory { 2 } else { 1 };
        let attr = FileAttr {
            ino: INodeNo(ino),
            size: 0,
            blocks: 0,
            atime: now,
            mtime: now,
            ctime: now,
            crtime: now,
            kind,
            perm,
            nlink,
            uid,
            gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        };
        self.nodes.insert(ino, Node { attr, data: Vec::new(), entries: BTreeMap::new(), is_segment: false });
        attr
    }

    fn node(&mut self, ino: INodeNo) -> Outcome<&mut Node> {
        self.nodes.get_mut(&ino.0).ok_or(Errno::ENOENT)
    }

    fn find(&mut self, dir: INodeNo, name: &OsStr) -> Outcome<(u64, FileType)> {
        self.node(dir)?.entries.get(name).copied().ok_or(Errno::ENOENT)
    }

    fn lookup(&mut self, dir: INodeNo, name: &OsStr) -> Outcome<FileAttr> {
        let (ino, _) = self.find(dir, name)?;
        Ok(self.node(INodeNo(ino))?.attr)
    }

    fn make(&mut self, request: &Request, dir: INodeNo, name: &OsStr, kind: FileType, mode: u32) -> Outcome<FileAttr> {
        if self.node(dir)?.entries.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let attr = self.add(kind, (mode & 0o7777) as u16, (request.uid(), request.gid()));
        self.node(dir)?.entries.insert(name.into(), (attr.ino.0, kind));
        self.node(attr.ino)?.is_segment = name.as_encoded_bytes().ends_with(b".slices");
        Ok(attr)
    }

    /// The kernel has no open file of what it removes here that matters: a benchmark closes first.
    fn remove(&mut self, dir: INodeNo, name: &OsStr) -> Outcome<()> {
        let (ino, _) = self.find(dir, name)?;
        if !self.node(INodeNo(ino))?.entries.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.node(dir)?.entries.remove(name);
        self.nodes.remove(&ino);
        Ok(())
    }

    fn rename(&mut self, dir: INodeNo, name: &OsStr, new_dir: INodeNo, new_name: &OsStr) -> Outcome<()> {
        let moved = self.find(dir, name)?;
        match self.find(new_dir, new_name) {
            Ok(there) if there == moved => return Ok(()),
            Ok(_) => self.remove(new_dir, new_name)?,
            Err(_) => {}
        }
        self.node(dir)?.entries.remove(name);
        self.node(new_dir)?.entries.insert(new_name.into(), moved);
        Ok(())
    }

    fn resize(&mut self, ino: INodeNo, size: u64) -> Outcome<()> {
        let node = self.node(ino)?;
        node.data.resize(usize::try_from(size).map_err(|_| Errno::EFBIG)?, 0);
        node.attr.size = size;
        node.attr.blocks = size.div_ceil(512);
        Ok(())
    }

    fn write(&mut self, ino: INodeNo, offset: u64, data: &[u8]) -> Outcome<()> {
        let end = offset + data.len() as u64;
        if self.node(ino)?.attr.size < end {
            self.resize(ino, end)?;
        }
        let node = self.node(ino)?;
        node.data[offset as usize..end as usize].copy_from_slice(data);
        node.attr.mtime = SystemTime::now();
        Ok(())
    }
}

impl Memfs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long reads of this file are held: for as long as this file is there.
    fn hold(&self, ino: INodeNo) -> Option<&PathBuf> {
        let is_segment = self.state().node(ino).is_ok_and(|node| node.is_segment);
        self.hold.as_ref().filter(|_| is_segment)
    }

    fn open_flags(&self, ino: INodeNo) -> FopenFlags {
        if self.hold(ino).is_some() { FopenFlags::FOPEN_DIRECT_IO } else { FopenFlags::FOPEN_KEEP_CACHE }
    }
}

/// Answers when that file is gone; whoever asks for other things is not kept by it.
fn answer_when_gone(hold: PathBuf, reply: ReplyData, data: Vec<u8>) {
    std::thread::spawn(move || {
        while hold.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        reply.data(&data);
    });
}

fn moment(time: TimeOrNow) -> SystemTime {
    match time {
        TimeOrNow::Now => SystemTime::now(),
        TimeOrNow::SpecificTime(time) => time,
    }
}

fn entry(reply: ReplyEntry, made: Outcome<FileAttr>) {
    match made {
        Ok(attr) => reply.entry(&KEPT, &attr, GENERATION),
        Err(errno) => reply.error(errno),
    }
}

fn empty(reply: ReplyEmpty, done: Outcome<()>) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

/// What is not here (flush, access, extended attributes) answers ENOSYS, and the kernel does not ask again.
impl Filesystem for Memfs {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let _unknown_to_an_old_kernel = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        let _always_allowed = config.set_max_write(1 << 20);
        Ok(())
    }

    fn lookup(&self, _request: &Request, dir: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(reply, self.state().lookup(dir, name));
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.state().node(ino) {
            Ok(node) => reply.attr(&KEPT, &node.attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = self.state();
        if let Some(Err(errno)) = size.map(|size| state.resize(ino, size)) {
            return reply.error(errno);
        }
        let attr = match state.node(ino) {
            Ok(node) => &mut node.attr,
            Err(errno) => return reply.error(errno),
        };
        attr.perm = mode.map_or(attr.perm, |mode| (mode & 0o7777) as u16);
        attr.uid = uid.unwrap_or(attr.uid);
        attr.gid = gid.unwrap_or(attr.gid);
        attr.atime = atime.map_or(attr.atime, moment);
        attr.mtime = mtime.map_or(attr.mtime, moment);
        attr.ctime = SystemTime::now();
        reply.attr(&KEPT, attr);
    }

    fn mkdir(&self, request: &Request, dir: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        entry(reply, self.state().make(request, dir, name, FileType::Directory, mode));
    }

    fn unlink(&self, _request: &Request, dir: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.state().remove(dir, name));
    }

    fn rmdir(&self, _request: &Request, dir: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.state().remove(dir, name));
    }

    fn rename(
        &self,
        _request: &Request,
        dir: INodeNo,
        name: &OsStr,
        new_dir: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        match flags.is_empty() {
            true => empty(reply, self.state().rename(dir, name, new_dir, new_name)),
            false => reply.error(Errno::EINVAL),
        }
    }

    fn open(&self, _request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), self.open_flags(ino));
    }

    fn create(
        &self,
        request: &Request,
        dir: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.state().make(request, dir, name, FileType::RegularFile, mode);
        match made {
            Ok(attr) => reply.created(&KEPT, &attr, GENERATION, FileHandle(0), self.open_flags(attr.ino)),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let hold = self.hold(ino).filter(|hold| hold.exists());
        match self.state().node(ino) {
            Ok(node) => {
                let from = node.data.len().min(offset as usize);
                let to = node.data.len().min(from + size as usize);
                match hold {
                    Some(hold) => answer_when_gone(hold.clone(), reply, node.data[from..to].to_vec()),
                    None => reply.data(&node.data[from..to]),
                }
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.state().write(ino, offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(errno) => reply.error(errno),
        }
    }

    fn fsync(&self, _request: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(&self, _request: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut state = self.state();
        let entries = match state.node(ino) {
            Ok(node) => &node.entries,
            Err(errno) => return reply.error(errno),
        };
        for (at, (name, (ino, kind))) in entries.iter().enumerate().skip(offset as usize) {
            if reply.add(INodeNo(*ino), at as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 30, 1 << 30, 1 << 30, 1 << 30, 1 << 30, 4096, 255, 4096);
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let Some(mountpoint) = words.next() else {
        eprintln!("usage: memfs MOUNTPOINT [HOLD]");
        return ExitCode::from(2);
    };
    let memfs = Memfs { state: Mutex::new(State::new()), hold: words.next().map(PathBuf::from) };
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("memfs".into()), MountOption::NoAtime];
    match fuser::mount(memfs, mountpoint, &config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("memfs: {error}");
            ExitCode::FAILURE
        }
    }
}
