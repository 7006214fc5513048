use crate::limits::SYMLINK_MAX;
use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Errno, Ino, Kind, Name};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Makes a symbolic link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symlink {
    pub dir: Ino,
    pub name: Name,
    pub target: Bytes,
}

impl Step for Symlink {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        match self.target.len() {
            0 => return Err(Errno::ENOENT.into()),
            len if len > SYMLINK_MAX => return Err(Errno::ENAMETOOLONG.into()),
            _ if self.target.contains(&0) => return Err(Errno::EINVAL.into()),
            _ => {}
        }
        txn.make((self.dir, &self.name), cred, (Kind::Symlink, 0o777), |inode| {
            inode.size = self.target.len() as u64;
            inode.target = self.target.clone();
        })
    }
}
