//! # The Raft log
//!
//! On raft-engine, one region. Beside the entries it keeps three values: the hard state (term, vote, commit), the conf state
//! (who votes) and the *base*, the place before the first entry: where the log was compacted to or a snapshot was installed.
//!
//! Invariants:
//! * entries follow each other without a hole, the first one directly behind the base;
//! * one write is atomic: after a crash all of it is there or none, but where a later one of the same sync is there: then its
//!   entries may be missing, and what follows them is cut off;
//! * the base moves on disk, synced, before any file that holds older entries is removed;
//! * after a failed write or sync nothing more is written: what the disk holds is not known until it is read again.
//!
//! A tail torn by a power cut is cut off when the log is opened (it was never acknowledged). The engine does that where the last
//! batch is torn. Where one before it is, of those that were to be synced together, its end may be there and its entries not:
//! so every write says up to where the log was synced before it, and what cannot be read behind that is cut off here. A batch that
//! is damaged is told from a torn one only where that, a later file, or the commit index shows that the log went on behind it; a
//! node should also compare [`Recovered::last_index`] with its state's applied index, which a log never ends before.
//!
//! What nothing can tell: a bit that flipped in what was synced last, and one in the frame (not the entries) of any batch in the
//! newest file, where the engine ends the log whatever follows. Both are of the few seconds since the last checkpoint.

use super::{Mark, StorageError};
use raft::eraftpb::{ConfState, Entry, HardState};
use raft_engine::{Command, Config, Engine, LogBatch, MessageExt, ReadableSize, RecoveryMode};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The engine keeps many Raft groups apart; Baton has one.
const REGION: u64 = 1;
const HARD_STATE: &[u8] = b"hard-state";
const CONF_STATE: &[u8] = b"conf-state";
const BASE: &[u8] = b"base";
const SYNCED: &[u8] = b"synced";
/// Small enough that a compaction soon frees a file, large enough that a rotation is rare.
const FILE_BYTES: u64 = 32 * 1024 * 1024;
/// Files are removed (or kept for use again) once there is more than this.
const PURGE_BYTES: u64 = 2 * FILE_BYTES;
/// Entries are read back in pieces of about this many bytes.
const READ_BYTES: usize = 16 * 1024 * 1024;

const CONTRADICTION: &str = "its files contradict each other";

struct Entries;

impl MessageExt for Entries {
    type Entry = Entry;
    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

/// What is written together. Empty parts are left as they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogWrite {
    /// In order and without a hole; whatever stood at their indexes or behind is replaced.
    pub entries: Vec<Entry>,
    pub hard_state: Option<HardState>,
    pub conf_state: Option<ConfState>,
    /// A snapshot was installed: all entries are void and the log goes on behind this place.
    pub reset_to: Option<Mark>,
}

/// What the log held when it was opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovered {
    pub hard_state: HardState,
    pub conf_state: ConfState,
    /// The place before the first entry.
    pub base: Mark,
    pub entries: Vec<Entry>,
}

impl Recovered {
    pub fn last_index(&self) -> u64 {
        self.entries.last().map_or(self.base.index, |entry| entry.index)
    }
}

/// Appended to by one thread and compacted by another.
pub struct RaftLog {
    engine: Engine,
    dir: PathBuf,
    span: Mutex<Span>,
}

/// What the log holds: the entries `base.index + 1 ..= last`, and both states as last written, because a reset writes them
/// anew.
#[derive(Clone, Debug)]
struct Span {
    base: Mark,
    last: u64,
    /// Entries up to this one were synced before the write that comes next.
    synced: u64,
    hard_state: HardState,
    conf_state: ConfState,
    failed: bool,
}

impl RaftLog {
    pub fn open(dir: &Path) -> Result<(RaftLog, Recovered), StorageError> {
        RaftLog::open_with_files_of(dir, FILE_BYTES)
    }

