use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Ino, XattrName};
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
        let _ = (txn, cred);
        Err(crate::types::Errno::ENOSYS.into())
    }
}
