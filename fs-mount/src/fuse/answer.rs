//! From a [`Done`] to the reply that the kernel waits for.

use super::convert::{GENERATION, KEPT, READ_LOCK, UNLOCKED, WRITE_LOCK, errno, file_attr, no_object};
use super::kernel::Kept;
use crate::clock;
use baton_core::limits::NAME_MAX;
use baton_core::meta::{Answer, StatFs};
use baton_core::mount::{Done, Pages};
use baton_core::types::Errno;
use bytes::Bytes;
use fuser::{
    FileHandle, FopenFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyLock, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
};
use std::time::Duration;

/// Reads and writes come to us. So does every close, which ends a process's locks.
const OPENED: FopenFlags = FopenFlags::FOPEN_DIRECT_IO;

/// What the kernel may keep of what is read through a file or a directory that is being opened.
fn pages(pages: Pages) -> FopenFlags {
    match pages {
        Pages::No => FopenFlags::empty(),
        Pages::Fresh => FopenFlags::FOPEN_CACHE_DIR,
        Pages::Known => FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE,
    }
}

/// Every kind of reply can say that it did not work.
pub(super) trait Refuse: Send + 'static {
    fn refuse(self, why: Errno);
}

macro_rules! can_refuse {
    ($($reply:ty),* $(,)?) => {
        $(impl Refuse for $reply {
            fn refuse(self, why: Errno) {
                self.error(errno(why));
            }
        })*
    };
}

can_refuse!(
    ReplyAttr,
    ReplyCreate,
    ReplyData,
    ReplyDirectory,
    ReplyDirectoryPlus,
    ReplyEmpty,
    ReplyEntry,
    ReplyLock,
    ReplyLseek,
    ReplyOpen,
    ReplyStatfs,
    ReplyWrite,
    ReplyXattr,
);

/// An answer of a kind that its question cannot have: the caller is wrong, and the program must not be told anything.
pub(super) fn unexpected(reply: impl Refuse, done: &Done) {
    tracing::error!(?done, "an answer that does not belong to its call");
    reply.refuse(Errno::EIO);
}

pub(super) fn entry(reply: ReplyEntry, done: Done) {
    match done {
        Done::Answer(Answer::Attr(attr)) => reply.entry(&KEPT, &file_attr(&attr), GENERATION),
        other => unexpected(reply, &other),
    }
}

/// What a name stands for, or that it stands for nothing; for as long as the kernel may know that.
pub(super) fn found(reply: ReplyEntry, result: Result<Done, Errno>, kept: Kept) {
    let entry = left(kept.entry);
    match result {
        Ok(Done::Answer(Answer::Attr(attr))) => {
            reply.entry_with_ttls(&left(kept.attr), &entry, &file_attr(&attr), GENERATION);
        }
        Ok(other) => unexpected(reply, &other),
        // A reply that names no object says that there is none.
        Err(Errno::ENOENT) if !entry.is_zero() => reply.entry_with_ttls(&KEPT, &entry, &no_object(), GENERATION),
        Err(why) => reply.refuse(why),
    }
}

pub(super) fn shown(reply: ReplyAttr, result: Result<Done, Errno>, kept: Kept) {
    match result {
        Ok(Done::Answer(Answer::Attr(attr))) => reply.attr(&left(kept.attr), &file_attr(&attr)),
        Ok(other) => unexpected(reply, &other),
        Err(why) => reply.refuse(why),
    }
}

/// The time until then; it is counted as late as can be, for the kernel counts from when it hears of it.
fn left(until: Option<Duration>) -> Duration {
    until.map_or(KEPT, |until| until.saturating_sub(clock::now()))
}

pub(super) fn attr(reply: ReplyAttr, done: Done) {
    match done {
        Done::Answer(Answer::Attr(attr)) => reply.attr(&KEPT, &file_attr(&attr)),
        other => unexpected(reply, &other),
    }
}

/// Whatever the answer says beyond "it is done" is of no interest here.
pub(super) fn empty(reply: ReplyEmpty, _done: Done) {
    reply.ok();
}

pub(super) fn target(reply: ReplyData, done: Done) {
    match done {
        Done::Answer(Answer::Target(target)) => reply.data(&target),
        other => unexpected(reply, &other),
    }
}