    fn open_with_files_of(dir: &Path, file_bytes: u64) -> Result<(RaftLog, Recovered), StorageError> {
        const WHAT: &str = "open the Raft log in";
        std::fs::create_dir_all(dir).map_err(StorageError::io("create the Raft log's folder", dir))?;
        sync_all(dir).map_err(StorageError::io("sync the Raft log in", dir))?;
        let config = config(dir, file_bytes)?;
        // Damage that the engine's own checks did not foresee ends in an assertion.
        let engine = catch_unwind(AssertUnwindSafe(|| Engine::open(config)))
            .map_err(|_| StorageError::damaged(WHAT, dir, CONTRADICTION))?
            .map_err(|error| open_error(WHAT, dir, error))?;
        let recovered = recover_apart(&engine, dir)?;
        let span = Span {
            base: recovered.base,
            last: recovered.last_index(),
            synced: recovered.last_index(),
            hard_state: recovered.hard_state.clone(),
            conf_state: recovered.conf_state.clone(),
            failed: false,
        };
        Ok((RaftLog { engine, dir: dir.to_owned(), span: Mutex::new(span) }, recovered))
    }

    /// Writes all of `write` or, after a crash, none of it. With `sync` it returns when that is on the disk, together with
    /// everything written before.
    pub fn append(&self, write: &LogWrite, sync: bool) -> Result<(), StorageError> {
        const WHAT: &str = "append to the Raft log in";
        let mut span = self.lock();
        let next =
            span.after(write).map_err(|why| StorageError::Refused { what: WHAT, path: self.dir.clone(), why })?;
        let mut batch = encode(write, &next).map_err(|error| engine_error(WHAT, &self.dir, error))?;
        self.write(WHAT, &mut span, &mut batch, sync)?;
        *span = next;
        if sync {
            span.synced = span.last;
        }
        Ok(())
    }

    /// Entries up to and with this one are no longer needed. Frees their files.
    pub fn compact_to(&self, to: Mark) -> Result<(), StorageError> {
        const WHAT: &str = "compact the Raft log in";
        {
            let mut span = self.lock();
            if to.index <= span.base.index {
                return Ok(());
            }
            if to.index > span.last {
                let why = format!("{to} is behind its end, {}", span.last);
                return Err(StorageError::Refused { what: WHAT, path: self.dir.clone(), why });
            }
            let mut batch = LogBatch::default();
            batch.add_command(REGION, Command::Compact { index: to.index + 1 });
            let told = |error| engine_error(WHAT, &self.dir, error);
            put_base(&mut batch, to).and_then(|()| put_synced(&mut batch, span.synced)).map_err(told)?;
            // Synced: the files may go only when the base that makes them needless cannot go back.
            self.write(WHAT, &mut span, &mut batch, true)?;
            span.base = to;
        }
        self.engine.purge_expired_files().map_err(|error| engine_error(WHAT, &self.dir, error))?;
        Ok(())
    }

    /// The last entry that was written, durable or not.
    pub fn last_index(&self) -> u64 {
        self.lock().last
    }

    /// Bytes its files take.
    pub fn bytes(&self) -> u64 {
        self.engine.get_used_size() as u64
    }

