//! # What a file loses when somebody changes it
//!
//! setuid and setgid bits and the `security.capability` attribute let a program do what its caller may not. Whoever changes
//! the program or gives it to another owner would hand these rights on, so every operation that does goes through here, in the
//! same step: a kernel that sends a removal of its own sends it in the name of the writer, and before it is known whether he
//! may write.

use super::value::{S_ISGID, S_ISUID, S_IXGRP};
use super::{Inode, Run, Store, Txn, xattr};
use crate::types::{Errno, Ino, XattrName};

const CAPABILITY: &[u8] = b"security.capability";

/// Whether this is the attribute that gives a program capabilities.
pub(super) fn is_capability(name: &XattrName) -> bool {
    name.as_bytes() == CAPABILITY
}

/// The caller stores the inode. The bits stay where root writes (`keeps_bits`), the capabilities never do: both as in Linux.
pub(super) fn withdraw<S: Store + ?Sized>(
    txn: &mut Txn<'_, S>,
    ino: Ino,
    inode: &mut Inode,
    keeps_bits: bool,
) -> Run<()> {
    if !keeps_bits {
        clear_bits(inode);
    }
    withdraw_capability(txn, ino, inode)
}

/// Setgid without group-execute is kept: it once meant mandatory locking, and Linux leaves it.
fn clear_bits(inode: &mut Inode) {
    inode.mode &= !S_ISUID;
    if inode.mode & S_IXGRP != 0 {
        inode.mode &= !S_ISGID;
    }
}

