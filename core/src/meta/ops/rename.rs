use crate::meta::access::{self, WRITE};
use crate::meta::txn::damaged;
use crate::meta::{Answer, Run, Step, Stop, Store, Txn};
use crate::meta::{Entry, Inode, namespace};
use crate::types::{Cred, Errno, Ino, Kind, Name};
use serde::{Deserialize, Serialize};

/// Moves a name, replaces what stood at the new one, or exchanges the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rename {
    pub dir: Ino,
    pub name: Name,
    pub new_dir: Ino,
    pub new_name: Name,
    pub how: RenameHow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RenameHow {
    Replace,
    NoReplace,
    Exchange,
}

impl Step for Rename {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let Some(plan) = self.plan(txn, cred)? else { return Ok(Answer::Done) };
        match (self.how, plan.target) {
            (RenameHow::Exchange, Some((target, _))) => self.exchange(txn, &plan.source, &target)?,
            (_, Some((target, _))) => {
                txn.remove_name(self.dir, &self.name, &plan.source)?;
                txn.retarget_name(self.new_dir, &self.new_name, &target, &plan.source)?;
                txn.lose_link(target.ino)?;
                self.arrive(txn, &plan.source, self.new_dir)?;
            }
            (_, None) => {
                txn.remove_name(self.dir, &self.name, &plan.source)?;
                txn.add_name(self.new_dir, &self.new_name, plan.source.ino, plan.source.kind)?;
                self.arrive(txn, &plan.source, self.new_dir)?;
            }
        }
        Ok(Answer::Done)
    }
}

/// What may be done, once every rule was looked at.
struct Plan {
    source: Entry,
    target: Option<(Entry, Inode)>,
}

impl Rename {
    /// Checks everything, in Linux's order. `None`: both names are the same object's, and nothing is to be done.
    fn plan<S: Store + ?Sized>(&self, txn: &Txn<'_, S>, cred: &Cred) -> Run<Option<Plan>> {
        let dir = txn.searched(self.dir, cred)?;
        let new_dir = txn.searched(self.new_dir, cred)?;
        let source = txn.entry(self.dir, &self.name)?.ok_or(Errno::ENOENT)?;
        let moved = txn.named(&source)?;
        let target = match txn.entry(self.new_dir, &self.new_name)? {
            Some(entry) => Some((entry, txn.named(&entry)?)),
            None => None,
        };
        match (self.how, &target) {
            (RenameHow::NoReplace, Some(_)) => return Err(Errno::EEXIST.into()),
            (RenameHow::Exchange, None) => return Err(Errno::ENOENT.into()),
            _ => {}
        }
        self.no_loop(txn, &source, target.as_ref().map(|(entry, _)| entry))?;
        if target.as_ref().is_some_and(|(entry, _)| entry.ino == source.ino) {
            return Ok(None);
        }
        access::may_remove(&dir, &moved, cred)?;
        self.may_arrive(&source, &new_dir, target.as_ref(), cred)?;
        self.may_hang_elsewhere(&moved, cred)?;
        match &target {
            Some((_, other)) if self.how == RenameHow::Exchange => self.may_hang_elsewhere(other, cred)?,
            Some((_, replaced)) if replaced.kind == Kind::Directory && replaced.size != 0 => {
                return Err(Errno::ENOTEMPTY.into());
            }
            _ => {}
        }
        self.links_suffice(&source, &dir, &new_dir, target.as_ref().map(|(entry, _)| entry))?;
        Ok(Some(Plan { source, target }))
    }

    /// The rules for the place where the name arrives.
    fn may_arrive(&self, source: &Entry, new_dir: &Inode, target: Option<&(Entry, Inode)>, cred: &Cred) -> Run<()> {
        let Some((entry, victim)) = target else { return namespace::may_add(new_dir, cred) };
        access::may_remove(new_dir, victim, cred)?;
        let is_dir = |kind| kind == Kind::Directory;
        match (is_dir(source.kind), is_dir(entry.kind)) {
            _ if self.how == RenameHow::Exchange => Ok(()),
            (true, false) => Err(Errno::ENOTDIR.into()),
            (false, true) => Err(Errno::EISDIR.into()),
            _ => Ok(()),
        }
    }

    /// A directory that goes below another one gets a new `..`: that is a write into it.
    fn may_hang_elsewhere(&self, moved: &Inode, cred: &Cred) -> Run<()> {
        if moved.kind == Kind::Directory && self.dir != self.new_dir {
            access::permits(moved, cred, WRITE)?;
        }
        Ok(())
    }

    /// A directory cannot move below itself.
    fn no_loop<S: Store + ?Sized>(&self, txn: &Txn<'_, S>, source: &Entry, target: Option<&Entry>) -> Run<()> {
        if self.dir == self.new_dir {
            return Ok(());
        }
        if source.kind == Kind::Directory && is_above(txn, source.ino, self.new_dir)? {
            return Err(Errno::EINVAL.into());
        }
        let Some(target) = target.filter(|target| target.kind == Kind::Directory) else { return Ok(()) };
        match (self.how, is_above(txn, target.ino, self.dir)?) {
            (_, false) => Ok(()),
            (RenameHow::Exchange, true) => Err(Errno::EINVAL.into()),
            (_, true) => Err(Errno::ENOTEMPTY.into()),
        }
    }

    fn links_suffice(&self, source: &Entry, dir: &Inode, new_dir: &Inode, target: Option<&Entry>) -> Run<()> {
        let target_is_dir = target.is_some_and(|entry| entry.kind == Kind::Directory);
        let source_is_dir = source.kind == Kind::Directory;
        if self.dir == self.new_dir || source_is_dir == target_is_dir {
            return Ok(());
        }
        match source_is_dir {
            true => namespace::room_for_subdirectory(new_dir),
            false if self.how == RenameHow::Exchange => namespace::room_for_subdirectory(dir),
            false => Ok(()),
        }
    }

    fn exchange<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, source: &Entry, target: &Entry) -> Run<()> {
        txn.retarget_name(self.new_dir, &self.new_name, target, source)?;
        txn.retarget_name(self.dir, &self.name, source, target)?;
        self.arrive(txn, source, self.new_dir)?;
        self.arrive(txn, target, self.dir)
    }

    /// The object has its new name.
    fn arrive<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, entry: &Entry, dir: Ino) -> Run<()> {
        txn.update(entry.ino, |inode, now| {
            if inode.kind == Kind::Directory {
                inode.parent = dir;
            }
            inode.changed(now);
        })?;
        Ok(())
    }
}

/// Whether `upper` is `lower` or hangs above it.
fn is_above<S: Store + ?Sized>(txn: &Txn<'_, S>, upper: Ino, lower: Ino) -> Run<bool> {
    let mut at = lower;
    // A path cannot be longer than there are inodes; a damaged one could run in a circle.
    for _ in 0..txn.volume()?.inodes {
        if at == upper {
            return Ok(true);
        }
        if at == Ino::ROOT {
            return Ok(false);
        }
        at = match txn.dir(at) {
            // An orphan's parent may be gone: nothing hangs below it.
            Err(Stop::Errno(Errno::ESTALE)) => return Ok(false),
            dir => dir?.parent,
        };
    }
    Err(damaged())
}
