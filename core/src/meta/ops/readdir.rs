use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cookie, Cred, Ino};

use serde::{Deserialize, Serialize};

/// A directory's entries after a cookie (0: from the start), in the order of their cookies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadDir {
    pub ino: Ino,
    pub after: Cookie,
    pub max: u32,
    pub attrs: bool,
}

impl Step for ReadDir {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let _ = (txn, cred);
        Err(crate::types::Errno::ENOSYS.into())
    }
}
