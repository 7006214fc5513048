use crate::meta::{Answer, Entry, Run, Step, Store, Txn};
use crate::meta::{access, content};
use crate::types::{Cred, Errno, Ino, Kind, Name};
use serde::{Deserialize, Serialize};

/// Makes a regular file, or opens it when it is there and `exclusive` is not asked for. Answers its attributes; the file is
/// then open. With `truncate`, a file that was there is cut to nothing in the same step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create {
    pub dir: Ino,
    pub name: Name,
    /// Permission bits, the caller's umask already applied.
    pub mode: u16,
    pub exclusive: bool,
    pub truncate: bool,
    pub read: bool,
    pub write: bool,
}

impl Step for Create {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        txn.searched(self.dir, cred)?;
        match txn.entry(self.dir, &self.name)? {
            Some(entry) => self.open(txn, cred, entry),
            None => txn.make((self.dir, &self.name), cred, (Kind::File, self.mode), |_| {}),
        }
    }
}

impl Create {
    /// The name is there already. A link is not followed here: whoever lost the race against its making looks again.
    fn open<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred, entry: Entry) -> Run<Answer> {
        if self.exclusive {
            return Err(Errno::EEXIST.into());
        }
        match entry.kind {
            Kind::File => {}
            Kind::Directory => return Err(Errno::EISDIR.into()),
            Kind::Symlink => return Err(Errno::ELOOP.into()),
            Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => return Err(Errno::ENXIO.into()),
        }
        let mut inode = txn.named(&entry)?;
        access::permits(&inode, cred, access::wanted(self.read, self.write || self.truncate, false))?;
        if self.truncate {
            content::truncate(txn, entry.ino, &mut inode, 0)?;
            inode.modified(txn.now);
            if !cred.is_root() {
                inode.drop_privileges();
            }
            inode = txn.put_inode(entry.ino, inode)?;
        }
        Ok(Answer::attr_of(entry.ino, &inode))
    }
}
