use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Ino, Kind, Name};

use serde::{Deserialize, Serialize};

/// Makes a regular file, fifo, socket or device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mknod {
    pub dir: Ino,
    pub name: Name,
    pub kind: Kind,
    /// Permission bits, the caller's umask already applied.
    pub mode: u16,
    pub rdev: u32,
}

impl Step for Mknod {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let _ = (txn, cred);
        Err(crate::types::Errno::ENOSYS.into())
    }
}
