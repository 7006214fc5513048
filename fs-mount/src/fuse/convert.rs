//! The kernel's words and Baton's, each in the other's.

use baton_core::meta::ops::{FallocateHow, RenameHow, SeekFor, SetTime, XattrHow};
use baton_core::types::{Attr, Errno, Ino, Kind, Name, Stamp, XattrName};
use fuser::{FileAttr, FileType, Generation, INodeNo, TimeOrNow};
use rustix::fs::{FallocateFlags, OFlags, XattrFlags};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the kernel may believe an answer: not at all, because nothing tells it when another mount changes something.
pub(super) const KEPT: Duration = Duration::ZERO;

/// Inode numbers are never used twice, so there is one generation.
pub(super) const GENERATION: Generation = Generation(0);

/// What `stat` calls the best size of an I/O. stdio and cp take their buffers from it, and every write(2) is one call
/// here: 4 KiB would cost 32 times as many of them.
const BLOCK: u32 = 128 * 1024;

/// `open` for `execve` (FMODE_EXEC in the kernel): not among the flags that programs know.
const OPENED_TO_EXEC: u32 = 0x20;

/// `F_RDLCK`, `F_WRLCK` and `F_UNLCK`.
pub(super) const READ_LOCK: i32 = 0;
pub(super) const WRITE_LOCK: i32 = 1;
pub(super) const UNLOCKED: i32 = 2;

/// Whether a lock is to be exclusive; `None`: it is to be given back.
pub(super) fn lock_type(typ: i32) -> Result<Option<bool>, Errno> {
    match typ {
        READ_LOCK => Ok(Some(false)),
        WRITE_LOCK => Ok(Some(true)),
        UNLOCKED => Ok(None),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn ino(number: INodeNo) -> Ino {
    Ino(number.0)
}

pub(super) fn file_name(name: &OsStr) -> Result<Name, Errno> {
    Ok(Name::new(name.as_bytes())?)
}

pub(super) fn xattr_name(name: &OsStr) -> Result<XattrName, Errno> {
    Ok(XattrName::new(name.as_bytes())?)
}

pub(super) fn errno(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno.code())
}

pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

/// What `mknod` is to make, from the type bits of its mode; none stands for a regular file.
pub(super) fn mknod_kind(mode: u32) -> Result<Kind, Errno> {
    match rustix::fs::FileType::from_raw_mode(mode) {
        rustix::fs::FileType::RegularFile => Ok(Kind::File),
        rustix::fs::FileType::Fifo => Ok(Kind::Fifo),
        rustix::fs::FileType::Socket => Ok(Kind::Socket),
        rustix::fs::FileType::CharacterDevice => Ok(Kind::CharDevice),
        rustix::fs::FileType::BlockDevice => Ok(Kind::BlockDevice),
        _ if mode & !0o7777 == 0 => Ok(Kind::File),
        _ => Err(Errno::EINVAL),
    }
}

/// The permission bits of a mode, setuid, setgid and sticky among them.
pub(super) fn permissions(mode: u32) -> u16 {
    (mode & 0o7777) as u16
}

pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size,
        blocks: attr.allocated.div_ceil(512),
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: system_time(attr.btime),
        kind: file_type(attr.kind),
        perm: attr.mode & 0o7777,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: BLOCK,
        flags: 0,
    }
}

/// What stands in a reply that names nothing: number 0 is no object's.
pub(super) fn no_object() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    }
}

/// A moment as the library wants it; one that lies outside of what it can say becomes the start of 1970.
fn system_time(stamp: Stamp) -> SystemTime {
    let seconds = Duration::from_secs(stamp.secs.unsigned_abs());
    let whole = match stamp.secs {
        0.. => UNIX_EPOCH.checked_add(seconds),
        _ => UNIX_EPOCH.checked_sub(seconds),
    };
    whole.and_then(|t| t.checked_add(Duration::from_nanos(stamp.nanos.into()))).unwrap_or(UNIX_EPOCH)
}

/// A time that the kernel sent to set. The library turns `secs + nanos` with negative seconds into "`-secs` and `nanos`
/// before 1970", which is another moment; taking it apart in the same way gives back what the kernel sent.
pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    let TimeOrNow::SpecificTime(time) = time else { return SetTime::Now };
    SetTime::At(match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Stamp::new(i64::try_from(after.as_secs()).unwrap_or(i64::MAX), after.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            Stamp::new(0i64.saturating_sub_unsigned(before.as_secs()), before.subsec_nanos())
        }
    })
}

/// What an open file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) read: bool,
    pub(super) write: bool,
    pub(super) exec: bool,
}

/// A program that is executed must be executable and need not be readable, so only that is asked then.
pub(super) fn opening(flags: i32) -> Opening {
    let flags = flags as u32;
    let mode = OFlags::from_bits_retain(flags) & OFlags::RWMODE;
    let exec = flags & OPENED_TO_EXEC != 0;
    Opening {
        read: !exec && (mode == OFlags::RDONLY || mode == OFlags::RDWR),
        write: mode == OFlags::WRONLY || mode == OFlags::RDWR,
        exec,
    }
}

