use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Ino, Name};

use serde::{Deserialize, Serialize};

/// Makes a regular file, or opens it when it is there and `exclusive` is not asked for. Answers its attributes; the file is
/// then open. With `truncate`, a file that was there is cut to nothing in the same step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create {
    pub dir: Ino,
    pub name: Name,
    /// Permission bits, the caller's umask already applied.
    pub mode: u16,
    pub exclusive: bool,
    pub truncate: bool,
    pub read: bool,
    pub write: bool,
}

impl Step for Create {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let _ = (txn, cred);
        Err(crate::types::Errno::ENOSYS.into())
    }
}
