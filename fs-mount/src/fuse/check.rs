//! What can be wrong with a mount point, found out before anything is mounted: what the kernel says of it afterwards
//! ("invalid argument") helps nobody.

use super::MountOptions;
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

const FUSE_DEVICE: &str = "/dev/fuse";
const HELPER: &str = "fusermount3";

/// Why a mount could not be made, or not be taken away.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("the mount point {} does not exist; create it with: mkdir -p {}", .0.display(), .0.display())]
    Missing(PathBuf),
    #[error("the mount point {} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    #[error("the mount point {} is not empty, and what is in it would be hidden; empty it or mount with nonempty", .0.display())]
    NotEmpty(PathBuf),
    #[error("something is mounted at {} already ({kind}); unmount it first or choose another directory", .path.display())]
    AlreadyMounted { path: PathBuf, kind: String },
    #[error(
        "at {} hangs what is left of a mount whose process is gone; clean up with: umount -l {} (or fusermount3 -uz {})",
        .0.display(), .0.display(), .0.display()
    )]
    Stale(PathBuf),
    #[error("the mount point {} cannot be looked at: {source}", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "{FUSE_DEVICE} does not exist: load the kernel's FUSE module (modprobe fuse), or give the container the device"
    )]
    NoFuse,
    #[error("{FUSE_DEVICE} may not be opened: {0}; run as root, or allow this user to use it")]
    FuseForbidden(io::Error),
    #[error("only root can mount without {HELPER}, which is not in the path; install fuse3")]
    NoHelper,
    #[error("mounting at {} failed: {source}", .path.display())]
    Mount { path: PathBuf, source: io::Error },
    #[error("unmounting {} failed because files in it are open or programs work in it; find them with: fuser -vm {}", .0.display(), .0.display())]
    Busy(PathBuf),
    #[error("unmounting {} failed: {source}", .path.display())]
    Unmount { path: PathBuf, source: io::Error },
    #[error("the mount at {} ended by an error: {source}", .path.display())]
    Ended { path: PathBuf, source: io::Error },
}

/// Whether this process may mount by itself.
pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Checks everything that can be known beforehand; answers the mount point's true path.
pub(super) fn mountpoint(path: &Path, options: &MountOptions) -> Result<PathBuf, MountError> {
    let metadata = std::fs::metadata(path).map_err(|error| unreachable_path(path, error))?;
    if !metadata.is_dir() {
        return Err(MountError::NotADirectory(path.into()));
    }
    let path = path.canonicalize().map_err(|error| unreachable_path(path, error))?;
    let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    // Over an empty file system of another kind one may mount on purpose.
    match mounted_at(&mounts, &path) {
        Some(kind) if !options.nonempty || is_ours(&kind) => return Err(MountError::AlreadyMounted { path, kind }),
        _ => {}
    }
    if !options.nonempty && !is_empty(&path)? {
        return Err(MountError::NotEmpty(path));
    }
    Ok(path)
}

/// Checks that this process can mount at all.
pub(super) fn ability() -> Result<(), MountError> {
    let device = std::fs::OpenOptions::new().read(true).write(true).open(FUSE_DEVICE);
    match device.map_err(|error| (error.kind(), error)) {
        Ok(_) => {}
        Err((io::ErrorKind::NotFound, _)) => return Err(MountError::NoFuse),
        Err((_, error)) => return Err(MountError::FuseForbidden(error)),
    }
    if !is_root() && !has_helper(std::env::var_os("PATH"), std::env::var_os("FUSERMOUNT_PATH")) {
        return Err(MountError::NoHelper);
    }
    Ok(())
}

fn unreachable_path(path: &Path, error: io::Error) -> MountError {
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => MountError::Missing(path.into()),
        Some(Errno::NOTDIR) => MountError::NotADirectory(path.into()),
        Some(Errno::NOTCONN) => MountError::Stale(path.into()),
        _ => MountError::Unreadable { path: path.into(), source: error },
    }
}

fn is_empty(path: &Path) -> Result<bool, MountError> {
    let mut entries = std::fs::read_dir(path).map_err(|source| MountError::Unreadable { path: path.into(), source })?;
    Ok(entries.next().is_none())
}

