use crate::meta::locks::{self, FileLocks};
use crate::meta::txn::damaged;
use crate::meta::{Answer, Content, Key, Run, Step, Store, Txn, Value};
use crate::meta::{access, content, xattr};
use crate::types::{Cred, Errno, Ino};
use serde::{Deserialize, Serialize};

/// Frees an orphan that no session has open. The cluster's own command: only root may say it. A file of very
/// many extents is freed in several steps: the answer is `Copied` with the bytes freed while there is more to do, and `Done`
/// when the orphan is gone. ENOENT where there is no such orphan (any more).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reap {
    pub ino: Ino,
}

impl Step for Reap {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        access::must_be_root(cred)?;
        if txn.get(&Key::Orphan(self.ino))?.is_none() {
            return Err(Errno::ENOENT.into());
        }
        let mut inode = txn.inode(self.ino)?;
        let found = content::spans(txn, self.ino, 0, u64::MAX - 1, REAP_EXTENTS_MAX + 1)?;
        let more = found.len() > REAP_EXTENTS_MAX;
        let mut freed = 0;
        for span in found.into_iter().take(REAP_EXTENTS_MAX) {
            txn.delete(Key::Extent(self.ino, span.end));
            freed += span.len();
            if let Content::Slice { id, .. } = span.content {
                content::release(txn, id)?;
            }
        }
        inode.allocated = inode.allocated.checked_sub(freed).ok_or_else(damaged)?;
        txn.put_inode(self.ino, inode)?;
        if more {
            // Written again, so that whoever watches for changed orphans learns that the next step is due.
            txn.put(Key::Orphan(self.ino), Value::Orphan);
            return Ok(Answer::Copied(freed));
        }
        self.forget(txn)
    }
}

/// Extents freed by one command: as much as keeps it short.
const REAP_EXTENTS_MAX: usize = 4096;

impl Reap {
    /// All extents are gone: what is left of the object goes too.
    fn forget<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>) -> Run<Answer> {
        for (key, _) in xattr::all(txn, self.ino)? {
            txn.delete(key);
        }
        locks::store(txn, self.ino, FileLocks::default())?;
        let mut volume = txn.volume()?;
        volume.inodes = volume.inodes.checked_sub(1).ok_or_else(damaged)?;
        txn.put(Key::Volume, Value::Volume(volume));
        txn.delete(Key::Inode(self.ino));
        txn.delete(Key::Orphan(self.ino));
        Ok(Answer::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::ops::Unlink;
    use crate::meta::testing::{World, name};

    #[test]
    fn a_file_of_many_extents_goes_in_steps() {
        let mut world = World::new();
        let ino = world.file("f");
        for i in 0..(REAP_EXTENTS_MAX as u64 + 10) {
            world.write(ino, i * 8, b"abc");
        }
        world.run(&Cred::ROOT, Unlink { dir: Ino::ROOT, name: name("f") }).unwrap();
        let first = world.run(&Cred::ROOT, Reap { ino });
        assert_eq!(first, Ok(Answer::Copied(3 * REAP_EXTENTS_MAX as u64)));
        assert_eq!(world.attr(ino).allocated, 30);
        assert_eq!(world.run(&Cred::ROOT, Reap { ino }), Ok(Answer::Done));
        assert_eq!(world.store.0.len(), 2, "the volume and the root");
    }
}
