use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Ino};

use serde::{Deserialize, Serialize};

/// Allocates a range, punches a hole into it or zeroes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallocate {
    pub ino: Ino,
    pub offset: u64,
    pub len: u64,
    pub how: FallocateHow,
    pub keep_size: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FallocateHow {
    Allocate,
    PunchHole,
    ZeroRange,
}

impl Step for Fallocate {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let _ = (txn, cred);
        Err(crate::types::Errno::ENOSYS.into())
    }
}