fn is_ours(kind: &str) -> bool {
    kind == "fuse.baton"
}

/// What is mounted at a path, if anything is, from the text of /proc/self/mountinfo: the last line is the topmost mount.
fn mounted_at(mountinfo: &[u8], path: &Path) -> Option<String> {
    mountinfo.split(|b| *b == b'\n').rev().find_map(|line| {
        let mut fields = line.split(|b| *b == b' ');
        let at = unescape(fields.nth(4)?);
        if at != path.as_os_str() {
            return None;
        }
        // After the mount's options come any number of tags, a dash, and then the kind.
        fields.find(|field| *field == b"-")?;
        Some(String::from_utf8_lossy(fields.next()?).into_owned())
    })
}

/// Undoes the kernel's octal escapes: `\040` is a space.
fn unescape(field: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        out.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    OsString::from_vec(out)
}

fn has_helper(path: Option<OsString>, given: Option<OsString>) -> bool {
    if let Some(given) = given {
        return Path::new(&given).is_file();
    }
    let path = path.unwrap_or_default();
    let everywhere = std::env::split_paths(&path).chain(["/bin", "/sbin", "/usr/bin"].map(PathBuf::from));
    everywhere.into_iter().any(|dir| dir.join(HELPER).is_file())
}

/// Whether a file system of a kind is mounted at a path now.
pub(super) fn is_mounted(path: &Path) -> bool {
    let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    mounted_at(&mounts, path).is_some_and(|kind| is_ours(&kind))
}

/// The program that unmounts for whoever is not root.
pub(super) fn helper() -> OsString {
    std::env::var_os("FUSERMOUNT_PATH").unwrap_or_else(|| OsStr::from_bytes(HELPER.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &[u8] = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n\
        30 22 0:26 / /mnt/a\\040b rw,nosuid shared:7 master:2 - fuse.baton baton rw,user_id=0\n\
        31 22 0:27 / /mnt/over rw - tmpfs tmpfs rw\n\
        32 31 0:28 / /mnt/over rw - fuse.baton baton rw\n";

    #[test]
    fn the_topmost_mount_is_found_by_its_true_name() {
        assert_eq!(mounted_at(INFO, Path::new("/mnt/a b")).as_deref(), Some("fuse.baton"));
        assert_eq!(mounted_at(INFO, Path::new("/mnt/over")).as_deref(), Some("fuse.baton"));
        assert_eq!(mounted_at(INFO, Path::new("/")).as_deref(), Some("ext4"));
        assert_eq!(mounted_at(INFO, Path::new("/mnt")), None);
    }

    #[test]
    fn escapes_are_undone_and_backslashes_kept() {
        assert_eq!(unescape(b"a\\040b\\134c"), "a b\\c");
        assert_eq!(unescape(b"a\\0"), "a\\0");
        assert_eq!(unescape(b"\\999"), "\\999");
    }

    #[test]
    fn each_wrong_mount_point_says_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let options = MountOptions::default();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert!(matches!(mountpoint(&dir.path().join("none"), &options), Err(MountError::Missing(_))));
        assert!(matches!(mountpoint(&file, &options), Err(MountError::NotADirectory(_))));
        assert!(matches!(mountpoint(&file.join("below"), &options), Err(MountError::NotADirectory(_))));
        assert!(matches!(mountpoint(dir.path(), &options), Err(MountError::NotEmpty(_))));
        assert!(mountpoint(dir.path(), &MountOptions { nonempty: true, ..options.clone() }).is_ok());
        assert!(matches!(mountpoint(Path::new("/proc"), &options), Err(MountError::AlreadyMounted { .. })));
        assert!(matches!(unreachable_path(dir.path(), Errno::NOTCONN.into()), MountError::Stale(_)));
    }

    #[test]
    fn the_helper_is_looked_for_where_it_was_said_to_be() {
        assert!(!has_helper(None, Some("/nowhere/fusermount3".into())));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(HELPER), "").unwrap();
        assert!(has_helper(Some(dir.path().into()), None));
    }
}
