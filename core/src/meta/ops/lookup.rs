use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Ino, Name};

use serde::{Deserialize, Serialize};

/// Finds a name in a directory. `.` and `..` come as their own variants of [`LookupName`], because the kernel may ask for
/// them (over NFS, or after its cache was dropped).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    pub dir: Ino,
    pub name: LookupName,
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LookupName {
    Dot,
    DotDot,
    Name(Name),
}

impl Step for Lookup {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let _ = (txn, cred);
        Err(crate::types::Errno::ENOSYS.into())
    }
}
