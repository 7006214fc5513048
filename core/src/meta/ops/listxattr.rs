use crate::meta::txn::damaged;
use crate::meta::xattr;
use crate::meta::{Answer, Key, Run, Step, Store, Txn};
use crate::types::{Cred, Ino};
use bytes::{BufMut, BytesMut};
use serde::{Deserialize, Serialize};

/// The names of an object's extended attributes that the caller may see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListXattr {
    pub ino: Ino,
}

impl Step for ListXattr {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let inode = txn.inode(self.ino)?;
        let mut names = BytesMut::with_capacity(inode.xattr_names as usize);
        for (key, _) in xattr::all(txn, self.ino)? {
            let Key::Xattr(_, name) = key else { return Err(damaged()) };
            if xattr::visible(&name, cred) {
                names.put_slice(name.as_bytes());
                names.put_u8(0);
            }
        }
        Ok(Answer::XattrNames(names.freeze()))
    }
}
