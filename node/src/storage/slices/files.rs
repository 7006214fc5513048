//! The segment files of a folder, a bounded number of them open.

use super::SliceError;
use crate::storage::sync_folder;
use rustix::fs::{FallocateFlags, fallocate};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// Far below the 1024 files that a process may have open where nobody raised that.
const OPEN_MAX: usize = 128;

pub(super) struct Files {
    dir: PathBuf,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// With the time of its last use, in uses.
    files: HashMap<u32, (Arc<File>, u64)>,
    uses: u64,
}

impl Files {
    pub(super) fn new(dir: &Path) -> Files {
        Files { dir: dir.to_owned(), open: Mutex::default() }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn path(&self, segment: u32) -> PathBuf {
        self.dir.join(format!("{segment:08}.slices"))
    }

    /// The segments there are, in order.
    pub(super) fn list(&self) -> Result<Vec<u32>, SliceError> {
        let told = || SliceError::io("list", &self.dir);
        let mut segments = Vec::new();
        for file in fs::read_dir(&self.dir).map_err(told())? {
            let name = file.map_err(told())?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".slices")?.parse::<u32>().ok());
            segments.extend(number);
        }
        segments.sort_unstable();
        Ok(segments)
    }

    pub(super) fn get(&self, segment: u32) -> io::Result<Arc<File>> {
        let mut open = self.lock();
        open.uses += 1;
        let now = open.uses;
        if let Some((file, used)) = open.files.get_mut(&segment) {
            *used = now;
            return Ok(file.clone());
        }
        drop(open);
        let file = Arc::new(File::options().read(true).write(true).open(self.path(segment))?);
        self.lock().keep(segment, file.clone());
        Ok(file)
    }

    /// A new segment whose name is durable.
    pub(super) fn create(&self, segment: u32) -> io::Result<Arc<File>> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(self.path(segment))?;
        sync_folder(&self.dir)?;
        let file = Arc::new(file);
        self.lock().keep(segment, file.clone());
        Ok(file)
    }

    pub(super) fn remove(&self, segment: u32) -> io::Result<()> {
        self.lock().files.remove(&segment);
        fs::remove_file(self.path(segment))
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Open {
    fn keep(&mut self, segment: u32, file: Arc<File>) {
        self.uses += 1;
        self.files.insert(segment, (file, self.uses));
        if self.files.len() > OPEN_MAX {
            let oldest = self.files.iter().min_by_key(|(_, (_, used))| *used).map(|(segment, _)| *segment);
            oldest.map(|segment| self.files.remove(&segment));
        }
    }
}

/// Reads up to `len` bytes; fewer only where the file ends.
pub(super) fn read_up_to(file: &File, len: usize, offset: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut read = 0;
    while read < len {
        match file.read_at(&mut bytes[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(read);
    Ok(bytes)
}

/// Gives a range back to the file system: it reads as zeros from now on. Its first page goes first: where the header is gone
/// the rest is not looked for, so a crash in between leaves a whole record or none.
pub(super) fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    use super::record::ALIGN;
    let first = len.min(ALIGN);
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match fallocate(file, hole, offset, first) {
        Ok(()) => {}
        // A file system without holes keeps the room until the segment goes.
        Err(rustix::io::Errno::OPNOTSUPP) => return file.write_all_at(&vec![0; first as usize], offset),
        Err(errno) => return Err(errno.into()),
    }
    if len > first {
        fallocate(file, hole, offset + first, len - first)?;
    }
    Ok(())
}
