//! One method a request: each says in Baton's words what the kernel asks and which kind of reply it waits for.

use super::answer::{self, Refuse};
use super::convert::{
    Opening, fallocate_how, file_name, has, ino, lock_type, mknod_kind, opening, permissions, rename_how, seek_for,
    set_time, xattr_how, xattr_name,
};
use super::{Caller, Kept, Who, listing};
use baton_core::limits::{COPY_MAX, SYMLINK_MAX};
use baton_core::meta::ops::*;
use baton_core::meta::{Op, Query};
use baton_core::mount::{Call, Done, Handle};
use baton_core::types::{Errno, Ino};
use bytes::Bytes;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, INodeNo, InitFlags, KernelConfig, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyLock, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::OFlags;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// The largest single write: more comes in several requests.
const WRITE_MAX: u32 = 1024 * 1024;
/// Requests that nobody waits for (readahead, mapped pages being written) under way at once: the library's 16 is few for
/// answers that come over a network.
const BACKGROUND_MAX: u16 = 64;

/// What the kernel is asked for besides the library's own choice (asynchronous reads, large requests):
/// * mapping files that are open for direct I/O, and dropping mapped pages when the attributes show another content;
/// * locks of both kinds, so that they hold on every mount and not only within this kernel;
/// * several requests in one directory at once, and listings with attributes where they are likely to be wanted;
/// * leaving it to the operations when setuid and setgid bits go: the kernel would send a `chmod` in the name of whoever
///   writes, who may not do that.
///
/// Not asked for: the writeback cache (the kernel would own sizes and times), truncation at open (it arrives as a
/// SETATTR), ACLs and NFS export.
const WANTED: [InitFlags; 8] = [
    InitFlags::FUSE_POSIX_LOCKS,
    InitFlags::FUSE_FLOCK_LOCKS,
    InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
    InitFlags::FUSE_AUTO_INVAL_DATA,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_HANDLE_KILLPRIV,
];

/// A file system of fuser's over a [`Caller`].
pub struct Adapter<C: Caller> {
    caller: Arc<C>,
}

impl<C: Caller> Adapter<C> {
    pub fn new(caller: Arc<C>) -> Self {
        Adapter { caller }
    }

    /// Has a call carried out and replies with what `finish` makes of the result, or with why there is no such call.
    fn carry<R: Refuse>(
        &self,
        request: &Request,
        call: Result<Call, Errno>,
        reply: R,
        finish: impl FnOnce(R, Done) + Send + 'static,
    ) {
        match call {
            Err(errno) => reply.refuse(errno),
            Ok(call) => {
                let done = move |result, _kept| match result {
                    Ok(done) => finish(reply, done),
                    Err(errno) => reply.refuse(errno),
                };
                self.caller.call(who(request), call, Box::new(done));
            }
        }
    }

    /// The same for what the kernel may keep; `finish` replies to failures too.
    fn carry_kept<R: Send + 'static>(
        &self,
        request: &Request,
        call: Call,
        reply: R,
        finish: impl FnOnce(R, Result<Done, Errno>, Kept) + Send + 'static,
    ) {
        self.caller.call(who(request), call, Box::new(move |result, kept| finish(reply, result, kept)));
    }
}

fn who(request: &Request) -> Who {
    Who { uid: request.uid(), gid: request.gid(), pid: request.pid() }
}

fn ask(query: impl Into<Query>) -> Call {
    Call::Ask(query.into())
}

fn change(op: impl Into<Op>) -> Call {
    Call::Do(op.into())
}

fn lookup_name(name: &OsStr) -> Result<LookupName, Errno> {
    match name.as_bytes() {
        b"." => Ok(LookupName::Dot),
        b".." => Ok(LookupName::DotDot),
        _ => Ok(LookupName::Name(file_name(name)?)),
    }
}

fn symlink_target(target: &Path) -> Result<Bytes, Errno> {
    let target = target.as_os_str().as_bytes();
    match target.len() {
        0 => Err(Errno::ENOENT),
        len if len > SYMLINK_MAX => Err(Errno::ENAMETOOLONG),
        _ => Ok(Bytes::copy_from_slice(target)),
    }
}

/// `*at` calls have two names, each of which can be wrong.
fn rename(dir: Ino, name: &OsStr, new_dir: Ino, new_name: &OsStr, flags: u32) -> Result<Call, Errno> {
    let how = rename_how(flags)?;
    Ok(change(Rename { dir, name: file_name(name)?, new_dir, new_name: file_name(new_name)?, how }))
}

fn create(dir: Ino, name: &OsStr, mode: u16, flags: i32) -> Result<Call, Errno> {
    let Opening { read, write, .. } = opening(flags);
    let (exclusive, truncate) = (has(flags, OFlags::EXCL), has(flags, OFlags::TRUNC));
    Ok(Call::Create(Create { dir, name: file_name(name)?, mode, exclusive, truncate, read, write }))
}

