use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Ino, Name};

use serde::{Deserialize, Serialize};

/// Moves a name, replaces what stood at the new one, or exchanges the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rename {
    pub dir: Ino,
    pub name: Name,
    pub new_dir: Ino,
    pub new_name: Name,
    pub how: RenameHow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RenameHow {
    Replace,
    NoReplace,
    Exchange,
}

impl Step for Rename {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let _ = (txn, cred);
        Err(crate::types::Errno::ENOSYS.into())
    }
}
