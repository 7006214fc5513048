use crate::meta::{Answer, Inode, Run, Step, Store, Txn};
use crate::meta::{content, locks, privileges};
use crate::types::{Cred, Errno, Ino, Kind};
use serde::{Deserialize, Serialize};

/// Allocates a range, punches a hole into it or zeroes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallocate {
    pub ino: Ino,
    pub offset: u64,
    pub len: u64,
    pub how: FallocateHow,
    pub keep_size: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FallocateHow {
    Allocate,
    PunchHole,
    ZeroRange,
}

impl Step for Fallocate {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let mut inode = self.target(txn)?;
        locks::must_not_be_broken(txn, self.ino)?;
        if self.len == 0 {
            return Err(Errno::EINVAL.into());
        }
        let end = content::end_of(self.offset, self.len)?;
        match self.how {
            FallocateHow::PunchHole if !self.keep_size => return Err(Errno::EOPNOTSUPP.into()),
            FallocateHow::PunchHole => content::cut(txn, self.ino, &mut inode, self.offset, end)?,
            FallocateHow::Allocate => content::allocate(txn, self.ino, &mut inode, self.offset, end)?,
            FallocateHow::ZeroRange => content::zero(txn, self.ino, &mut inode, self.offset, end)?,
        }
        if !self.keep_size {
            inode.size = inode.size.max(end);
        }
        inode.modified(txn.now);
        privileges::withdraw(txn, self.ino, &mut inode, cred.is_root())?;
        let inode = txn.put_inode(self.ino, inode)?;
        Ok(Answer::attr_of(self.ino, &inode))
    }
}

impl Fallocate {
    fn target<S: Store + ?Sized>(&self, txn: &Txn<'_, S>) -> Run<Inode> {
        let inode = txn.inode(self.ino)?;
        match inode.kind {
            Kind::File => Ok(inode),
            Kind::Directory => Err(Errno::EISDIR.into()),
            _ => Err(Errno::ENODEV.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::ops::{Seek, SeekFor};
    use crate::meta::testing::{World, attr, fails};

    #[test]
    fn allocating_punching_zeroing() {
        let mut world = World::new();
        let ino = world.file("f");
        world.write(ino, 100, &[1; 100]);
        let how = |how, offset, len, keep_size| Fallocate { ino, offset, len, how, keep_size };
        let after = attr(world.run(&Cred::ROOT, how(FallocateHow::Allocate, 0, 300, true)));
        assert_eq!((after.size, after.allocated), (200, 300));
        let bare = how(FallocateHow::PunchHole, 100, 50, false);
        assert_eq!(world.run(&Cred::ROOT, bare), fails(Errno::EOPNOTSUPP));
        let after = attr(world.run(&Cred::ROOT, how(FallocateHow::PunchHole, 100, 50, true)));
        assert_eq!((after.size, after.allocated), (200, 250));
        let after = attr(world.run(&Cred::ROOT, how(FallocateHow::ZeroRange, 190, 210, false)));
        assert_eq!((after.size, after.allocated), (400, 350));
        assert_eq!(world.run(&Cred::ROOT, how(FallocateHow::Allocate, 0, 0, true)), fails(Errno::EINVAL));
        let seek = |offset, what| Seek { ino, offset, what };
        assert_eq!(world.ask(&Cred::ROOT, seek(0, SeekFor::Data)), Ok(Answer::Offset(150)));
        assert_eq!(world.ask(&Cred::ROOT, seek(160, SeekFor::Hole)), Ok(Answer::Offset(190)));
        assert_eq!(world.ask(&Cred::ROOT, seek(190, SeekFor::Data)), fails(Errno::ENXIO));
        assert_eq!(world.ask(&Cred::ROOT, seek(400, SeekFor::Hole)), fails(Errno::ENXIO));
    }
}
