use crate::meta::{Answer, Run, StatFs, Step, Store, Txn};
use crate::types::Cred;
use serde::{Deserialize, Serialize};

/// How much there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetStatFs {}

impl Step for GetStatFs {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, _cred: &Cred) -> Run<Answer> {
        let volume = txn.volume()?;
        Ok(Answer::StatFs(StatFs { inodes: volume.inodes, allocated: volume.allocated, ..StatFs::default() }))
    }
}
