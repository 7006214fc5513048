use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Ino};

use serde::{Deserialize, Serialize};

/// What `stat` shows. Works for an object without links that somebody has open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetAttr {
    pub ino: Ino,
}

impl Step for GetAttr {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, _cred: &Cred) -> Run<Answer> {
        Ok(Answer::attr_of(self.ino, &txn.inode(self.ino)?))
    }
}
