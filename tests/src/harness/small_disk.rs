//! A disk with little room.

use super::folder;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// The guardian detaches it should the test not come to its end.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Only root can.
    pub fn new(mib: u32) -> SmallDisk {
        let at = folder("small-disk");
        mount("none", &at, "tmpfs", MountFlags::empty(), size(mib).as_c_str()).expect("a tmpfs");
        SmallDisk(at)
    }

    pub fn resize(&self, mib: u32) {
        mount_remount(&self.0, MountFlags::empty(), size(mib).as_c_str()).expect("another size");
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

fn size(mib: u32) -> CString {
    CString::new(format!("size={mib}m")).expect("no zero byte")
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone = unmount(&self.0, UnmountFlags::DETACH);
    }
}
