use super::{blob, id, ino, kind, mode, name, nodes, slice_id, stamp};
use baton_core::meta::locks::{FileLock, LockOwner};
use baton_core::meta::{Op, Query, ops::*};
use baton_core::types::{Cookie, Cred, SessionId, XattrName};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

pub(crate) fn cred() -> impl Strategy<Value = Cred> {
    (any::<u32>(), any::<u32>(), option::of(vec(any::<u32>(), 0..20))).prop_map(|(uid, gid, groups)| Cred {
        uid,
        gid,
        groups,
    })
}

fn xattr_name() -> impl Strategy<Value = XattrName> {
    (select(vec!["user.", "trusted.", "security.", "system."]), vec(1..=255u8, 1..200))
        .prop_map(|(space, rest)| XattrName::new(&[space.as_bytes(), &rest].concat()).unwrap())
}

fn slice_ref() -> impl Strategy<Value = SliceRef> {
    (slice_id(), 1..=4 * 1024 * 1024u32, nodes(1)).prop_map(|(id, len, nodes)| SliceRef { id, len, nodes })
}

fn set_time() -> impl Strategy<Value = SetTime> {
    prop_oneof![Just(SetTime::Now), stamp().prop_map(SetTime::At)]
}

fn set_attr() -> impl Strategy<Value = Op> {
    let owner = (option::of(any::<u32>()), option::of(any::<u32>()));
    let times = (option::of(set_time()), option::of(set_time()));
    (ino(), option::of(mode()), owner, option::of(any::<u64>()), times, any::<bool>()).prop_map(
        |(ino, mode, (uid, gid), size, (atime, mtime), opened)| {
            SetAttr { ino, mode, uid, gid, size, atime, mtime, opened }.into()
        },
    )
}

fn write() -> impl Strategy<Value = Op> {
    let at = prop_oneof![any::<u64>().prop_map(WriteAt::Offset), Just(WriteAt::End)];
    let data = prop_oneof![blob(0, 300).prop_map(WriteData::Inline), slice_ref().prop_map(WriteData::Slice)];
    (ino(), at, data, any::<bool>()).prop_map(|(ino, at, data, kill_suid)| Write { ino, at, data, kill_suid }.into())
}

/// What makes a name or takes one away.
fn name_op() -> impl Strategy<Value = Op> {
    let how = select(vec![RenameHow::Replace, RenameHow::NoReplace, RenameHow::Exchange]);
    prop_oneof![
        (ino(), name(), mode(), any::<[bool; 4]>()).prop_map(
            |(dir, name, mode, [exclusive, truncate, read, write])| {
                Create { dir, name, mode, exclusive, truncate, read, write }.into()
            }
        ),
        (ino(), name(), kind(), mode(), any::<u32>()).prop_map(|(dir, name, kind, mode, rdev)| Mknod {
            dir,
            name,
            kind,
            mode,
            rdev
        }
        .into()),
        (ino(), name(), mode()).prop_map(|(dir, name, mode)| Mkdir { dir, name, mode }.into()),
        (ino(), name(), vec(1..=255u8, 1..300)).prop_map(|(dir, name, target)| Symlink {
            dir,
            name,
            target: target.into()
        }
        .into()),
        (ino(), ino(), name()).prop_map(|(ino, dir, name)| Link { ino, dir, name }.into()),
        (ino(), name()).prop_map(|(dir, name)| Unlink { dir, name }.into()),
        (ino(), name()).prop_map(|(dir, name)| Rmdir { dir, name }.into()),
        (ino(), name(), ino(), name(), how).prop_map(|(dir, name, new_dir, new_name, how)| Rename {
            dir,
            name,
            new_dir,
            new_name,
            how
        }
        .into()),
    ]
}

/// What a mount may send.
pub(crate) fn op() -> impl Strategy<Value = Op> {
    let alloc = select(vec![FallocateHow::Allocate, FallocateHow::PunchHole, FallocateHow::ZeroRange]);
    let xattr = select(vec![XattrHow::Either, XattrHow::Create, XattrHow::Replace]);
    prop_oneof![
        2 => set_attr(),
        8 => name_op(),
        2 => write(),
        1 => (ino(), any::<[u64; 2]>(), alloc, any::<bool>()).prop_map(|(ino, [offset, len], how, keep_size)| {
            Fallocate { ino, offset, len, how, keep_size }.into()
        }),
        1 => (ino(), ino(), any::<[u64; 3]>()).prop_map(|(from, to, [from_offset, to_offset, len])| {
            CopyRange { from, from_offset, to, to_offset, len }.into()
        }),
        1 => (ino(), xattr_name(), blob(0, 300), xattr)
            .prop_map(|(ino, name, value, how)| SetXattr { ino, name, value, how }.into()),
        1 => (ino(), xattr_name()).prop_map(|(ino, name)| RemoveXattr { ino, name }.into()),
        2 => lock_op(),
    ]
}

