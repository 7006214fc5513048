//! Mounting and unmounting.

use super::check::{self, MountError};
use super::{Adapter, Caller};
use fuser::{Config, MountOption, Session, SessionACL};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// How a mount is to behave. The default is what a mount by hand should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// Other users than the one who mounts may enter. Root's mounts are always for everyone; for others, /etc/fuse.conf
    /// must say `user_allow_other`.
    pub allow_other: bool,
    /// Mount over a directory that has something in it.
    pub nonempty: bool,
    pub read_only: bool,
    /// Honour setuid and setgid bits of programs, which whoever writes to the cluster as root could have set.
    pub suid: bool,
    /// Let device files in it be opened.
    pub dev: bool,
}

impl MountOptions {
    fn config(&self, threads: usize) -> Config {
        use MountOption::{CUSTOM, Dev, FSName, NoAtime, NoDev, NoSuid, RO, RW, Suid};
        let mut config = Config::default();
        config.mount_options = vec![
            FSName("baton".into()),
            // The library keeps its own word for it from the kernel when it mounts without the helper.
            CUSTOM("subtype=baton".into()),
            NoAtime,
            if self.read_only { RO } else { RW },
            if self.suid { Suid } else { NoSuid },
            if self.dev { Dev } else { NoDev },
        ];
        config.acl = if self.allow_other || check::is_root() { SessionACL::All } else { SessionACL::Owner };
        config.n_threads = Some(threads.max(1));
        config.clone_fd = true;
        config
    }
}

/// A mount that is there. Dropping it takes it away, at once as far as paths go; files that are still open live on until
/// they are closed.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
    end: Arc<End>,
}

/// How the session ended, once it has.
#[derive(Debug, Default)]
struct End {
    result: Mutex<Option<Result<(), Arc<io::Error>>>>,
    ended: Condvar,
}

/// Mounts at a directory and serves it with `threads` threads until it is unmounted.
pub fn mount<C: Caller>(
    caller: Arc<C>,
    mountpoint: &Path,
    options: &MountOptions,
    threads: usize,
) -> Result<Mounted, MountError> {
    let path = check::mountpoint(mountpoint, options)?;
    check::ability()?;
    let failed = |source| MountError::Mount { path: path.clone(), source };
    let session = Session::new(Adapter::new(caller.clone()), &path, &options.config(threads)).map_err(failed)?;
    let device = session.as_fd().try_clone_to_owned().map_err(failed)?;
    caller.mounted(device).map_err(failed)?;
    let end = Arc::new(End::default());
    let told = end.clone();
    let serve = move || told.tell(session.run());
    std::thread::Builder::new().name("baton-fuse".into()).spawn(serve).map_err(failed)?;
    Ok(Mounted { path, end })
}

impl Mounted {
    /// The mount point's true path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until it is unmounted, by [`Mounted::unmount`] or from outside.
    pub fn join(&self) -> Result<(), MountError> {
        self.end.wait().map_err(|source| {
            let source = io::Error::new(source.kind(), source.to_string());
            MountError::Ended { path: self.path.clone(), source }
        })
    }

    /// Unmounts, waiting until the kernel has let go of everything. Refused while files in it are open; it is then still
    /// mounted, and can be tried again.
    pub fn unmount(&self) -> Result<(), MountError> {
        if !self.is_over() {
            self.take_away(false)?;
        }
        self.join()
    }

    /// Takes the mount out of the tree of paths now. Files that are still open work until they are closed.
    pub fn detach(&self) -> Result<(), MountError> {
        if self.is_over() { Ok(()) } else { self.take_away(true) }
    }

    /// Somebody else may have unmounted it, and something else may be mounted in its place since.
    fn is_over(&self) -> bool {
        self.end.is_told() || !check::is_mounted(&self.path)
    }

    fn take_away(&self, lazily: bool) -> Result<(), MountError> {
        let done = if check::is_root() { self.umount(lazily) } else { self.ask_helper(lazily) };
        match done {
            Ok(()) => Ok(()),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => Err(MountError::Busy(self.path.clone())),
            Err(source) => Err(MountError::Unmount { path: self.path.clone(), source }),
        }
    }

    fn umount(&self, lazily: bool) -> io::Result<()> {
        let how = if lazily { UnmountFlags::DETACH } else { UnmountFlags::empty() };
        Ok(rustix::mount::unmount(&self.path, how)?)
    }

    fn ask_helper(&self, lazily: bool) -> io::Result<()> {
        let how = if lazily { "-uz" } else { "-u" };
        let output = Command::new(check::helper()).arg(how).arg("--").arg(&self.path).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.success() {
            true => Ok(()),
            false if said.contains("busy") => Err(Errno::BUSY.into()),
            false => Err(io::Error::other(said.trim().to_owned())),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.detach() {
            tracing::warn!(%error, "the mount stays");
        }
    }
}

impl End {
    fn tell(&self, result: io::Result<()>) {
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result.map_err(Arc::new));
        self.ended.notify_all();
    }

    fn is_told(&self) -> bool {
        self.result.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn wait(&self) -> Result<(), Arc<io::Error>> {
        let result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.ended.wait_while(result, |r| r.is_none()).unwrap_or_else(PoisonError::into_inner);
        result.clone().unwrap_or(Ok(()))
    }
}
