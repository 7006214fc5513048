use crate::limits::FILE_SIZE_MAX;
use crate::meta::access::{self, WRITE};
use crate::meta::value::{MODE_BITS, S_ISGID, S_ISUID};
use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::meta::{Inode, content, locks, privileges};
use crate::types::{Cred, Errno, Ino, Kind, Stamp};
use serde::{Deserialize, Serialize};

/// `chmod`, `chown`, `truncate`, `utimens`: any of them at once, all or none, with POSIX's rules for who may, for the
/// setuid and setgid bits and for ctime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAttr {
    pub ino: Ino,
    pub mode: Option<u16>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
    /// The caller has the file open for writing: a truncate then needs no permission of its own.
    pub opened: bool,
}

/// A time to set: the moment of the command, or a given one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetTime {
    Now,
    At(Stamp),
}

impl Step for SetAttr {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let mut inode = txn.inode(self.ino)?;
        let wish = self.without_kernel_mode(&inode);
        wish.check_mode(&inode, cred)?;
        wish.check_owner(&inode, cred)?;
        wish.check_times(&inode, cred)?;
        wish.check_size(&inode, cred)?;
        if wish.asks_nothing() {
            return Ok(Answer::attr_of(self.ino, &inode));
        }
        wish.change_owner(txn, &mut inode)?;
        wish.change_mode(&mut inode, cred)?;
        wish.change_size(txn, &mut inode, cred)?;
        wish.change_times(&mut inode, txn.now);
        inode.changed(txn.now);
        let inode = txn.put_inode(self.ino, inode)?;
        Ok(Answer::attr_of(self.ino, &inode))
    }
}

impl SetAttr {
    /// The kernel sends, with a truncate or chown, the mode without setuid and setgid as it would leave it. Clearing them is
    /// our own rule, not a `chmod` for which the caller would have to be the owner.
    fn without_kernel_mode(&self, inode: &Inode) -> SetAttr {
        let clears = |mode: u16| (mode & MODE_BITS) | (inode.mode & (S_ISUID | S_ISGID)) == inode.mode;
        let along = self.size.is_some() || self.uid.is_some() || self.gid.is_some();
        let mode = self.mode.filter(|mode| !(along && clears(*mode)));
        SetAttr { mode, ..self.clone() }
    }

    fn asks_nothing(&self) -> bool {
        let owner = self.uid.is_some() || self.gid.is_some();
        let times = self.atime.is_some() || self.mtime.is_some();
        !(owner || times || self.mode.is_some() || self.size.is_some())
    }

    fn check_mode(&self, inode: &Inode, cred: &Cred) -> Run<()> {
        if self.mode.is_some() { access::must_own(inode, cred) } else { Ok(()) }
    }

    /// An owner may "change" the owner to himself, and the group to one of his own.
    fn check_owner(&self, inode: &Inode, cred: &Cred) -> Run<()> {
        if cred.is_root() {
            return Ok(());
        }
        let uid_stays = self.uid.is_none_or(|uid| cred.uid == inode.uid && uid == inode.uid);
        let gid_fits = match self.gid {
            None => true,
            Some(_) if cred.uid != inode.uid => false,
            Some(gid) => gid == inode.gid || access::in_group(cred, gid)?,
        };
        if uid_stays && gid_fits { Ok(()) } else { Err(Errno::EPERM.into()) }
    }

    /// Given times are the owner's to set. "Now" for both also whoever may write may say; for one of them, as Linux has it,
    /// the owner again. With a truncate the times come along and need no permission of their own.
    fn check_times(&self, inode: &Inode, cred: &Cred) -> Run<()> {
        let given = |time: &Option<SetTime>| matches!(time, Some(SetTime::At(_)));
        if given(&self.atime) || given(&self.mtime) {
            return access::must_own(inode, cred);
        }
        if self.size.is_some() || access::owns(inode, cred) {
            return Ok(());
        }
        match (self.atime, self.mtime) {
            (None, None) => Ok(()),
            (Some(_), Some(_)) => access::permits(inode, cred, WRITE),
            _ => Err(Errno::EPERM.into()),
        }
    }

    fn check_size(&self, inode: &Inode, cred: &Cred) -> Run<()> {
        let Some(size) = self.size else { return Ok(()) };
        match inode.kind {
            Kind::File => {}
            Kind::Directory => return Err(Errno::EISDIR.into()),
            _ => return Err(Errno::EINVAL.into()),
        }
        if !self.opened {
            access::permits(inode, cred, WRITE)?;
        }
        if size > FILE_SIZE_MAX { Err(Errno::EFBIG.into()) } else { Ok(()) }
    }

