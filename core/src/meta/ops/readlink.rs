use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Errno, Ino, Kind};
use serde::{Deserialize, Serialize};

/// Where a symbolic link points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadLink {
    pub ino: Ino,
}

impl Step for ReadLink {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, _cred: &Cred) -> Run<Answer> {
        let inode = txn.inode(self.ino)?;
        if inode.kind != Kind::Symlink {
            return Err(Errno::EINVAL.into());
        }
        Ok(Answer::Target(inode.target))
    }
}
