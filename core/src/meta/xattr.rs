//! # Who may see and change extended attributes
//!
//! `user.` attributes follow the file's permissions and exist on regular files and directories alone; `trusted.` ones are
//! root's and nobody else sees that they exist; `security.` ones everyone may read and root may change. `system.` (ACLs) does
//! not exist here.

use super::access::{self, READ, WRITE};
use super::value::S_ISVTX;
use super::{Inode, Key, Run, Store, Txn, Value, privileges, txn};
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

/// As for writing, but for capabilities. The kernel refuses who would remove them without the right to; what comes all the same
/// is its own wish, in the name of whoever is about to truncate the file or the like. It may be that he may not, and the
/// operation that follows takes them away by itself; to this answer the kernel goes on with that.
pub(super) fn may_remove(inode: &Inode, name: &XattrName, cred: &Cred) -> Run<()> {
    if privileges::is_capability(name) && !cred.is_root() {
        return Err(Errno::EOPNOTSUPP.into());
    }
    may_write(inode, name, cred)
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

/// Takes away one that is there. The inode is the caller's to store.
pub(super) fn remove<S: Store + ?Sized>(
    txn: &mut Txn<'_, S>,
    ino: Ino,
    inode: &mut Inode,
    name: &XattrName,
) -> Run<()> {
    inode.xattr_names = inode.xattr_names.checked_sub(listed_len(name)).ok_or_else(txn::damaged)?;
    txn.delete(Key::Xattr(ino, name.clone()));
    Ok(())
}

pub(super) fn get<S: Store + ?Sized>(txn: &Txn<'_, S>, ino: Ino, name: &XattrName) -> Run<Option<Bytes>> {
    match txn.get(&Key::Xattr(ino, name.clone()))? {
        Some(Value::Xattr(value)) => Ok(Some(value)),
        Some(_) => Err(txn::damaged()),
        None => Ok(None),
    }
}
