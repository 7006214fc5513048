use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Ino};

use serde::{Deserialize, Serialize};

/// Where the bytes of a range are. At most LAYOUT_EXTENTS_MAX pieces: the layout may end before the range does, never
/// with a gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadLayout {
    pub ino: Ino,
    pub offset: u64,
    pub len: u32,
}

impl Step for ReadLayout {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let _ = (txn, cred);
        Err(crate::types::Errno::ENOSYS.into())
    }
}
