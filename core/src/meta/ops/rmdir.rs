use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Errno, Ino, Kind, Name};
use serde::{Deserialize, Serialize};

/// Removes an empty directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rmdir {
    pub dir: Ino,
    pub name: Name,
}

impl Step for Rmdir {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let (entry, victim) = txn.removable(self.dir, &self.name, cred)?;
        if entry.kind != Kind::Directory {
            return Err(Errno::ENOTDIR.into());
        }
        if victim.size != 0 {
            return Err(Errno::ENOTEMPTY.into());
        }
        txn.remove_name(self.dir, &self.name, &entry)?;
        txn.lose_link(entry.ino)?;
        Ok(Answer::Done)
    }
}
