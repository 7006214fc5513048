use crate::meta::access;
use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Errno, Ino, Kind};
use serde::{Deserialize, Serialize};

/// Whether the caller may open the object so, and its attributes. An object without links can no longer be opened
/// (ESTALE, so that the kernel looks the name up again).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    pub ino: Ino,
    pub read: bool,
    pub write: bool,
    pub exec: bool,
}

impl Step for Open {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        if txn.inode(self.ino)?.nlink == 0 {
            return Err(Errno::ESTALE.into());
        }
        self.run_though_unlinked(txn, cred)
    }
}

impl Open {
    /// The same for an object that lost its last link so lately that whoever opens it may have found it before: with the
    /// name's lookup and the open in two steps, a file that is replaced again and again could else not be opened at all.
    pub fn run_though_unlinked<S: Store + ?Sized>(&self, txn: &Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let inode = txn.inode(self.ino)?;
        match inode.kind {
            Kind::Symlink => return Err(Errno::ELOOP.into()),
            Kind::Directory if self.write => return Err(Errno::EISDIR.into()),
            // A directory is searched; but of what is left only a regular file can be run.
            Kind::Directory | Kind::File => {}
            _ if self.exec => return Err(Errno::EACCES.into()),
            _ => {}
        }
        access::permits(&inode, cred, access::wanted(self.read, self.write, self.exec))?;
        Ok(Answer::attr_of(self.ino, &inode))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::ops::Access;
    use crate::meta::testing::{World, fails, user};

    #[test]
    fn opening_asks_for_what_the_mode_allows() {
        let mut world = World::new();
        let ino = world.file_of(&user(5), "f", 0o640);
        let open = |read, write, exec| Open { ino, read, write, exec };
        assert!(world.ask(&user(5), open(true, true, false)).is_ok());
        assert_eq!(world.ask(&user(6), open(true, false, false)), fails(Errno::EACCES));
        assert_eq!(world.ask(&Cred::ROOT, open(true, false, true)), fails(Errno::EACCES));
        let access = Access { ino, read: true, write: true, exec: false };
        assert_eq!(world.ask(&Cred::ROOT, access), Ok(Answer::Done));
        let dir = Open { ino: Ino::ROOT, read: true, write: true, exec: false };
        assert_eq!(world.ask(&Cred::ROOT, dir), fails(Errno::EISDIR));
        let gone = Open { ino: Ino(99), read: true, write: false, exec: false };
        assert_eq!(world.ask(&Cred::ROOT, gone), fails(Errno::ESTALE));
    }
}
