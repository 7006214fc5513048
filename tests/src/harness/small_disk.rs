//! A disk with little room.

use super::{folder, is_root};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use std::ffi::CString;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The guardian detaches it should the test not come to its end.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, with the reason printed, for who is not root.
    pub fn new(mib: u32) -> Option<SmallDisk> {
        if !is_root() {
            eprintln!("SKIPPED: only root can make a small disk");
            return None;
        }
        let at = folder("small-disk");
        mount("none", &at, "tmpfs", MountFlags::empty(), size(mib).as_c_str()).expect("a tmpfs");
        Some(SmallDisk(at))
    }

    pub fn resize(&self, mib: u32) {
        mount_remount(&self.0, MountFlags::empty(), size(mib).as_c_str()).expect("another size");
    }

    /// Fills it with something else, but for so much.
    pub fn fill_up_to(&self, free_mib: u64) {
        self.make_room();
        let file = File::create(self.ballast()).expect("a file");
        let (mut len, mut step) = (0, u64::MAX);
        // A node writes meanwhile, and may be faster.
        while step >= 4096 {
            let found = statvfs(&self.0).expect("a disk");
            let left = (found.f_bavail * found.f_frsize).saturating_sub(free_mib << 20);
            step = left.min(step);
            match fallocate(&file, FallocateFlags::empty(), len, step) {
                Ok(()) => len += step,
                Err(_) => step /= 2,
            }
        }
    }

    pub fn make_room(&self) {
        let _was_there = std::fs::remove_file(self.ballast());
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("something-else")
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
