use crate::meta::xattr;
use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Errno, Ino, XattrName};
use serde::{Deserialize, Serialize};

/// Removes an extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveXattr {
    pub ino: Ino,
    pub name: XattrName,
}

impl Step for RemoveXattr {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let mut inode = txn.inode(self.ino)?;
        xattr::may_remove(&inode, &self.name, cred)?;
        xattr::get(txn, self.ino, &self.name)?.ok_or(Errno::ENODATA)?;
        xattr::remove(txn, self.ino, &mut inode, &self.name)?;
        inode.changed(txn.now);
        txn.put_inode(self.ino, inode)?;
        Ok(Answer::Done)
    }
}
