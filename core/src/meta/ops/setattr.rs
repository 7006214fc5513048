use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Ino, Stamp};

use serde::{Deserialize, Serialize};

/// `chmod`, `chown`, `truncate`, `utimens`: any of them at once, all or none, with POSIX's rules for who may, for the
/// setuid and setgid bits and for ctime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAttr {
    pub ino: Ino,
    pub mode: Option<u16>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
    /// The caller has the file open for writing: a truncate then needs no permission of its own.
    pub opened: bool,
}

/// A time to set: the moment of the command, or a given one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetTime {
    Now,
    At(Stamp),
}

impl Step for SetAttr {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let _ = (txn, cred);
        Err(crate::types::Errno::ENOSYS.into())
    }
}
