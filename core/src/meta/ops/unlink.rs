use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Ino, Name};

use serde::{Deserialize, Serialize};

/// Takes a name away. The object that loses its last one becomes an orphan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlink {
    pub dir: Ino,
    pub name: Name,
}

impl Step for Unlink {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let _ = (txn, cred);
        Err(crate::types::Errno::ENOSYS.into())
    }
}
