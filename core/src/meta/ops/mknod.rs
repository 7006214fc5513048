use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Errno, Ino, Kind, Name};
use serde::{Deserialize, Serialize};

/// Makes a regular file, fifo, socket or device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mknod {
    pub dir: Ino,
    pub name: Name,
    pub kind: Kind,
    /// Permission bits, the caller's umask already applied.
    pub mode: u16,
    pub rdev: u32,
}

impl Step for Mknod {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        if matches!(self.kind, Kind::Directory | Kind::Symlink) {
            return Err(Errno::EINVAL.into());
        }
        let device = matches!(self.kind, Kind::CharDevice | Kind::BlockDevice);
        if device && !cred.is_root() {
            txn.room_for(self.dir, &self.name, cred)?;
            return Err(Errno::EPERM.into());
        }
        txn.make((self.dir, &self.name), cred, (self.kind, self.mode), |inode| {
            inode.rdev = if device { self.rdev } else { 0 };
        })
    }
}
