use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Errno, Ino, Name};
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
        let dir = txn.searched(self.dir, cred)?;
        let (ino, inode) = match &self.name {
            LookupName::Dot => (self.dir, dir),
            LookupName::DotDot => (dir.parent, txn.inode(dir.parent)?),
            LookupName::Name(name) => {
                let entry = txn.entry(self.dir, name)?.ok_or(Errno::ENOENT)?;
                (entry.ino, txn.named(&entry)?)
            }
        };
        Ok(Answer::attr_of(ino, &inode))
    }
}
