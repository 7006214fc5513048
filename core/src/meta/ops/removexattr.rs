use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Ino, XattrName};

use serde::{Deserialize, Serialize};

/// Removes an extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveXattr {
    pub ino: Ino,
    pub name: XattrName,
}

impl Step for RemoveXattr {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let _ = (txn, cred);
        Err(crate::types::Errno::ENOSYS.into())
    }
}
