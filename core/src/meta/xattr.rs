//! # Who may see and change extended attributes
//!
//! `user.` attributes follow the file's permissions and exist on regular files and directories alone; `trusted.` ones are
//! root's and nobody else sees that they exist; `security.` ones everyone may read and root may change. `system.` (ACLs) does
//! not exist here.

use super::access::{self, READ, WRITE};
use super::value::S_ISVTX;
use super::{Inode, Key, Run, Store, Txn, Value, txn};
use crate::limits::XATTR_LIST_MAX;
use crate::types::{Cred, Errno, Ino, Kind, XattrName};
use bytes::Bytes;

pub(super) fn may_read(inode: &Inode, name: &XattrName, cred: &Cred) -> Run<()> {
    if name.is_in("system.") {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if name.is_in("trusted.") && !cred.is_root() {
        return Err(Errno::ENODATA.into());
    }
    if name.is_in("user.") {
        if !carries_user(inode) {
            return Err(Errno::ENODATA.into());
        }
        access::permits(inode, cred, READ)?;
    }
    Ok(())
}

pub(super) fn may_write(inode: &Inode, name: &XattrName, cred: &Cred) -> Run<()> {
    if name.is_in("system.") {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if !name.is_in("user.") {
        return access::must_be_root(cred);
    }
    if !carries_user(inode) {
        return Err(Errno::EPERM.into());
    }
    // Where everybody may put names, everybody could leave attributes too.
    if inode.kind == Kind::Directory && inode.mode & S_ISVTX != 0 {
        access::must_own(inode, cred)?;
    }
    access::permits(inode, cred, WRITE)
}

/// Whether a listing shows the name.
pub(super) fn visible(name: &XattrName, cred: &Cred) -> bool {
    cred.is_root() || !name.is_in("trusted.")
}

fn carries_user(inode: &Inode) -> bool {
    matches!(inode.kind, Kind::File | Kind::Directory)
}

/// What a name takes in a list: itself and its zero byte.
pub(super) fn listed_len(name: &XattrName) -> u32 {
    name.as_bytes().len() as u32 + 1
}

/// Every attribute of an object.
pub(super) fn all<S: Store + ?Sized>(txn: &Txn<'_, S>, ino: Ino) -> Run<Vec<(Key, Value)>> {
    // No name sorts before this one, so the next object's first key ends the range.
    let first = XattrName::new(b"security.\x01").map_err(Errno::from)?;
    txn.range(&Key::Xattr(ino, first.clone()), &Key::Xattr(Ino(ino.0 + 1), first), XATTR_LIST_MAX)
}

pub(super) fn get<S: Store + ?Sized>(txn: &Txn<'_, S>, ino: Ino, name: &XattrName) -> Run<Option<Bytes>> {
    match txn.get(&Key::Xattr(ino, name.clone()))? {
        Some(Value::Xattr(value)) => Ok(Some(value)),
        Some(_) => Err(txn::damaged()),
        None => Ok(None),
    }
}