/// With O_APPEND the offset in the request is only where this kernel believes the end to be.
fn write(who: Who, ino: Ino, offset: u64, data: &[u8], flags: OpenFlags, write_flags: WriteFlags) -> Call {
    let at = if has(flags.0, OFlags::APPEND) { WriteAt::End } else { WriteAt::Offset(offset) };
    // Mapped pages are written in the kernel's own name, at their place.
    let mapped = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
    let at = if mapped { WriteAt::Offset(offset) } else { at };
    let kill_suid = who.uid != 0 || write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
    Call::Write { ino, at, data: Bytes::copy_from_slice(data), kill_suid, mapped }
}

fn unlock_all(ino: Ino, owner: LockOwner) -> Call {
    Call::Unlock { ino, owner: owner.0, start: 0, end: u64::MAX }
}

impl<C: Caller> Filesystem for Adapter<C> {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        for wanted in WANTED {
            if config.add_capabilities(wanted).is_err() {
                tracing::warn!(?wanted, "this kernel does not know how");
            }
        }
        // Both are within what the library allows; if that changes, its own choice is as good.
        let _previous = config.set_max_write(WRITE_MAX);
        let _previous = config.set_max_background(BACKGROUND_MAX);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match lookup_name(name) {
            Err(errno) => reply.refuse(errno),
            Ok(name) => self.carry_kept(request, ask(Lookup { dir: ino(parent), name }), reply, answer::found),
        }
    }

    fn getattr(&self, request: &Request, number: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.carry_kept(request, ask(GetAttr { ino: ino(number) }), reply, answer::shown);
    }

    fn setattr(
        &self,
        request: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let op = SetAttr {
            ino: ino(number),
            mode: mode.map(permissions),
            uid,
            gid,
            size,
            atime: atime.map(set_time),
            mtime: mtime.map(set_time),
            opened: size.is_some() && fh.is_some(),
        };
        self.carry(request, Ok(change(op)), reply, answer::attr);
    }

    fn readlink(&self, request: &Request, number: INodeNo, reply: ReplyData) {
        self.carry(request, Ok(ask(ReadLink { ino: ino(number) })), reply, answer::target);
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let call = file_name(name).and_then(|name| {
            let (kind, mode) = (mknod_kind(mode)?, permissions(mode & !umask));
            Ok(change(Mknod { dir: ino(parent), name, kind, mode, rdev }))
        });
        self.carry(request, call, reply, answer::entry);
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let mode = permissions(mode & !umask);
        let call = file_name(name).map(|name| change(Mkdir { dir: ino(parent), name, mode }));
        self.carry(request, call, reply, answer::entry);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let call = file_name(name).map(|name| change(Unlink { dir: ino(parent), name }));
        self.carry(request, call, reply, answer::empty);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let call = file_name(name).map(|name| change(Rmdir { dir: ino(parent), name }));
        self.carry(request, call, reply, answer::empty);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let call = file_name(name)
            .and_then(|name| Ok(change(Symlink { dir: ino(parent), name, target: symlink_target(target)? })));
        self.carry(request, call, reply, answer::entry);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let call = rename(ino(parent), name, ino(new_parent), new_name, flags.bits());
        self.carry(request, call, reply, answer::empty);
    }

    fn link(&self, request: &Request, number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let call = file_name(name).map(|name| change(Link { ino: ino(number), dir: ino(parent), name }));
        self.carry(request, call, reply, answer::entry);
    }

    fn open(&self, request: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let Opening { read, write, exec } = opening(flags.0);
        let call = Call::Open { ino: ino(number), read, write, exec };
        self.carry_kept(request, call, reply, answer::opened);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let call = create(ino(parent), name, permissions(mode & !umask), flags);
        self.carry(request, call, reply, answer::created);
    }

    fn read(
        &self,
        request: &Request,
        number: INodeNo,
        _fh: FileHandle,
        offset: u64,
        len: u32,
        _flags: OpenFlags,
        lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        // Only what goes straight to a program comes with the program's name; however the file was opened, the rest is for
        // the page cache.
        let call = Call::Read { ino: ino(number), offset, len, pages: lock_owner.is_none() };
        self.carry(request, Ok(call), reply, answer::data);
    }

    fn write(
        &self,
        request: &Request,
        number: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let call = write(who(request), ino(number), offset, data, flags, write_flags);
        self.carry(request, Ok(call), reply, answer::written);
    }

    /// A write is through when it was answered, so a close has nothing to wait for but this: a process that closes a file
    /// gives up all its `fcntl` locks on it.
    fn flush(&self, request: &Request, number: INodeNo, _fh: FileHandle, owner: LockOwner, reply: ReplyEmpty) {
        self.carry(request, Ok(unlock_all(ino(number), owner)), reply, answer::empty);
    }

    fn getlk(
        &self,
        request: &Request,
        number: INodeNo,
        _fh: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        typ: i32,
        _pid: u32,
        reply: ReplyLock,
    ) {
        let call = lock_type(typ).map(|exclusive| Call::GetLock {
            ino: ino(number),
            owner: owner.0,
            start,
            end,
            exclusive: exclusive.unwrap_or(false),
        });
        self.carry(request, call, reply, answer::locked_by);
    }

    fn setlk(
        &self,
        request: &Request,
        number: INodeNo,
        fh: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        typ: i32,
        pid: u32,
        sleep: bool,
        reply: ReplyEmpty,
    ) {
        let (ino, owner) = (ino(number), owner.0);
        let call = lock_type(typ).map(|exclusive| match exclusive {
            Some(exclusive) => {
                Call::Lock { ino, handle: Some(Handle(fh.0)), owner, pid, start, end, exclusive, wait: sleep }
            }
            None => Call::Unlock { ino, owner, start, end },
        });
        self.carry(request, call, reply, answer::empty);
    }

    fn fsync(&self, request: &Request, number: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.carry(request, Ok(Call::Sync { ino: ino(number) }), reply, answer::empty);
    }

    /// With an owner, the open file may have an `flock`, which ends with it.
    fn release(
        &self,
        request: &Request,
        number: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        if let Some(owner) = lock_owner {
            self.caller.call(who(request), unlock_all(ino(number), owner), Box::new(|_nobody_waits, _kept| {}));
        }
        self.carry(request, Ok(Call::Release(Handle(fh.0))), reply, answer::empty);
    }

    fn opendir(&self, request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let call = Call::Open { ino: ino(number), read: true, write: false, exec: false };
        self.carry_kept(request, call, reply, answer::opened_dir);
    }

    fn readdir(&self, request: &Request, number: INodeNo, _fh: FileHandle, offset: u64, reply: ReplyDirectory) {
        listing::fill(self.caller.clone(), who(request), ino(number), offset, reply);
    }

    fn readdirplus(&self, request: &Request, number: INodeNo, _fh: FileHandle, offset: u64, reply: ReplyDirectoryPlus) {
        listing::fill(self.caller.clone(), who(request), ino(number), offset, reply);
    }

    fn releasedir(&self, request: &Request, _number: INodeNo, fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        self.carry(request, Ok(Call::Release(Handle(fh.0))), reply, answer::empty);
    }

    fn fsyncdir(&self, request: &Request, number: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.carry(request, Ok(Call::Sync { ino: ino(number) }), reply, answer::empty);
    }

    fn statfs(&self, request: &Request, _number: INodeNo, reply: ReplyStatfs) {
        self.carry(request, Ok(ask(GetStatFs {})), reply, answer::statfs);
    }

    fn setxattr(
        &self,
        request: &Request,
        number: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let call = xattr_name(name).and_then(|name| {
            let (value, how) = (Bytes::copy_from_slice(value), xattr_how(flags)?);
            Ok(change(SetXattr { ino: ino(number), name, value, how }))
        });
        self.carry(request, call, reply, answer::empty);
    }

    fn getxattr(&self, request: &Request, number: INodeNo, name: &OsStr, room: u32, reply: ReplyXattr) {
        let call = xattr_name(name).map(|name| ask(GetXattr { ino: ino(number), name }));
        self.carry(request, call, reply, answer::xattr(room));
    }

    fn listxattr(&self, request: &Request, number: INodeNo, room: u32, reply: ReplyXattr) {
        self.carry(request, Ok(ask(ListXattr { ino: ino(number) })), reply, answer::xattr(room));
    }

    fn removexattr(&self, request: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let call = xattr_name(name).map(|name| change(RemoveXattr { ino: ino(number), name }));
        self.carry(request, call, reply, answer::empty);
    }

    fn access(&self, request: &Request, number: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let call = ask(Access {
            ino: ino(number),
            read: mask.contains(AccessFlags::R_OK),
            write: mask.contains(AccessFlags::W_OK),
            exec: mask.contains(AccessFlags::X_OK),
        });
        self.carry(request, Ok(call), reply, answer::empty);
    }

    fn fallocate(
        &self,
        request: &Request,
        number: INodeNo,
        _fh: FileHandle,
        offset: u64,
        len: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let call = fallocate_how(mode)
            .map(|(how, keep_size)| change(Fallocate { ino: ino(number), offset, len, how, keep_size }));
        self.carry(request, call, reply, answer::empty);
    }

    fn lseek(&self, request: &Request, number: INodeNo, _fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        // Before the start there is neither data nor a hole.
        let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO);
        let call = offset.and_then(|offset| Ok(ask(Seek { ino: ino(number), offset, what: seek_for(whence)? })));
        self.carry(request, call, reply, answer::offset);
    }

    fn copy_file_range(
        &self,
        request: &Request,
        from: INodeNo,
        _from_fh: FileHandle,
        from_offset: u64,
        to: INodeNo,
        _to_fh: FileHandle,
        to_offset: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // A short copy is a good answer: the program asks again for the rest.
        let len = len.min(COPY_MAX);
        let call = change(CopyRange { from: ino(from), from_offset, to: ino(to), to_offset, len });
        self.carry(request, Ok(call), reply, answer::copied);
    }
}
