use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Ino, NodeId, SliceId};
use bytes::Bytes;

use serde::{Deserialize, Serialize};

/// Writes at an offset or at the end of the file, whatever the end is at that moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    pub ino: Ino,
    pub at: WriteAt,
    pub data: WriteData,
    /// The writer may not keep setuid and setgid bits alive.
    pub kill_suid: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteAt {
    Offset(u64),
    End,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteData {
    Inline(Bytes),
    Slice(SliceRef),
}

/// A slice that its nodes have on disk, and how long it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceRef {
    pub id: SliceId,
    pub len: u32,
    pub nodes: Vec<NodeId>,
}

impl Step for Write {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let _ = (txn, cred);
        Err(crate::types::Errno::ENOSYS.into())
    }
}
