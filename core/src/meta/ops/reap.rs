use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Ino};

use serde::{Deserialize, Serialize};

/// Frees an orphan that no session has open. The cluster's own command: only root may say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reap {
    pub ino: Ino,
}

impl Step for Reap {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let _ = (txn, cred);
        Err(crate::types::Errno::ENOSYS.into())
    }
}
