use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Ino};

use serde::{Deserialize, Serialize};

/// Whether the caller may open the object so, and its attributes. An object without links can no longer be opened
/// (ESTALE, so that the kernel looks the name up again).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    pub ino: Ino,
    pub read: bool,
    pub write: bool,
    pub exec: bool,
}

impl Step for Open {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let _ = (txn, cred);
        Err(crate::types::Errno::ENOSYS.into())
    }
}
