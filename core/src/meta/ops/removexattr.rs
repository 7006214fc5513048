use crate::meta::txn::damaged;
use crate::meta::xattr;
use crate::meta::{Answer, Key, Run, Step, Store, Txn};
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
        xattr::may_write(&inode, &self.name, cred)?;
        xattr::get(txn, self.ino, &self.name)?.ok_or(Errno::ENODATA)?;
        let left = inode.xattr_names.checked_sub(xattr::listed_len(&self.name));
        inode.xattr_names = left.ok_or_else(damaged)?;
        inode.changed(txn.now);
        txn.put_inode(self.ino, inode)?;
        txn.delete(Key::Xattr(self.ino, self.name.clone()));
        Ok(Answer::Done)
    }
}