    fn write(&self, what: &'static str, span: &mut Span, batch: &mut LogBatch, sync: bool) -> Result<(), StorageError> {
        let failed = || StorageError::Failed { what, path: self.dir.clone() };
        if span.failed {
            return Err(failed());
        }
        // Set while the write is under way: the engine panics where a sync fails.
        span.failed = true;
        match catch_unwind(AssertUnwindSafe(|| self.engine.write(batch, sync))) {
            Ok(Ok(_)) => {
                span.failed = false;
                Ok(())
            }
            Ok(Err(error)) => {
                let error = engine_error(what, &self.dir, error);
                // Where there is no room the engine takes back what it began.
                span.failed = !error.is_full();
                Err(error)
            }
            Err(_) => Err(failed()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Span> {
        self.span.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Span {
    /// What it will be after `write`, or why that cannot be written.
    fn after(&self, write: &LogWrite) -> Result<Span, String> {
        let mut next = self.clone();
        if let Some(base) = write.reset_to {
            (next.base, next.last, next.synced) = (base, base.index, base.index);
        }
        if let Some(state) = &write.hard_state {
            next.hard_state = state.clone();
        }
        if let Some(state) = &write.conf_state {
            next.conf_state = state.clone();
        }
        for (at, entry) in write.entries.iter().enumerate() {
            let fits = match at {
                0 => entry.index > next.base.index && entry.index <= next.last + 1,
                _ => entry.index == next.last + 1,
            };
            if !fits {
                let Span { base, last, .. } = next;
                return Err(format!("entry {} does not follow a log from {} to {last}", entry.index, base.index + 1));
            }
            next.last = entry.index;
            next.synced = next.synced.min(entry.index - 1);
        }
        Ok(next)
    }
}

/// What a process that was killed had written and not synced can be read, and is taken for durable: so it is made to be.
fn sync_all(dir: &Path) -> std::io::Result<()> {
    for file in std::fs::read_dir(dir)? {
        let path = file?.path();
        if path.extension().is_some_and(|kind| kind == "raftlog") {
            std::fs::File::open(path)?.sync_data()?;
        }
    }
    // Of a file that was about to be used again the name may be new.
    std::fs::File::open(dir)?.sync_all()
}

fn config(dir: &Path, file_bytes: u64) -> Result<Config, StorageError> {
    let name = dir.to_str().ok_or_else(|| StorageError::Refused {
        what: "open the Raft log in",
        path: dir.to_owned(),
        why: "the engine takes folder names in UTF-8 only".to_owned(),
    })?;
    Ok(Config {
        dir: name.to_owned(),
        recovery_mode: RecoveryMode::TolerateTailCorruption,
        recovery_threads: 2,
        batch_compression_threshold: ReadableSize(0),
        target_file_size: ReadableSize(file_bytes),
        purge_threshold: ReadableSize(PURGE_BYTES / FILE_BYTES * file_bytes),
        enable_log_recycle: true,
        // A zero-filled file syncs 1.7 times faster than one that grows: 196 against 332 us for a batch of 64 commands
        // (research/probe.md). Costs one file's worth of writing at the first start.
        prefill_for_recycle: true,
        prefill_limit: Some(ReadableSize(file_bytes)),
        ..Config::default()
    })
}

/// `next` is what the log will hold after `write`.
fn encode(write: &LogWrite, next: &Span) -> raft_engine::Result<LogBatch> {
    let mut batch = LogBatch::default();
    let reset = write.reset_to.is_some();
    if reset {
        // Not Compact: that is forgotten with the file it stands in, and entries behind the new base could come back.
        batch.add_command(REGION, Command::Clean);
        put_base(&mut batch, next.base)?;
    }
    if reset || write.hard_state.is_some() {
        batch.put_message(REGION, HARD_STATE.to_vec(), &next.hard_state)?;
    }
    if reset || write.conf_state.is_some() {
        batch.put_message(REGION, CONF_STATE.to_vec(), &next.conf_state)?;
    }
    put_synced(&mut batch, next.synced)?;
    batch.add_entries::<Entries>(REGION, &write.entries)?;
    Ok(batch)
}

/// Every batch says so: whatever comes behind entries that were acknowledged shows that they were.
fn put_synced(batch: &mut LogBatch, synced: u64) -> raft_engine::Result<()> {
    batch.put(REGION, SYNCED.to_vec(), synced.to_le_bytes().to_vec())
}

fn put_base(batch: &mut LogBatch, base: Mark) -> raft_engine::Result<()> {
    let mut value = base.index.to_le_bytes().to_vec();
    value.extend(base.term.to_le_bytes());
    batch.put(REGION, BASE.to_vec(), value)
}

/// The engine keeps the block it read last for each thread, under a name that two logs in one process may share: so a log is
/// read on a thread of its own. (And never after that.)
fn recover_apart(engine: &Engine, dir: &Path) -> Result<Recovered, StorageError> {
    let read = std::thread::scope(|scope| scope.spawn(|| recover(engine, dir)).join());
    read.unwrap_or_else(|_| Err(StorageError::damaged("read the Raft log in", dir, CONTRADICTION)))
}

fn recover(engine: &Engine, dir: &Path) -> Result<Recovered, StorageError> {
    const WHAT: &str = "read the Raft log in";
    let told = |error| engine_error(WHAT, dir, error);
    let base = read_base(engine, dir)?;
    let mut recovered = Recovered {
        hard_state: engine.get_message(REGION, HARD_STATE).map_err(told)?.unwrap_or_default(),
        conf_state: engine.get_message(REGION, CONF_STATE).map_err(told)?.unwrap_or_default(),
        base,
        entries: Vec::new(),
    };
    let unread = read_entries(engine, base, &mut recovered.entries).err();
    if let Some(error) = unread {
        if !is_behind_what_was_synced(engine, &error, recovered.last_index()) {
            return Err(told(error));
        }
        // This node never said that it had them, so it does not matter here whether others committed them meanwhile.
        recovered.hard_state.commit = recovered.hard_state.commit.min(recovered.last_index());
        tracing::warn!(last = recovered.last_index(), "entries that a crash tore before they were synced are cut off");
        cut_off(engine, &recovered).map_err(told)?;
    }
    check(&recovered).map_err(|why| StorageError::damaged(WHAT, dir, why))?;
    Ok(recovered)
}

/// Whether what cannot be read behind this entry was never said to be on the disk.
fn is_behind_what_was_synced(engine: &Engine, error: &raft_engine::Error, last: u64) -> bool {
    let synced = engine.get(REGION, SYNCED).and_then(|value| value.try_into().ok()).map(u64::from_le_bytes);
    matches!(error, raft_engine::Error::Corruption(_)) && synced.is_some_and(|synced| synced <= last)
}

/// The engine forgets what it still knows behind these entries.
fn cut_off(engine: &Engine, kept: &Recovered) -> raft_engine::Result<()> {
    let mut batch = LogBatch::default();
    if kept.entries.is_empty() {
        batch.add_command(REGION, Command::Clean);
        put_base(&mut batch, kept.base)?;
        batch.put_message(REGION, CONF_STATE.to_vec(), &kept.conf_state)?;
    }
    batch.put_message(REGION, HARD_STATE.to_vec(), &kept.hard_state)?;
    put_synced(&mut batch, kept.last_index())?;
    batch.add_entries::<Entries>(REGION, kept.entries.last().map_or(&[], std::slice::from_ref))?;
    engine.write(&mut batch, true).map(|_| ())
}

fn read_base(engine: &Engine, dir: &Path) -> Result<Mark, StorageError> {
    let Some(value) = engine.get(REGION, BASE) else { return Ok(Mark::default()) };
    let word = |at: usize| value.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    match (word(0), word(8), value.len()) {
        (Some(index), Some(term), 16) => Ok(Mark { index, term }),
        _ => Err(StorageError::damaged("read the Raft log in", dir, "its base has the wrong length")),
    }
}

/// The entries behind `base`, or those before one that cannot be read. The engine may still know some before it.
fn read_entries(engine: &Engine, base: Mark, entries: &mut Vec<Entry>) -> raft_engine::Result<()> {
    let (Some(first), Some(last)) = (engine.first_index(REGION), engine.last_index(REGION)) else {
        return Ok(());
    };
    let mut next = first.max(base.index + 1);
    while next <= last {
        match engine.fetch_entries_to::<Entries>(REGION, next, last + 1, Some(READ_BYTES), entries)? {
            0 => return Err(raft_engine::Error::EntryNotFound),
            read => next += read as u64,
        }
    }
    Ok(())
}

/// Damage that leaves every batch intact shows here: a file that is missing, an end that lies before what was committed.
fn check(recovered: &Recovered) -> Result<(), String> {
    let mut before = recovered.base.index;
    for entry in &recovered.entries {
        if entry.index != before + 1 {
            return Err(format!("entry {} follows entry {before}", entry.index));
        }
        before = entry.index;
    }
    match recovered.hard_state.commit {
        commit if commit > before => Err(format!("entry {commit} was committed and the log ends at {before}")),
        _ => Ok(()),
    }
}

/// While opening, the engine cuts a file only where a batch is broken; it holds all but the newest open for reading, so that
/// cutting one in the middle fails.
fn open_error(what: &'static str, dir: &Path, error: raft_engine::Error) -> StorageError {
    match error {
        raft_engine::Error::Io(source) if source.to_string().contains("ftruncate") => {
            StorageError::damaged(what, dir, "a batch in one of its older files is broken")
        }
        error => engine_error(what, dir, error),
    }
}

fn engine_error(what: &'static str, dir: &Path, error: raft_engine::Error) -> StorageError {
    use raft_engine::Error;
    match error {
        Error::Io(source) => StorageError::Io { what, path: dir.to_owned(), source },
        Error::Other(why) if why.to_string().contains("another instance") => {
            StorageError::InUse { path: dir.to_owned() }
        }
        Error::TryAgain(_) => StorageError::Io { what, path: dir.to_owned(), source: rustix::io::Errno::NOSPC.into() },
        Error::Full | Error::InvalidArgument(_) => {
            StorageError::Refused { what, path: dir.to_owned(), why: error.to_string() }
        }
        error => StorageError::damaged(what, dir, error),
    }
}

#[cfg(test)]
mod tests;
