//! A disk that does not answer when somebody reads file data from it, for as long as a test wants: the `memfs` program.

use super::mount::Mountpoint;
use super::{Process, beside_the_test, eventually, folder};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub struct HangingDisk {
    // Taken away before the process that serves it.
    at: Mountpoint,
    hold: PathBuf,
    _process: Process,
}

/// While this lives, what a node stored as slices cannot be read back. It has to go before the node does: what waits for such a
/// disk cannot be killed.
pub struct Held<'d>(&'d HangingDisk);

impl HangingDisk {
    pub fn new() -> HangingDisk {
        let (at, hold) = (Mountpoint::new(), folder("hold").join("reads"));
        let mut command = Command::new(beside_the_test("memfs"));
        command.arg(&at.0).arg(&hold);
        let mut process = Process::start("memfs", command);
        eventually("memfs is mounted", Duration::from_secs(20), || {
            assert!(process.is_running(), "{}", process.said());
            at.is_mounted().then_some(())
        });
        HangingDisk { at, hold, _process: process }
    }

    pub fn path(&self) -> &Path {
        &self.at.0
    }

    pub fn hold(&self) -> Held<'_> {
        File::create(&self.hold).expect("a file that can be made");
        Held(self)
    }
}

impl Default for HangingDisk {
    fn default() -> HangingDisk {
        HangingDisk::new()
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0.hold).expect("the file that was made");
    }
}
