use crate::limits::INLINE_WRITE_MAX;
use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::meta::{content, locks, privileges};
use crate::types::{Cred, Errno, Ino, NodeId, SliceId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Writes at an offset or at the end of the file, whatever the end is at that moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    pub ino: Ino,
    pub at: WriteAt,
    pub data: WriteData,
    /// The writer may not keep setuid and setgid bits alive.
    pub kill_suid: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteAt {
    Offset(u64),
    End,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteData {
    Inline(Bytes),
    Slice(SliceRef),
}

/// A slice that its nodes have on disk, and how long it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceRef {
    pub id: SliceId,
    pub len: u32,
    pub nodes: Vec<NodeId>,
}

impl Step for Write {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, _cred: &Cred) -> Run<Answer> {
        let mut inode = txn.file(self.ino)?;
        locks::must_not_be_broken(txn, self.ino)?;
        let len = self.data.len();
        let offset = match self.at {
            WriteAt::Offset(offset) => offset,
            WriteAt::End => inode.size,
        };
        if len == 0 {
            return Ok(Answer::Written { offset, attr: inode.attr(self.ino) });
        }
        let end = content::end_of(offset, len)?;
        match &self.data {
            WriteData::Inline(_) if len > INLINE_WRITE_MAX as u64 => return Err(Errno::EINVAL.into()),
            WriteData::Inline(bytes) => content::write_inline(txn, self.ino, &mut inode, offset, bytes)?,
            WriteData::Slice(slice) => {
                content::check_slice(txn, slice)?;
                content::write_slice(txn, self.ino, &mut inode, offset, slice)?;
            }
        }
        inode.size = inode.size.max(end);
        inode.modified(txn.now);
        privileges::withdraw(txn, self.ino, &mut inode, !self.kill_suid)?;
        let inode = txn.put_inode(self.ino, inode)?;
        Ok(Answer::Written { offset, attr: inode.attr(self.ino) })
    }
}

impl WriteData {
    fn len(&self) -> u64 {
        match self {
            WriteData::Inline(bytes) => bytes.len() as u64,
            WriteData::Slice(slice) => u64::from(slice.len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::testing::{World, attr, fails, slice};
    use crate::types::Version;

    fn write(ino: Ino, at: WriteAt, data: &'static [u8]) -> Write {
        Write { ino, at, data: WriteData::Inline(Bytes::from_static(data)), kill_suid: false }
    }

    #[test]
    fn an_append_goes_to_the_end_and_clears_what_it_must() {
        let mut world = World::new();
        let ino = world.file_of(&Cred::ROOT, "f", 0o6755);
        world.run(&Cred::ROOT, write(ino, WriteAt::Offset(5), b"abc")).unwrap();
        let answer = world.run(&Cred::ROOT, Write { kill_suid: true, ..write(ino, WriteAt::End, b"de") });
        let Ok(Answer::Written { offset: 8, attr }) = answer else { panic!("{answer:?}") };
        assert_eq!((attr.size, attr.allocated, attr.mode, attr.mtime), (10, 5, 0o755, world.now));
        assert_eq!(attr.content, Version(3));
    }

    #[test]
    fn nothing_written_changes_nothing() {
        let mut world = World::new();
        let ino = world.file("f");
        let before = world.attr(ino);
        assert_eq!(attr(world.run(&Cred::ROOT, write(ino, WriteAt::Offset(9), b""))), before);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut world = World::new();
        let ino = world.file("f");
        let far = WriteAt::Offset(i64::MAX as u64);
        assert_eq!(world.run(&Cred::ROOT, write(ino, far, b"a")), fails(Errno::EFBIG));
        assert_eq!(world.run(&Cred::ROOT, write(Ino::ROOT, WriteAt::End, b"a")), fails(Errno::EISDIR));
        let put = |slice| Write { data: WriteData::Slice(slice), ..write(ino, WriteAt::End, b"") };
        world.run(&Cred::ROOT, put(slice(1, 10))).unwrap();
        assert_eq!(world.run(&Cred::ROOT, put(slice(1, 11))), fails(Errno::EINVAL));
        let nowhere = SliceRef { nodes: Vec::new(), ..slice(2, 10) };
        assert_eq!(world.run(&Cred::ROOT, put(nowhere)), fails(Errno::EINVAL));
    }
}
