//! The in-memory file system beside the others: the `memfs` program, started and taken away.

use std::io;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

pub(crate) struct Memfs {
    mountpoint: tempfile::TempDir,
    process: Child,
}

impl Memfs {
    /// Starts the program that lies beside this one, and waits until it is mounted.
    pub(crate) fn start() -> io::Result<Memfs> {
        let program = std::env::current_exe()?.with_file_name("memfs");
        let mountpoint = tempfile::tempdir()?;
        let before = device(mountpoint.path())?;
        let process = Command::new(&program).arg(mountpoint.path()).spawn();
        let process = process.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", program.display())))?;
        let mut memfs = Memfs { mountpoint, process };
        let start = Instant::now();
        while device(memfs.dir())? == before {
            if memfs.process.try_wait()?.is_some() || start.elapsed() > Duration::from_secs(10) {
                return Err(io::Error::other("memfs did not mount"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(memfs)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.mountpoint.path()
    }
}

fn device(path: &Path) -> io::Result<u64> {
    Ok(std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(path)?))
}

impl Drop for Memfs {
    fn drop(&mut self) {
        let unmounted = rustix::mount::unmount(self.dir(), rustix::mount::UnmountFlags::DETACH).is_ok()
            || Command::new("fusermount3").arg("-uz").arg(self.dir()).status().is_ok_and(|status| status.success());
        if !unmounted {
            // It ends with its process.
            let _gone_already = self.process.kill();
        }
        let _its_own_business = self.process.wait();
    }
}
