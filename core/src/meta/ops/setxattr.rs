use crate::limits::{XATTR_LIST_MAX, XATTR_VALUE_MAX};
use crate::meta::xattr;
use crate::meta::{Answer, Key, Run, Step, Store, Txn, Value};
use crate::types::{Cred, Errno, Ino, XattrName};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Sets an extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetXattr {
    pub ino: Ino,
    pub name: XattrName,
    pub value: Bytes,
    pub how: XattrHow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum XattrHow {
    Either,
    Create,
    Replace,
}

impl Step for SetXattr {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let mut inode = txn.inode(self.ino)?;
        xattr::may_write(&inode, &self.name, cred)?;
        if self.value.len() > XATTR_VALUE_MAX {
            return Err(Errno::E2BIG.into());
        }
        let exists = xattr::get(txn, self.ino, &self.name)?.is_some();
        match self.how {
            XattrHow::Create if exists => return Err(Errno::EEXIST.into()),
            XattrHow::Replace if !exists => return Err(Errno::ENODATA.into()),
            _ => {}
        }
        if !exists {
            inode.xattr_names += xattr::listed_len(&self.name);
        }
        if inode.xattr_names as usize > XATTR_LIST_MAX {
            return Err(Errno::ENOSPC.into());
        }
        inode.changed(txn.now);
        txn.put_inode(self.ino, inode)?;
        txn.put(Key::Xattr(self.ino, self.name.clone()), Value::Xattr(self.value.clone()));
        Ok(Answer::Done)
    }
}
