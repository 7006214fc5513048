//! # Who may do what
//!
//! The kernel checks nothing for us, so every rule of POSIX and Linux on permissions stands here or in the operation that it
//! belongs to. Where a rule turns on the caller's supplementary groups and these were not looked up, the answer is
//! [`Stop::NeedGroups`]; where it would be the same either way they are not asked for.

use super::value::{S_ISGID, S_ISVTX, S_IXGRP};
use super::{Inode, Run, Stop};
use crate::types::{Cred, Errno, Kind};

pub(super) const READ: u16 = 4;
pub(super) const WRITE: u16 = 2;
/// Execute a file, search a directory.
pub(super) const EXEC: u16 = 1;

/// The permissions asked for, as bits.
pub(super) fn wanted(read: bool, write: bool, exec: bool) -> u16 {
    let bit = |asked, bit| if asked { bit } else { 0 };
    bit(read, READ) | bit(write, WRITE) | bit(exec, EXEC)
}

/// EACCES unless the mode bits allow all that is wanted.
pub(super) fn permits(inode: &Inode, cred: &Cred, want: u16) -> Run<()> {
    if allowed(inode, cred, want)? { Ok(()) } else { Err(Errno::EACCES.into()) }
}

fn allowed(inode: &Inode, cred: &Cred, want: u16) -> Run<bool> {
    if cred.is_root() {
        // Root runs what someone could run.
        let runs_nothing = want & EXEC != 0 && inode.kind != Kind::Directory && inode.mode & 0o111 == 0;
        return Ok(!runs_nothing);
    }
    let grants = |shift: u16| (inode.mode >> shift) & want == want;
    if cred.uid == inode.uid {
        return Ok(grants(6));
    }
    if grants(3) == grants(0) {
        return Ok(grants(0));
    }
    Ok(if in_group(cred, inode.gid)? { grants(3) } else { grants(0) })
}

/// Whether the caller belongs to a group.
pub(super) fn in_group(cred: &Cred, gid: u32) -> Run<bool> {
    if cred.gid == gid {
        return Ok(true);
    }
    match &cred.groups {
        Some(groups) => Ok(groups.contains(&gid)),
        None => Err(Stop::NeedGroups),
    }
}

pub(super) fn owns(inode: &Inode, cred: &Cred) -> bool {
    cred.is_root() || cred.uid == inode.uid
}

pub(super) fn must_own(inode: &Inode, cred: &Cred) -> Run<()> {
    if owns(inode, cred) { Ok(()) } else { Err(Errno::EPERM.into()) }
}

pub(super) fn must_be_root(cred: &Cred) -> Run<()> {
    if cred.is_root() { Ok(()) } else { Err(Errno::EPERM.into()) }
}

/// Whether the caller may take `victim`'s name out of `dir`.
pub(super) fn may_remove(dir: &Inode, victim: &Inode, cred: &Cred) -> Run<()> {
    permits(dir, cred, WRITE | EXEC)?;
    let sticky = dir.mode & S_ISVTX != 0;
    if sticky && !owns(victim, cred) && cred.uid != dir.uid {
        return Err(Errno::EPERM.into());
    }
    Ok(())
}

/// The group and the mode that a new object gets in `dir`. In a setgid directory it belongs to the directory's group, and a
/// subdirectory passes that on; a program made there by a stranger to the group is not setgid.
pub(super) fn inherit(dir: &Inode, cred: &Cred, kind: Kind, mode: u16) -> Run<(u32, u16)> {
    if dir.mode & S_ISGID == 0 {
        return Ok((cred.gid, mode));
    }
    if kind == Kind::Directory {
        return Ok((dir.gid, mode | S_ISGID));
    }
    let program = S_ISGID | S_IXGRP;
    if mode & program == program && !cred.is_root() && !in_group(cred, dir.gid)? {
        return Ok((dir.gid, mode & !S_ISGID));
    }
    Ok((dir.gid, mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::testing::{World, user};

    fn inode(mode: u16) -> Inode {
        Inode { uid: 10, gid: 20, mode, kind: Kind::File, ..World::new().inode(crate::types::Ino::ROOT) }
    }

    fn cred(uid: u32, gid: u32, groups: Option<Vec<u32>>) -> Cred {
        Cred { uid, gid, groups }
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let file = inode(0o047);
        assert_eq!(permits(&file, &cred(10, 20, None), READ), Err(Errno::EACCES.into()));
        assert_eq!(permits(&file, &cred(11, 20, None), READ), Ok(()));
        assert_eq!(permits(&file, &cred(11, 20, None), WRITE), Err(Errno::EACCES.into()));
        assert_eq!(permits(&file, &cred(11, 21, Some(vec![20])), WRITE), Err(Errno::EACCES.into()));
        assert_eq!(permits(&file, &cred(11, 21, Some(vec![])), WRITE), Ok(()));
    }

    #[test]
    fn groups_are_asked_for_only_where_they_decide() {
        let stranger = cred(11, 21, None);
        assert_eq!(permits(&inode(0o640), &stranger, READ), Err(Stop::NeedGroups));
        assert_eq!(permits(&inode(0o644), &stranger, READ), Ok(()));
        assert_eq!(permits(&inode(0o600), &stranger, READ), Err(Errno::EACCES.into()));
    }

    #[test]
    fn root_does_everything_but_run_what_nobody_can() {
        assert_eq!(permits(&inode(0), &Cred::ROOT, READ | WRITE), Ok(()));
        assert_eq!(permits(&inode(0o666), &Cred::ROOT, EXEC), Err(Errno::EACCES.into()));
        assert_eq!(permits(&inode(0o001), &Cred::ROOT, EXEC), Ok(()));
    }

    #[test]
    fn a_sticky_directory_lets_owners_delete() {
        let dir = Inode { uid: 1, gid: 1, mode: 0o1777, kind: Kind::Directory, ..inode(0) };
        assert_eq!(may_remove(&dir, &inode(0), &user(10)), Ok(()));
        assert_eq!(may_remove(&dir, &inode(0), &user(1)), Ok(()));
        assert_eq!(may_remove(&dir, &inode(0), &Cred::ROOT), Ok(()));
        assert_eq!(may_remove(&dir, &inode(0), &user(12)), Err(Errno::EPERM.into()));
    }

    #[test]
    fn a_setgid_directory_passes_its_group_on() {
        let dir = Inode { gid: 7, mode: 0o2777, kind: Kind::Directory, ..inode(0) };
        assert_eq!(inherit(&dir, &user(10), Kind::Directory, 0o755), Ok((7, 0o2755)));
        assert_eq!(inherit(&dir, &user(10), Kind::File, 0o2755), Ok((7, 0o755)));
        assert_eq!(inherit(&dir, &cred(10, 10, None), Kind::File, 0o2755), Err(Stop::NeedGroups));
        assert_eq!(inherit(&dir, &cred(10, 7, None), Kind::File, 0o2755), Ok((7, 0o2755)));
        assert_eq!(inherit(&Inode { mode: 0o777, ..dir }, &user(10), Kind::File, 0o644), Ok((10, 0o644)));
    }
}