pub(super) fn opened(reply: ReplyOpen, result: Result<Done, Errno>, kept: Kept) {
    match result {
        Ok(Done::Opened { handle, .. }) => {
            let flags = if kept.pages == Pages::No { OPENED } else { pages(kept.pages) };
            let flags = if kept.quiet { flags | FopenFlags::FOPEN_NOFLUSH } else { flags };
            reply.opened(FileHandle(handle.0), flags);
        }
        Ok(other) => unexpected(reply, &other),
        Err(why) => reply.refuse(why),
    }
}

pub(super) fn opened_dir(reply: ReplyOpen, result: Result<Done, Errno>, kept: Kept) {
    match result {
        Ok(Done::Opened { handle, .. }) => reply.opened(FileHandle(handle.0), pages(kept.pages)),
        Ok(other) => unexpected(reply, &other),
        Err(why) => reply.refuse(why),
    }
}

pub(super) fn created(reply: ReplyCreate, done: Done) {
    match done {
        Done::Opened { handle, attr } => {
            reply.created(&KEPT, &file_attr(&attr), GENERATION, FileHandle(handle.0), OPENED);
        }
        other => unexpected(reply, &other),
    }
}

/// The library takes one slice: what came in one piece is not copied.
pub(super) fn data(reply: ReplyData, done: Done) {
    match done {
        Done::Data(pieces) => match pieces.as_slice() {
            [piece] => reply.data(piece),
            pieces => reply.data(&pieces.concat()),
        },
        other => unexpected(reply, &other),
    }
}

pub(super) fn written(reply: ReplyWrite, done: Done) {
    match done {
        Done::Written { len, .. } => count(reply, len),
        other => unexpected(reply, &other),
    }
}

pub(super) fn copied(reply: ReplyWrite, done: Done) {
    match done {
        Done::Answer(Answer::Copied(len)) => count(reply, len),
        other => unexpected(reply, &other),
    }
}

fn count(reply: ReplyWrite, len: u64) {
    match u32::try_from(len) {
        Ok(len) => reply.written(len),
        Err(_) => reply.refuse(Errno::EIO),
    }
}

pub(super) fn offset(reply: ReplyLseek, done: Done) {
    match done {
        Done::Answer(Answer::Offset(offset)) => match i64::try_from(offset) {
            Ok(offset) => reply.offset(offset),
            Err(_) => reply.refuse(Errno::EOVERFLOW),
        },
        other => unexpected(reply, &other),
    }
}

/// An attribute's value, or all their names; `room` is how much the program has for it, 0 where it asks how much it takes.
pub(super) fn xattr(room: u32) -> impl FnOnce(ReplyXattr, Done) + Send + 'static {
    move |reply, done| match done {
        Done::Answer(Answer::Xattr(bytes) | Answer::XattrNames(bytes)) => fit(reply, &bytes, room),
        other => unexpected(reply, &other),
    }
}

fn fit(reply: ReplyXattr, bytes: &Bytes, room: u32) {
    match room as usize {
        0 => reply.size(bytes.len() as u32),
        room if bytes.len() <= room => reply.data(bytes),
        _ => reply.refuse(Errno::ERANGE),
    }
}

/// The lock that is in the way, or that none is.
pub(super) fn locked_by(reply: ReplyLock, done: Done) {
    match done {
        Done::Answer(Answer::LockedBy(None)) => reply.locked(0, 0, UNLOCKED, 0),
        Done::Answer(Answer::LockedBy(Some(lock))) => {
            let end = lock.end.min(i64::MAX as u64);
            reply.locked(lock.start, end, if lock.exclusive { WRITE_LOCK } else { READ_LOCK }, lock.pid);
        }
        other => unexpected(reply, &other),
    }
}

pub(super) fn statfs(reply: ReplyStatfs, done: Done) {
    match done {
        Done::Answer(Answer::StatFs(StatFs { inodes, total, free, .. })) => {
            /// Only the unit of the figures, unlike a file's best size of an I/O.
            const UNIT: u32 = 4096;
            let unit = u64::from(UNIT);
            let free_inodes = free / unit;
            let (free, total) = (free / unit, total / unit);
            reply.statfs(total, free, free, inodes + free_inodes, free_inodes, UNIT, NAME_MAX as u32, UNIT);
        }
        other => unexpected(reply, &other),
    }
}