fn lock_op() -> impl Strategy<Value = Op> {
    let words = || any::<[u64; 3]>();
    prop_oneof![
        (ino(), words(), any::<u32>(), any::<bool>(), option::of(any::<u64>())).prop_map(
            |(ino, [owner, start, end], pid, exclusive, ticket)| {
                Lock { ino, owner, pid, start, end, exclusive, ticket }.into()
            }
        ),
        (ino(), words()).prop_map(|(ino, [owner, start, end])| Unlock { ino, owner, start, end }.into()),
        (ino(), words()).prop_map(|(ino, [owner, ticket, _])| CancelLock { ino, owner, ticket }.into()),
        ino().prop_map(|ino| ForgetBroken { ino }.into()),
    ]
}

fn lock_owner() -> impl Strategy<Value = LockOwner> {
    (id(), any::<u64>()).prop_map(|(session, owner)| LockOwner { session: SessionId(session), owner })
}

pub(crate) fn file_lock() -> impl Strategy<Value = FileLock> {
    (lock_owner(), any::<u32>(), any::<[u64; 2]>(), any::<bool>())
        .prop_map(|(by, pid, [start, end], exclusive)| FileLock { by, pid, start, end, exclusive })
}

/// What only the cluster itself says.
pub(crate) fn own_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        ino().prop_map(|ino| Reap { ino }.into()),
        (slice_id(), nodes(0)).prop_map(|(id, nodes)| PlaceSlice { id, nodes }.into()),
        (ino(), any::<u64>(), slice_ref(), any::<u64>()).prop_map(|(ino, offset, slice, digest)| Merge {
            ino,
            offset,
            slice,
            digest
        }
        .into()),
        (ino(), option::of(id()), any::<u64>()).prop_map(|(ino, session, request)| BreakLocks {
            ino,
            session: session.map(SessionId),
            request
        }
        .into()),
    ]
}

pub(crate) fn query() -> impl Strategy<Value = Query> {
    let entry = prop_oneof![Just(LookupName::Dot), Just(LookupName::DotDot), name().prop_map(LookupName::Name),];
    prop_oneof![
        (ino(), entry).prop_map(|(dir, name)| Lookup { dir, name }.into()),
        ino().prop_map(|ino| GetAttr { ino }.into()),
        ino().prop_map(|ino| ReadLink { ino }.into()),
        (ino(), any::<u64>(), 0..=1024u32, any::<bool>()).prop_map(|(ino, after, max, attrs)| ReadDir {
            ino,
            after: Cookie(after),
            max,
            attrs
        }
        .into()),
        (ino(), any::<[bool; 3]>()).prop_map(|(ino, [read, write, exec])| Open { ino, read, write, exec }.into()),
        (ino(), any::<[bool; 3]>()).prop_map(|(ino, [read, write, exec])| Access { ino, read, write, exec }.into()),
        (ino(), any::<u64>(), 0..=4 * 1024 * 1024u32)
            .prop_map(|(ino, offset, len)| ReadLayout { ino, offset, len }.into()),
        (ino(), any::<u64>(), select(vec![SeekFor::Data, SeekFor::Hole])).prop_map(|(ino, offset, what)| Seek {
            ino,
            offset,
            what
        }
        .into()),
        (ino(), xattr_name()).prop_map(|(ino, name)| GetXattr { ino, name }.into()),
        ino().prop_map(|ino| ListXattr { ino }.into()),
        Just(GetStatFs {}.into()),
        (ino(), file_lock()).prop_map(|(ino, lock)| {
            GetLock { ino, by: lock.by, start: lock.start, end: lock.end, exclusive: lock.exclusive }.into()
        }),
        (ino(), lock_owner(), any::<u64>()).prop_map(|(ino, by, ticket)| AwaitsLock { ino, by, ticket }.into()),
    ]
}
