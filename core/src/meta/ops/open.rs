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
        let inode = txn.inode(self.ino)?;
        if inode.nlink == 0 {
            return Err(Errno::ESTALE.into());
        }
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