    fn change_owner<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, inode: &mut Inode) -> Run<()> {
        if self.uid.is_none() && self.gid.is_none() {
            return Ok(());
        }
        inode.uid = self.uid.unwrap_or(inode.uid);
        inode.gid = self.gid.unwrap_or(inode.gid);
        if inode.kind == Kind::Directory { Ok(()) } else { privileges::withdraw(txn, self.ino, inode, false) }
    }

    /// A file does not become setgid for a group that its owner is not in.
    fn change_mode(&self, inode: &mut Inode, cred: &Cred) -> Run<()> {
        let Some(mode) = self.mode else { return Ok(()) };
        inode.mode = mode & MODE_BITS;
        if mode & S_ISGID != 0 && !cred.is_root() && !access::in_group(cred, inode.gid)? {
            inode.mode &= !S_ISGID;
        }
        Ok(())
    }

    fn change_size<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, inode: &mut Inode, cred: &Cred) -> Run<()> {
        let Some(size) = self.size else { return Ok(()) };
        locks::must_not_be_broken(txn, self.ino)?;
        content::truncate(txn, self.ino, inode, size)?;
        inode.modified(txn.now);
        privileges::withdraw(txn, self.ino, inode, cred.is_root())
    }

    fn change_times(&self, inode: &mut Inode, now: Stamp) {
        let stamp = |time: SetTime| match time {
            SetTime::Now => now,
            SetTime::At(stamp) => stamp,
        };
        inode.atime = self.atime.map_or(inode.atime, stamp);
        inode.mtime = self.mtime.map_or(inode.mtime, stamp);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::testing::{SET_NOTHING, World, attr, fails, user};
    use crate::meta::{Answer, Stop};

    fn chmod(ino: Ino, mode: u16) -> SetAttr {
        SetAttr { ino, mode: Some(mode), ..SET_NOTHING }
    }

    fn chown(ino: Ino, uid: Option<u32>, gid: Option<u32>) -> SetAttr {
        SetAttr { ino, uid, gid, ..SET_NOTHING }
    }

    fn resize(ino: Ino, size: u64) -> SetAttr {
        SetAttr { ino, size: Some(size), ..SET_NOTHING }
    }

    fn times(ino: Ino, atime: Option<SetTime>, mtime: Option<SetTime>) -> SetAttr {
        SetAttr { ino, atime, mtime, ..SET_NOTHING }
    }

    #[test]
    fn chmod_is_the_owners_and_setgid_the_groups() {
        let mut world = World::new();
        let file = world.file_of(&user(5), "f", 0o644);
        assert_eq!(world.run(&user(6), chmod(file, 0o600)), fails(Errno::EPERM));
        assert_eq!(attr(world.run(&user(5), chmod(file, 0o6755))).mode, 0o6755);
        world.run(&Cred::ROOT, chown(file, None, Some(9))).unwrap();
        assert_eq!(world.attr(file).mode, 0o755, "chown clears setuid and setgid");
        assert_eq!(attr(world.run(&user(5), chmod(file, 0o2755))).mode, 0o755);
        let unknown = Cred { groups: None, ..user(5) };
        assert_eq!(world.run(&unknown, chmod(file, 0o2755)), Err(Stop::NeedGroups));
        let member = Cred { groups: Some(vec![9]), ..user(5) };
        assert_eq!(attr(world.run(&member, chmod(file, 0o2755))).mode, 0o2755);
    }

    #[test]
    fn an_owner_gives_a_file_to_his_groups_only() {
        let mut world = World::new();
        let file = world.file_of(&user(5), "f", 0o644);
        let member = Cred { groups: Some(vec![8]), ..user(5) };
        assert_eq!(world.run(&member, chown(file, Some(6), None)), fails(Errno::EPERM));
        assert_eq!(world.run(&member, chown(file, None, Some(7))), fails(Errno::EPERM));
        assert_eq!(attr(world.run(&member, chown(file, Some(5), Some(8)))).gid, 8);
        assert_eq!(world.run(&user(6), chown(file, None, Some(6))), fails(Errno::EPERM));
    }

    #[test]
    fn a_change_of_nothing_changes_nothing() {
        let mut world = World::new();
        let file = world.file_of(&user(5), "f", 0o4755);
        let before = world.attr(file);
        assert_eq!(world.run(&user(6), chown(file, None, None)), Ok(Answer::Attr(before)));
    }

    #[test]
    fn times_of_ones_own_or_now_for_writers() {
        let mut world = World::new();
        let file = world.file_of(&user(5), "f", 0o646);
        let given = Some(SetTime::At(Stamp::new(-7, 3)));
        let now = Some(SetTime::Now);
        assert_eq!(world.run(&user(6), times(file, given, given)), fails(Errno::EPERM));
        assert_eq!(world.run(&user(6), times(file, now, None)), fails(Errno::EPERM));
        assert_eq!(attr(world.run(&user(6), times(file, now, now))).mtime, world.now);
        world.run(&user(5), chmod(file, 0o444)).unwrap();
        assert_eq!(world.run(&user(6), times(file, now, now)), fails(Errno::EACCES));
        let after = attr(world.run(&user(5), times(file, None, given)));
        assert_eq!((after.mtime, after.ctime), (Stamp::new(-7, 3), world.now));
    }

    #[test]
    fn truncating_needs_write_permission_or_an_open_file() {
        let mut world = World::new();
        let file = world.file_of(&user(5), "f", 0o4644);
        assert_eq!(world.run(&user(6), resize(file, 9)), fails(Errno::EACCES));
        assert_eq!(world.run(&user(5), resize(file, u64::MAX)), fails(Errno::EFBIG));
        assert_eq!(world.run(&user(5), resize(Ino::ROOT, 0)), fails(Errno::EISDIR));
        let after = attr(world.run(&user(6), SetAttr { opened: true, ..resize(file, 9) }));
        assert_eq!((after.size, after.mode, after.mtime), (9, 0o644, world.now));
        let again = attr(world.run(&user(5), resize(file, 9)));
        assert_eq!(again.mtime, world.now, "also to the same length");
    }

    #[test]
    fn the_mode_that_the_kernel_sends_along_needs_no_owner() {
        let mut world = World::new();
        let file = world.file_of(&user(5), "f", 0o4666);
        let along = SetAttr { mode: Some(0o666), ..resize(file, 1) };
        assert_eq!(attr(world.run(&user(6), along)).mode, 0o666);
        let more = SetAttr { mode: Some(0o777), ..resize(file, 1) };
        assert_eq!(world.run(&user(6), more), fails(Errno::EPERM));
    }
}
