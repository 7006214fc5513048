//! # Names: how objects come into being, get names, lose them and become orphans
//!
//! The few moves that all operations on directories are made of. Each keeps an entry and its place in the listing together,
//! and the directory's size, times and link count true.

use super::access::{self, EXEC, WRITE};
use super::txn::damaged;
use super::value::MODE_BITS;
use super::{Entry, Inode, Key, Run, Store, Txn, Value};
use crate::limits::LINK_MAX;
use crate::types::{Cookie, Cred, Errno, Ino, Kind, Name, Version};
use bytes::Bytes;

impl<S: Store + ?Sized> Txn<'_, S> {
    /// The directory, if the caller may search it.
    pub(super) fn searched(&self, dir: Ino, cred: &Cred) -> Run<Inode> {
        let inode = self.dir(dir)?;
        access::permits(&inode, cred, EXEC)?;
        Ok(inode)
    }

    /// The directory, if the caller may make the name there and it does not exist. In Linux's order of errors: what cannot
    /// be searched, what is there already, what cannot be written.
    pub(super) fn room_for(&self, dir: Ino, name: &Name, cred: &Cred) -> Run<Inode> {
        let inode = self.searched(dir, cred)?;
        if self.entry(dir, name)?.is_some() {
            return Err(Errno::EEXIST.into());
        }
        may_add(&inode, cred)?;
        Ok(inode)
    }

    /// The entry under a name and its object, if the caller may remove the name.
    pub(super) fn removable(&self, dir: Ino, name: &Name, cred: &Cred) -> Run<(Entry, Inode)> {
        let inode = self.searched(dir, cred)?;
        let entry = self.entry(dir, name)?.ok_or(Errno::ENOENT)?;
        let victim = self.named(&entry)?;
        access::may_remove(&inode, &victim, cred)?;
        Ok((entry, victim))
    }

    /// Makes an object, not yet stored, that the caller will own.
    pub(super) fn new_object(&mut self, dir: (Ino, &Inode), cred: &Cred, kind: Kind, mode: u16) -> Run<(Ino, Inode)> {
        let (gid, mode) = access::inherit(dir.1, cred, kind, mode & MODE_BITS)?;
        let mut volume = self.volume()?;
        let ino = volume.next_ino;
        volume.next_ino = Ino(ino.0 + 1);
        volume.inodes += 1;
        self.put(Key::Volume, Value::Volume(volume));
        let is_dir = kind == Kind::Directory;
        let inode = Inode {
            kind,
            mode,
            uid: cred.uid,
            gid,
            nlink: if is_dir { 2 } else { 1 },
            rdev: 0,
            size: 0,
            allocated: 0,
            atime: self.now,
            mtime: self.now,
            ctime: self.now,
            btime: self.now,
            version: Version(0),
            content: Version(1),
            parent: if is_dir { dir.0 } else { Ino::ROOT },
            next_cookie: Cookie::FIRST,
            target: Bytes::new(),
            xattr_names: 0,
        };
        Ok((ino, inode))
    }

    /// Makes an object under a name that does not exist: what create, mknod, mkdir and symlink share.
    pub(super) fn make(
        &mut self,
        place: (Ino, &Name),
        cred: &Cred,
        (kind, mode): (Kind, u16),
        finish: impl FnOnce(&mut Inode),
    ) -> Run<super::Answer> {
        let dir = self.room_for(place.0, place.1, cred)?;
        if kind == Kind::Directory {
            room_for_subdirectory(&dir)?;
        }
        let (ino, mut inode) = self.new_object((place.0, &dir), cred, kind, mode)?;
        finish(&mut inode);
        let inode = self.put_inode(ino, inode)?;
        self.add_name(place.0, place.1, ino, kind)?;
        Ok(super::Answer::attr_of(ino, &inode))
    }

    /// Puts a new name into a directory, at the end of its listing.
    pub(super) fn add_name(&mut self, dir: Ino, name: &Name, ino: Ino, kind: Kind) -> Run<()> {
        let mut cookie = Cookie::FIRST;
        self.update(dir, |inode, now| {
            cookie = inode.next_cookie;
            inode.next_cookie = Cookie(cookie.0 + 1);
            inode.size += 1;
            if kind == Kind::Directory {
                inode.nlink += 1;
            }
            inode.modified(now);
        })?;
        self.put(Key::Listing(dir, cookie), Value::Listing(name.clone()));
        self.put(Key::Entry(dir, name.clone()), Value::Entry(Entry { ino, kind, cookie }));
        Ok(())
    }

    /// Takes a name out of a directory; the object is not touched.
    pub(super) fn remove_name(&mut self, dir: Ino, name: &Name, entry: &Entry) -> Run<()> {
        let inode = self.dir(dir)?;
        let fewer = u32::from(entry.kind == Kind::Directory);
        let size = inode.size.checked_sub(1).ok_or_else(damaged)?;
        let nlink = inode.nlink.checked_sub(fewer).ok_or_else(damaged)?;
        self.update(dir, |inode, now| {
            inode.size = size;
            inode.nlink = nlink;
            inode.modified(now);
        })?;
        self.delete(Key::Listing(dir, entry.cookie));
        self.delete(Key::Entry(dir, name.clone()));
        Ok(())
    }

    /// Lets a name stand for another object, at the same place of the listing: whoever lists the directory meanwhile sees
    /// the name exactly once.
    pub(super) fn retarget_name(&mut self, dir: Ino, name: &Name, old: &Entry, new: &Entry) -> Run<()> {
        let is_dir = |entry: &Entry| u32::from(entry.kind == Kind::Directory);
        let nlink = (self.dir(dir)?.nlink + is_dir(new)).checked_sub(is_dir(old)).ok_or_else(damaged)?;
        self.update(dir, |inode, now| {
            inode.nlink = nlink;
            inode.modified(now);
        })?;
        let entry = Entry { ino: new.ino, kind: new.kind, cookie: old.cookie };
        self.put(Key::Entry(dir, name.clone()), Value::Entry(entry));
        Ok(())
    }

    /// An object lost a name. With the last one it becomes an orphan, which lives until nobody has it open.
    pub(super) fn lose_link(&mut self, ino: Ino) -> Run<()> {
        let inode = self.inode(ino)?;
        let left = match inode.kind {
            Kind::Directory => 0,
            _ => inode.nlink.checked_sub(1).ok_or_else(damaged)?,
        };
        self.update(ino, |inode, now| {
            inode.nlink = left;
            inode.changed(now);
        })?;
        if left == 0 {
            self.put(Key::Orphan(ino), Value::Orphan);
        }
        Ok(())
    }
}

/// Whether the caller may put a name into the directory. One that was removed takes none.
pub(super) fn may_add(dir: &Inode, cred: &Cred) -> Run<()> {
    if dir.nlink == 0 {
        return Err(Errno::ENOENT.into());
    }
    access::permits(dir, cred, WRITE | EXEC)
}

/// A directory is linked from each of its subdirectories, and links are limited.
pub(super) fn room_for_subdirectory(dir: &Inode) -> Run<()> {
    if dir.nlink >= LINK_MAX { Err(Errno::EMLINK.into()) } else { Ok(()) }
}
