use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Errno, Ino, Kind, Name};
use serde::{Deserialize, Serialize};

/// Takes a name away. The object that loses its last one becomes an orphan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlink {
    pub dir: Ino,
    pub name: Name,
}

impl Step for Unlink {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let (entry, _) = txn.removable(self.dir, &self.name, cred)?;
        if entry.kind == Kind::Directory {
            return Err(Errno::EISDIR.into());
        }
        txn.remove_name(self.dir, &self.name, &entry)?;
        txn.lose_link(entry.ino)?;
        Ok(Answer::Done)
    }
}
