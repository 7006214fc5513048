use crate::meta::xattr;
use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Errno, Ino, XattrName};
use serde::{Deserialize, Serialize};

/// An extended attribute's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetXattr {
    pub ino: Ino,
    pub name: XattrName,
}

impl Step for GetXattr {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let inode = txn.inode(self.ino)?;
        xattr::may_read(&inode, &self.name, cred)?;
        let value = xattr::get(txn, self.ino, &self.name)?.ok_or(Errno::ENODATA)?;
        Ok(Answer::Xattr(value))
    }
}
