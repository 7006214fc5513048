use crate::meta::{Answer, Entry, Run, Step, Store, Txn};
use crate::meta::{access, content, locks, privileges};
use crate::types::{Cred, Errno, Ino, Kind, Name};
use serde::{Deserialize, Serialize};

/// Makes a regular file, or opens it when it is there and `exclusive` is not asked for. Answers its attributes; the file is
/// then open. With `truncate`, a file that was there is cut to nothing in the same step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create {
    pub dir: Ino,
    pub name: Name,
    /// Permission bits, the caller's umask already applied.
    pub mode: u16,
    pub exclusive: bool,
    pub truncate: bool,
    pub read: bool,
    pub write: bool,
}

impl Step for Create {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        txn.searched(self.dir, cred)?;
        match txn.entry(self.dir, &self.name)? {
            Some(entry) => self.open(txn, cred, entry),
            None => txn.make((self.dir, &self.name), cred, (Kind::File, self.mode), |_| {}),
        }
    }
}

impl Create {
    /// The name is there already. A link is not followed here: whoever lost the race against its making looks again.
    fn open<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred, entry: Entry) -> Run<Answer> {
        if self.exclusive {
            return Err(Errno::EEXIST.into());
        }
        match entry.kind {
            Kind::File => {}
            Kind::Directory => return Err(Errno::EISDIR.into()),
            Kind::Symlink => return Err(Errno::ELOOP.into()),
            Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => return Err(Errno::ENXIO.into()),
        }
        let mut inode = txn.named(&entry)?;
        access::permits(&inode, cred, access::wanted(self.read, self.write || self.truncate, false))?;
        if self.truncate {
            locks::must_not_be_broken(txn, entry.ino)?;
            content::truncate(txn, entry.ino, &mut inode, 0)?;
            inode.modified(txn.now);
            privileges::withdraw(txn, entry.ino, &mut inode, cred.is_root())?;
            inode = txn.put_inode(entry.ino, inode)?;
        }
        Ok(Answer::attr_of(entry.ino, &inode))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::ops::{Rmdir, Symlink};
    use crate::meta::testing::{World, attr, create, fails, name, user};

    #[test]
    fn what_is_there_is_opened_unless_it_must_be_new() {
        let mut world = World::new();
        let made = attr(world.run(&user(5), create("f")));
        assert_eq!((made.uid, made.nlink, made.size, made.mtime), (5, 1, 0, world.now));
        assert_eq!(attr(world.run(&user(5), create("f"))), made);
        let exclusive = Create { exclusive: true, ..create("f") };
        assert_eq!(world.run(&user(5), exclusive), fails(Errno::EEXIST));
        assert_eq!(world.run(&user(6), create("f")), fails(Errno::EACCES));
        world.write(made.ino, 0, b"abc");
        let cut = attr(world.run(&user(5), Create { truncate: true, ..create("f") }));
        assert_eq!((cut.size, cut.allocated, cut.mtime), (0, 0, world.now));
        world.dir_of(&Cred::ROOT, Ino::ROOT, "d", 0o755);
        assert_eq!(world.run(&user(5), create("d")), fails(Errno::EISDIR));
        let link = Symlink { dir: Ino::ROOT, name: name("l"), target: b"f"[..].into() };
        world.run(&user(5), link).unwrap();
        assert_eq!(world.run(&user(5), create("l")), fails(Errno::ELOOP));
    }

    #[test]
    fn a_removed_directory_takes_no_names() {
        let mut world = World::new();
        let dir = world.dir_of(&Cred::ROOT, Ino::ROOT, "d", 0o777);
        world.run(&Cred::ROOT, Rmdir { dir: Ino::ROOT, name: name("d") }).unwrap();
        assert_eq!(world.run(&Cred::ROOT, Create { dir, ..create("f") }), fails(Errno::ENOENT));
    }

    #[test]
    fn a_directory_is_searched_before_it_is_written() {
        let mut world = World::new();
        let dir = world.dir_of(&Cred::ROOT, Ino::ROOT, "d", 0o755);
        world.run(&Cred::ROOT, Create { dir, ..create("f") }).unwrap();
        assert_eq!(world.run(&user(5), Create { dir, exclusive: true, ..create("f") }), fails(Errno::EEXIST));
        assert_eq!(world.run(&user(5), Create { dir, ..create("g") }), fails(Errno::EACCES));
    }
}
