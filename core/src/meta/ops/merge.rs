use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Ino, Version};

use super::SliceRef;
use serde::{Deserialize, Serialize};

/// Replaces the content of a range by a slice that holds the same bytes: what the background merging of small extents
/// ends in. Refused with EAGAIN when the file's content changed since `content`; changes no time and no size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merge {
    pub ino: Ino,
    pub content: Version,
    pub offset: u64,
    pub slice: SliceRef,
}

impl Step for Merge {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let _ = (txn, cred);
        Err(crate::types::Errno::ENOSYS.into())
    }
}
