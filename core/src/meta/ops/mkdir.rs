use crate::meta::value::S_ISVTX;
use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Ino, Kind, Name};
use serde::{Deserialize, Serialize};

/// Makes a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mkdir {
    pub dir: Ino,
    pub name: Name,
    /// Permission bits, the caller's umask already applied.
    pub mode: u16,
}

impl Step for Mkdir {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let mode = self.mode & (0o777 | S_ISVTX);
        txn.make((self.dir, &self.name), cred, (Kind::Directory, mode), |_| {})
    }
}
