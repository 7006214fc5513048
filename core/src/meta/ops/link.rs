use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Ino, Name};

use serde::{Deserialize, Serialize};

/// Gives an object one more name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub ino: Ino,
    pub dir: Ino,
    pub name: Name,
}

impl Step for Link {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let _ = (txn, cred);
        Err(crate::types::Errno::ENOSYS.into())
    }
}
