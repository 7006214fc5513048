use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Ino, Name};
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
        let _ = (txn, cred);
        Err(crate::types::Errno::ENOSYS.into())
    }
}
