use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::Cred;

use serde::{Deserialize, Serialize};

/// How much there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetStatFs {}

impl Step for GetStatFs {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let _ = (txn, cred);
        Err(crate::types::Errno::ENOSYS.into())
    }
}
