use super::{Ino, Stamp, Version};
use serde::{Deserialize, Serialize};

/// What kind of object an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

/// What `stat` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attr {
    pub ino: Ino,
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky: the low twelve.
    pub mode: u16,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u32,
    pub size: u64,
    /// Bytes that take room: `st_blocks` times 512.
    pub allocated: u64,
    pub atime: Stamp,
    pub mtime: Stamp,
    pub ctime: Stamp,
    pub btime: Stamp,
    /// Counts every change of the object.
    pub version: Version,
    /// Counts changes of its content alone: cached data is good while this stands.
    pub content: Version,
}
