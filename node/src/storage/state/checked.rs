//! The file below the database: every block that is read is what was written there.
//!
//! The database knows checksums of its pages, and looks at them when it is opened and asked to; what it reads afterwards it
//! takes as it is. A bit that changes in one of its branches while it is open hides keys without a word. So the sum of every
//! block is kept in memory (a thousandth of the file): taken when the file is opened, before the database checks all of it,
//! renewed with every write, compared with every read.

use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

const BLOCK: usize = 4096;
/// Read at once when the file is opened.
const STRIDE: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct CheckedFile {
    file: File,
    sums: RwLock<Sums>,
}

#[derive(Debug)]
struct Sums {
    len: u64,
    /// Of each block; what the file lacks of the last one counts as zeros.
    of: Vec<u32>,
}

impl CheckedFile {
    /// Opens or makes the file. `None`: another process has it open.
    pub(super) fn open(path: &Path) -> io::Result<Option<CheckedFile>> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            outcome => outcome?,
        }
        let len = file.metadata()?.len();
        let mut of = Vec::with_capacity(blocks(len));
        let mut stride = vec![0; STRIDE];
        for start in (0..len).step_by(STRIDE) {
            let part = &mut stride[..(len - start).min(STRIDE as u64) as usize];
            file.read_exact_at(part, start)?;
            of.extend(part.chunks(BLOCK).map(sum));
        }
        Ok(Some(CheckedFile { file, sums: RwLock::new(Sums { len, of }) }))
    }

    /// Whole blocks around these bytes, as they were written; and where in them the first byte is.
    fn blocks_around(&self, sums: &Sums, offset: u64, len: usize) -> io::Result<(Vec<u8>, usize)> {
        let first = offset / BLOCK as u64 * BLOCK as u64;
        let mut whole = vec![0; ((offset - first) as usize + len).next_multiple_of(BLOCK)];
        let there = sums.len.saturating_sub(first).min(whole.len() as u64) as usize;
        self.file.read_exact_at(&mut whole[..there], first)?;
        sums.check(first, &whole)?;
        Ok((whole, (offset - first) as usize))
    }
}

impl Sums {
    fn check(&self, offset: u64, whole: &[u8]) -> io::Result<()> {
        let first = offset as usize / BLOCK;
        for (at, block) in whole.chunks(BLOCK).enumerate() {
            if self.of.get(first + at).is_some_and(|known| *known != sum(block)) {
                let why = format!("the block at {} is not what was written there", (first + at) * BLOCK);
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
        Ok(())
    }

    fn grow_to(&mut self, len: u64) {
        self.len = len;
        self.of.resize(blocks(len), sum(&[0; BLOCK]));
    }
}

fn blocks(len: u64) -> usize {
    len.div_ceil(BLOCK as u64) as usize
}

fn sum(block: &[u8]) -> u32 {
    let sum = crc32c::crc32c(block);
    if block.len() == BLOCK { sum } else { crc32c::crc32c_append(sum, &[0; BLOCK][block.len()..]) }
}

impl redb::StorageBackend for CheckedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.sums.read().unwrap_or_else(PoisonError::into_inner).len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let sums = self.sums.read().unwrap_or_else(PoisonError::into_inner);
        if offset.is_multiple_of(BLOCK as u64) && out.len().is_multiple_of(BLOCK) {
            self.file.read_exact_at(out, offset)?;
            return sums.check(offset, out);
        }
        if offset + out.len() as u64 > sums.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (whole, at) = self.blocks_around(&sums, offset, out.len())?;
        out.copy_from_slice(&whole[at..at + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut sums = self.sums.write().unwrap_or_else(PoisonError::into_inner);
        let end = len / BLOCK as u64 * BLOCK as u64;
        let last = if len < sums.len && len > end {
            let (whole, _) = self.blocks_around(&sums, end, (len - end) as usize)?;
            Some(sum(&whole[..(len - end) as usize]))
        } else {
            None
        };
        self.file.set_len(len)?;
        sums.grow_to(len);
        if let Some(last) = last
            && let Some(known) = sums.of.last_mut()
        {
            *known = last;
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut sums = self.sums.write().unwrap_or_else(PoisonError::into_inner);
        let (mut whole, at) = if offset.is_multiple_of(BLOCK as u64) && data.len().is_multiple_of(BLOCK) {
            (Vec::new(), 0)
        } else {
            self.blocks_around(&sums, offset, data.len())?
        };
        self.file.write_all_at(data, offset)?;
        let end = offset + data.len() as u64;
        if end > sums.len {
            sums.grow_to(end);
        }
        let written = if whole.is_empty() {
            data
        } else {
            whole[at..at + data.len()].copy_from_slice(data);
            &whole
        };
        let first = offset as usize / BLOCK;
        for (known, block) in sums.of[first..].iter_mut().zip(written.chunks(BLOCK)) {
            *known = sum(block);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::StorageBackend;

    #[test]
    fn what_is_written_is_read_and_what_was_changed_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = CheckedFile::open(&path).unwrap().unwrap();
        assert!(CheckedFile::open(&path).unwrap().is_none(), "it is open");
        file.set_len(10_000).unwrap();
        let mut model = vec![0_u8; 10_000];
        for (number, (offset, len)) in
            [(0, 512), (4096, 4096), (100, 9_000), (8_192, 1_808), (4_000, 200)].iter().enumerate()
        {
            let data = vec![number as u8 + 1; *len];
            file.write(*offset, &data).unwrap();
            model[*offset as usize..*offset as usize + len].copy_from_slice(&data);
        }
        let read = |file: &CheckedFile, offset: u64, len: usize| {
            let mut out = vec![0; len];
            file.read(offset, &mut out).map(|()| out)
        };
        for (offset, len) in [(0, 10_000), (0, 4096), (5, 1), (4096, 4096), (8_192, 1_808), (4_095, 2)] {
            assert_eq!(read(&file, offset, len).unwrap(), model[offset as usize..offset as usize + len]);
        }
        assert!(read(&file, 9_999, 2).is_err());
        file.set_len(9_000).unwrap();
        file.set_len(12_288).unwrap();
        model.truncate(9_000);
        model.resize(12_288, 0);
        assert_eq!(read(&file, 0, 12_288).unwrap(), model);
        File::options().write(true).open(&path).unwrap().write_all_at(&[99], 5_000).unwrap();
        assert_eq!(read(&file, 4096, 4096).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read(&file, 8_192, 4096).unwrap(), model[8_192..]);
        drop(file);
        let file = CheckedFile::open(&path).unwrap().unwrap();
        model[5_000] = 99;
        assert_eq!(read(&file, 0, 12_288).unwrap(), model, "what was there at the start is the database's to check");
    }
}