/// Of most files the inode tells that there is none, so that a write reads no key for it.
fn withdraw_capability<S: Store + ?Sized>(txn: &mut Txn<'_, S>, ino: Ino, inode: &mut Inode) -> Run<()> {
    if (inode.xattr_names as usize) <= CAPABILITY.len() {
        return Ok(());
    }
    let name = XattrName::new(CAPABILITY).map_err(Errno::from)?;
    if xattr::get(txn, ino, &name)?.is_some() {
        xattr::remove(txn, ino, inode, &name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::INLINE_WRITE_MAX;
    use crate::meta::ops::*;
    use crate::meta::testing::{SET_NOTHING, World, create, fails, name, slice, user};
    use crate::meta::{Answer, Fault, Key, Memory, Op, Step, Value};
    use crate::types::Cred;
    use bytes::Bytes;
    use std::cell::RefCell;

    fn capability() -> XattrName {
        XattrName::new(CAPABILITY).unwrap()
    }

    fn set(ino: Ino, name: XattrName) -> SetXattr {
        SetXattr { ino, name, value: Bytes::from_static(b"rights"), how: XattrHow::Either }
    }

    /// A file of root's that everybody may write to, with both bits and capabilities.
    fn program(world: &mut World) -> Ino {
        let ino = world.file_of(&Cred::ROOT, "program", 0o6777);
        world.write(ino, 0, &[1; 100]);
        world.run(&Cred::ROOT, set(ino, capability())).unwrap();
        ino
    }

    fn write(ino: Ino, data: WriteData) -> Write {
        Write { ino, at: WriteAt::Offset(0), data, kill_suid: false }
    }

    /// Everything that changes what a file holds, or whose it is.
    fn changes(ino: Ino, other: Ino) -> Vec<Op> {
        let bytes = |len| WriteData::Inline(Bytes::from(vec![2; len]));
        let allocate = |how| Fallocate { ino, offset: 0, len: 50, how, keep_size: true };
        vec![
            write(ino, bytes(1)).into(),
            write(ino, bytes(INLINE_WRITE_MAX)).into(),
            write(ino, WriteData::Slice(slice(1, 10))).into(),
            SetAttr { ino, size: Some(10), ..SET_NOTHING }.into(),
            SetAttr { ino, size: Some(100), ..SET_NOTHING }.into(),
            SetAttr { ino, uid: Some(0), gid: Some(0), ..SET_NOTHING }.into(),
            Create { truncate: true, ..create("program") }.into(),
            allocate(FallocateHow::Allocate).into(),
            allocate(FallocateHow::PunchHole).into(),
            allocate(FallocateHow::ZeroRange).into(),
            CopyRange { from: other, from_offset: 0, to: ino, to_offset: 0, len: 10 }.into(),
        ]
    }

    #[test]
    fn whatever_changes_a_file_or_its_owner_takes_its_capabilities_from_root_too() {
        for number in 0..changes(Ino::ROOT, Ino::ROOT).len() {
            let mut world = World::new();
            let (ino, other) = (program(&mut world), world.file("other"));
            world.write(other, 0, &[3; 10]);
            world.run(&Cred::ROOT, set(ino, XattrName::new(b"user.kept").unwrap())).unwrap();
            let change = changes(ino, other).swap_remove(number);
            world.run(&Cred::ROOT, change.clone()).unwrap();
            let left = world.ask(&Cred::ROOT, ListXattr { ino });
            assert_eq!(left, Ok(Answer::XattrNames(Bytes::from_static(b"user.kept\0"))), "{change:?}");
        }
    }

    #[test]
    fn who_may_write_takes_bits_and_capabilities_away_and_who_may_not_takes_nothing() {
        let mut world = World::new();
        let ino = program(&mut world);
        let truncate = SetAttr { ino, size: Some(1), ..SET_NOTHING };
        world.run(&Cred::ROOT, SetAttr { ino, mode: Some(0o6775), ..SET_NOTHING }).unwrap();
        assert_eq!(world.run(&user(5), truncate.clone()), fails(Errno::EACCES));
        let get = GetXattr { ino, name: capability() };
        world.ask(&user(5), get.clone()).unwrap();
        world.run(&Cred::ROOT, SetAttr { ino, mode: Some(0o6777), ..SET_NOTHING }).unwrap();
        world.run(&user(5), truncate).unwrap();
        assert_eq!(world.ask(&user(5), get), fails(Errno::ENODATA));
        assert_eq!(world.attr(ino).mode, 0o777);
    }

    #[test]
    fn what_changes_neither_leaves_them() {
        let mut world = World::new();
        let ino = program(&mut world);
        let get = GetXattr { ino, name: capability() };
        world.run(&Cred::ROOT, SetAttr { ino, mode: Some(0o755), ..SET_NOTHING }).unwrap();
        world.run(&Cred::ROOT, write(ino, WriteData::Inline(Bytes::new()))).unwrap();
        world.run(&Cred::ROOT, Link { ino, dir: Ino::ROOT, name: name("too") }).unwrap();
        world.run(&Cred::ROOT, create("program")).unwrap();
        world.ask(&Cred::ROOT, get).unwrap();
        let dir = world.dir_of(&Cred::ROOT, Ino::ROOT, "d", 0o755);
        world.run(&Cred::ROOT, set(dir, capability())).unwrap();
        world.run(&Cred::ROOT, SetAttr { ino: dir, uid: Some(5), ..SET_NOTHING }).unwrap();
        world.ask(&Cred::ROOT, GetXattr { ino: dir, name: capability() }).unwrap();
    }

    /// The kernel refuses who asks for it himself, so what comes is its own, ahead of an operation that does it by itself: it
    /// takes this answer for "nothing to remove here" and goes on.
    #[test]
    fn the_kernels_own_removal_is_not_needed() {
        let mut world = World::new();
        let ino = program(&mut world);
        let remove = RemoveXattr { ino, name: capability() };
        assert_eq!(world.run(&user(5), remove.clone()), fails(Errno::EOPNOTSUPP));
        world.ask(&Cred::ROOT, GetXattr { ino, name: capability() }).unwrap();
        world.run(&Cred::ROOT, remove).unwrap();
        let other = XattrName::new(b"security.other").unwrap();
        world.run(&Cred::ROOT, set(ino, other.clone())).unwrap();
        assert_eq!(world.run(&user(5), RemoveXattr { ino, name: other }), fails(Errno::EPERM));
    }

    /// Remembers for which attributes it was asked.
    struct Asked<'a>(&'a Memory, RefCell<u32>);

    impl Store for Asked<'_> {
        fn get(&self, key: &Key) -> Result<Option<Value>, Fault> {
            *self.1.borrow_mut() += u32::from(matches!(key, Key::Xattr(..)));
            self.0.get(key)
        }

        fn range(&self, from: &Key, to: &Key, max: usize) -> Result<Vec<(Key, Value)>, Fault> {
            self.0.range(from, to, max)
        }
    }

    #[test]
    fn a_write_to_a_file_without_attributes_reads_none() {
        let mut world = World::new();
        let ino = world.file("f");
        world.run(&Cred::ROOT, set(ino, XattrName::new(b"user.short").unwrap())).unwrap();
        let asked = Asked(&world.store, RefCell::default());
        let mut txn = Txn::new(&asked, world.now);
        let op = Op::from(write(ino, WriteData::Inline(Bytes::from_static(b"abc"))));
        op.run(&mut txn, &Cred::ROOT).unwrap();
        assert_eq!(*asked.1.borrow(), 0);
    }
}
