use crate::limits::LINK_MAX;
use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Errno, Ino, Kind, Name};
use serde::{Deserialize, Serialize};

/// Gives an object one more name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub ino: Ino,
    pub dir: Ino,
    pub name: Name,
}

impl Step for Link {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        txn.room_for(self.dir, &self.name, cred)?;
        let inode = txn.inode(self.ino)?;
        if inode.kind == Kind::Directory {
            return Err(Errno::EPERM.into());
        }
        match inode.nlink {
            // The last name went away meanwhile: an orphan does not come back.
            0 => return Err(Errno::ENOENT.into()),
            LINK_MAX.. => return Err(Errno::EMLINK.into()),
            _ => {}
        }
        let inode = txn.update(self.ino, |inode, now| {
            inode.nlink += 1;
            inode.changed(now);
        })?;
        txn.add_name(self.dir, &self.name, self.ino, inode.kind)?;
        Ok(Answer::attr_of(self.ino, &inode))
    }
}
