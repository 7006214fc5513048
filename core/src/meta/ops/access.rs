use crate::meta::access;
use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Ino};

use serde::{Deserialize, Serialize};

/// Whether the caller may read, write or search/execute an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    pub ino: Ino,
    pub read: bool,
    pub write: bool,
    pub exec: bool,
}

impl Step for Access {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let inode = txn.inode(self.ino)?;
        access::permits(&inode, cred, access::wanted(self.read, self.write, self.exec))?;
        Ok(Answer::Done)
    }
}
