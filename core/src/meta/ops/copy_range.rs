use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Ino};

use serde::{Deserialize, Serialize};

/// Copies a range between files, or within one, without moving a byte of what lies in slices: the extents are shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRange {
    pub from: Ino,
    pub from_offset: u64,
    pub to: Ino,
    pub to_offset: u64,
    pub len: u64,
}

impl Step for CopyRange {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let _ = (txn, cred);
        Err(crate::types::Errno::ENOSYS.into())
    }
}
