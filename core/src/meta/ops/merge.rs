use super::SliceRef;
use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::meta::{access, content};
use crate::types::{Cred, Errno, Ino, Version};
use serde::{Deserialize, Serialize};

/// Replaces the content of a range by a slice that holds the same bytes: what the background merging of small extents
/// ends in. Refused with EAGAIN when the file's content changed since `content`; changes no time and no size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merge {
    pub ino: Ino,
    pub content: Version,
    pub offset: u64,
    pub slice: SliceRef,
}

impl Step for Merge {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        access::must_be_root(cred)?;
        let mut inode = txn.file(self.ino)?;
        if inode.content != self.content {
            return Err(Errno::EAGAIN.into());
        }
        content::check_slice(txn, &self.slice)?;
        if content::end_of(self.offset, u64::from(self.slice.len))? > inode.size {
            return Err(Errno::EINVAL.into());
        }
        content::write_slice(txn, self.ino, &mut inode, self.offset, &self.slice)?;
        txn.put_inode(self.ino, inode)?;
        Ok(Answer::Done)
    }
}
