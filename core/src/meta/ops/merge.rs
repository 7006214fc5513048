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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::testing::{World, fails, slice, user};

    #[test]
    fn a_merge_holds_only_for_the_content_it_read() {
        let mut world = World::new();
        let ino = world.file("f");
        world.write(ino, 0, &[1; 100]);
        let before = world.attr(ino);
        let merge = Merge { ino, content: before.content, offset: 0, slice: slice(1, 100) };
        assert_eq!(world.run(&user(5), merge.clone()), fails(Errno::EPERM));
        let beyond = Merge { slice: slice(1, 101), ..merge.clone() };
        assert_eq!(world.run(&Cred::ROOT, beyond), fails(Errno::EINVAL));
        world.run(&Cred::ROOT, merge.clone()).unwrap();
        let after = world.attr(ino);
        assert_eq!((after.size, after.mtime, after.content), (100, before.mtime, before.content));
        world.write(ino, 0, b"x");
        assert_eq!(world.run(&Cred::ROOT, merge), fails(Errno::EAGAIN));
    }
}
