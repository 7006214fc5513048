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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::testing::{World, fails, name, user};
    use crate::types::Cred;

    fn mv(from: (Ino, &str), to: (Ino, &str)) -> Rename {
        Rename { dir: from.0, name: name(from.1), new_dir: to.0, new_name: name(to.1), how: RenameHow::Replace }
    }

    const R: Ino = Ino::ROOT;

    #[test]
    fn kinds_must_fit_and_the_replaced_directory_be_empty() {
        let mut world = World::new();
        let root = &Cred::ROOT;
        let a = world.dir_of(root, R, "a", 0o755);
        world.dir_of(root, a, "in", 0o755);
        world.dir_of(root, R, "b", 0o755);
        let file = world.file("f");
        assert_eq!(world.run(root, mv((R, "f"), (R, "b"))), fails(Errno::EISDIR));
        assert_eq!(world.run(root, mv((R, "b"), (R, "f"))), fails(Errno::ENOTDIR));
        assert_eq!(world.run(root, mv((R, "b"), (R, "a"))), fails(Errno::ENOTEMPTY));
        assert_eq!(world.run(root, mv((R, "none"), (R, "a"))), fails(Errno::ENOENT));
        world.run(root, mv((R, "a"), (R, "b"))).unwrap();
        assert_eq!(world.find(R, "b").unwrap().ino, a);
        let other = world.file("g");
        world.run(root, mv((R, "f"), (R, "g"))).unwrap();
        assert_eq!(world.find(R, "g").unwrap().ino, file);
        assert_eq!(world.attr(other).nlink, 0);
    }

    #[test]
    fn a_directory_does_not_move_below_itself() {
        let mut world = World::new();
        let a = world.dir_of(&Cred::ROOT, R, "a", 0o755);
        let b = world.dir_of(&Cred::ROOT, a, "b", 0o755);
        assert_eq!(world.run(&Cred::ROOT, mv((R, "a"), (a, "x"))), fails(Errno::EINVAL));
        assert_eq!(world.run(&Cred::ROOT, mv((R, "a"), (b, "x"))), fails(Errno::EINVAL));
        let exchange = Rename { how: RenameHow::Exchange, ..mv((a, "b"), (R, "a")) };
        assert_eq!(world.run(&Cred::ROOT, exchange), fails(Errno::EINVAL));
    }

    #[test]
    fn a_directory_that_moves_takes_its_link_along() {
        let mut world = World::new();
        let a = world.dir_of(&Cred::ROOT, R, "a", 0o755);
        let b = world.dir_of(&Cred::ROOT, R, "b", 0o755);
        let c = world.dir_of(&Cred::ROOT, a, "c", 0o755);
        world.run(&Cred::ROOT, mv((a, "c"), (b, "d"))).unwrap();
        assert_eq!((world.attr(a).nlink, world.attr(b).nlink, world.inode(c).parent), (2, 3, b));
        assert_eq!((world.attr(a).mtime, world.attr(c).ctime), (world.now, world.now));
    }

    #[test]
    fn two_names_of_one_object_stay() {
        let mut world = World::new();
        let ino = world.file("f");
        world.run(&Cred::ROOT, super::super::Link { ino, dir: R, name: name("g") }).unwrap();
        world.run(&Cred::ROOT, mv((R, "f"), (R, "g"))).unwrap();
        assert_eq!(world.attr(ino).nlink, 2);
    }

    #[test]
    fn noreplace_and_exchange() {
        let mut world = World::new();
        let file = world.file("f");
        let dir = world.dir_of(&Cred::ROOT, R, "d", 0o755);
        let inner = world.dir_of(&Cred::ROOT, dir, "inner", 0o755);
        let how = |how, rename| Rename { how, ..rename };
        let taken = how(RenameHow::NoReplace, mv((R, "f"), (R, "d")));
        assert_eq!(world.run(&Cred::ROOT, taken), fails(Errno::EEXIST));
        let missing = how(RenameHow::Exchange, mv((R, "f"), (R, "none")));
        assert_eq!(world.run(&Cred::ROOT, missing), fails(Errno::ENOENT));
        world.run(&Cred::ROOT, how(RenameHow::Exchange, mv((R, "f"), (dir, "inner")))).unwrap();
        assert_eq!(world.find(R, "f").unwrap().ino, inner);
        assert_eq!(world.find(dir, "inner").unwrap().ino, file);
        assert_eq!((world.attr(R).nlink, world.attr(dir).nlink, world.inode(inner).parent), (4, 2, R));
    }

    #[test]
    fn sticky_directories_and_the_moved_directorys_own_permission() {
        let mut world = World::new();
        let sticky = world.dir_of(&Cred::ROOT, R, "t", 0o1777);
        let mine = world.dir_of(&user(5), R, "mine", 0o777);
        let theirs = world.dir_of(&user(6), mine, "theirs", 0o755);
        world.dir_of(&user(6), sticky, "kept", 0o777);
        assert_eq!(world.run(&user(5), mv((sticky, "kept"), (mine, "x"))), fails(Errno::EPERM));
        assert_eq!(world.run(&user(5), mv((mine, "theirs"), (sticky, "kept"))), fails(Errno::EPERM));
        assert_eq!(world.run(&user(5), mv((mine, "theirs"), (R, "x"))), fails(Errno::EACCES));
        world.run(&user(5), mv((mine, "theirs"), (mine, "renamed"))).unwrap();
        assert_eq!(world.find(mine, "renamed").unwrap().ino, theirs);
    }
}