pub(super) fn has(flags: i32, flag: OFlags) -> bool {
    OFlags::from_bits_retain(flags as u32).contains(flag)
}

pub(super) fn rename_how(flags: u32) -> Result<RenameHow, Errno> {
    match rustix::fs::RenameFlags::from_bits(flags) {
        Some(f) if f.is_empty() => Ok(RenameHow::Replace),
        Some(rustix::fs::RenameFlags::NOREPLACE) => Ok(RenameHow::NoReplace),
        Some(rustix::fs::RenameFlags::EXCHANGE) => Ok(RenameHow::Exchange),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn xattr_how(flags: i32) -> Result<XattrHow, Errno> {
    match XattrFlags::from_bits(flags as u32) {
        Some(f) if f.is_empty() => Ok(XattrHow::Either),
        Some(XattrFlags::CREATE) => Ok(XattrHow::Create),
        Some(XattrFlags::REPLACE) => Ok(XattrHow::Replace),
        _ => Err(Errno::EINVAL),
    }
}

/// What `fallocate` is to do, and whether the file's length stays.
pub(super) fn fallocate_how(mode: i32) -> Result<(FallocateHow, bool), Errno> {
    let flags = FallocateFlags::from_bits_retain(mode as u32);
    let keep_size = flags.contains(FallocateFlags::KEEP_SIZE);
    match flags - FallocateFlags::KEEP_SIZE {
        rest if rest.is_empty() => Ok((FallocateHow::Allocate, keep_size)),
        FallocateFlags::ZERO_RANGE => Ok((FallocateHow::ZeroRange, keep_size)),
        FallocateFlags::PUNCH_HOLE if keep_size => Ok((FallocateHow::PunchHole, true)),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

pub(super) fn seek_for(whence: i32) -> Result<SeekFor, Errno> {
    const SEEK_DATA: i32 = 3;
    const SEEK_HOLE: i32 = 4;
    match whence {
        SEEK_DATA => Ok(SeekFor::Data),
        SEEK_HOLE => Ok(SeekFor::Hole),
        _ => Err(Errno::EINVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_go_there_and_back() {
        for stamp in [Stamp::new(0, 0), Stamp::new(-1, 999_999_999), Stamp::new(-2, 800_000_000), Stamp::new(-5, 0)] {
            let told = system_time(stamp);
            let nanos = match told.duration_since(UNIX_EPOCH) {
                Ok(after) => after.as_nanos() as i128,
                Err(before) => -(before.duration().as_nanos() as i128),
            };
            assert_eq!(nanos, stamp.as_nanos());
        }
        // As the library hands over -2 s + 0.8 s: 2.8 s before 1970.
        let handed = UNIX_EPOCH - Duration::new(2, 800_000_000);
        assert_eq!(set_time(TimeOrNow::SpecificTime(handed)), SetTime::At(Stamp::new(-2, 800_000_000)));
    }

    #[test]
    fn a_moment_out_of_range_does_not_panic() {
        system_time(Stamp::new(i64::MIN, 0));
        system_time(Stamp::new(i64::MAX, 999_999_999));
    }

    #[test]
    fn execve_asks_for_execution_only() {
        assert_eq!(opening(0x8020), Opening { read: false, write: false, exec: true });
        assert_eq!(opening(0), Opening { read: true, write: false, exec: false });
        assert_eq!(opening(1), Opening { read: false, write: true, exec: false });
        assert_eq!(opening(2), Opening { read: true, write: true, exec: false });
    }

    #[test]
    fn a_hole_is_punched_only_where_the_size_is_kept() {
        assert_eq!(fallocate_how(0), Ok((FallocateHow::Allocate, false)));
        assert_eq!(fallocate_how(1), Ok((FallocateHow::Allocate, true)));
        assert_eq!(fallocate_how(2), Err(Errno::EOPNOTSUPP));
        assert_eq!(fallocate_how(3), Ok((FallocateHow::PunchHole, true)));
        assert_eq!(fallocate_how(0x10), Ok((FallocateHow::ZeroRange, false)));
        assert_eq!(fallocate_how(0x11), Ok((FallocateHow::ZeroRange, true)));
        assert_eq!(fallocate_how(0x08), Err(Errno::EOPNOTSUPP));
    }

    #[test]
    fn only_plain_renames_no_replace_and_exchange_are_known() {
        assert_eq!(rename_how(0), Ok(RenameHow::Replace));
        assert_eq!(rename_how(1), Ok(RenameHow::NoReplace));
        assert_eq!(rename_how(2), Ok(RenameHow::Exchange));
        assert_eq!(rename_how(3), Err(Errno::EINVAL));
        assert_eq!(rename_how(4), Err(Errno::EINVAL));
    }

    #[test]
    fn mknod_makes_what_its_mode_says() {
        assert_eq!(mknod_kind(0o644), Ok(Kind::File));
        assert_eq!(mknod_kind(0o100644), Ok(Kind::File));
        assert_eq!(mknod_kind(0o010644), Ok(Kind::Fifo));
        assert_eq!(mknod_kind(0o060644), Ok(Kind::BlockDevice));
        assert_eq!(mknod_kind(0o040644), Err(Errno::EINVAL));
    }
}
