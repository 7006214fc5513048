//! # The state: the namespace as of one applied place in the log
//!
//! One redb table from encoded keys to encoded values, and a small one for what the state says of itself. A range of log
//! entries is applied in one transaction that also moves the applied mark; it does not sync. A checkpoint does, and after a
//! power cut the state is what the last checkpoint held.
//!
//! Readers share one read transaction, replaced after each apply: beginning one costs as much as the read itself.
//!
//! What is deleted leaves room in the file for what comes, and the file as large as it was. Where the disk has little room, a
//! state of which little is left is written anew beside itself, as if it came from another node ([`State::written_anew`]).
//!
//! Invariants:
//! * the state is always that of exactly its applied mark;
//! * it knows how many bytes its keys and values are;
//! * every value carries a checksum over its key and itself, so a bit that the disk changed is an error and never an answer:
//!   reads then end in a [`Fault`], [`State::damage`] says why, and the node must stop and be rebuilt.

mod checked;
mod seal;
pub mod snapshot;

use super::{Mark, StorageError, sync_folder};
use baton_core::meta::{CodecError, Fault, Key, Store, Value, decode_key, decode_value, encode_key, encode_value};
use baton_core::node::{Base, Freeze};
use checked::CheckedFile;
use redb::{Database, DatabaseError, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};
use seal::{seal, unseal};
use std::cmp::Ordering::{Equal, Greater, Less};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, RwLock};

const STATE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("state");
const ABOUT: TableDefinition<&str, &[u8]> = TableDefinition::new("about");
/// 1 was that of builds that wrote down no version: they do not understand what is in it now, nor this one what they wrote.
const FORMAT: u64 = 2;
const FORMAT_KEY: &str = "format";
const APPLIED_KEY: &str = "applied";
/// Bytes of all keys and values.
const BYTES_KEY: &str = "bytes";
/// Where the log ended when this state was taken from another node, and as of which entry that was.
const IMPORTED_OVER_KEY: &str = "imported-over";

/// The table of what the state says of itself, open for writing.
type About<'txn> = redb::Table<'txn, &'static str, &'static [u8]>;

/// Why a read or write did not work, before it is known what was tried.
#[derive(Debug, thiserror::Error)]
enum Why {
    #[error("{0}")]
    Io(std::io::Error),
    #[error("{0}")]
    Damage(String),
    /// A later build wrote it.
    #[error("{0}")]
    Later(CodecError),
    /// A write failed before, and redb answers nothing any more.
    #[error("an earlier write failed")]
    Failed,
}

pub struct State {
    db: Database,
    path: PathBuf,
    view: RwLock<Arc<View>>,
    imported_over: Option<Imported>,
    trouble: Arc<Trouble>,
}

/// Why reads fail.
#[derive(Default)]
struct Trouble {
    damage: OnceLock<String>,
    later: OnceLock<CodecError>,
    failed: AtomicBool,
}

/// That a state was taken from another node: as of which entry, and where the log ended then.
#[derive(Clone, Copy)]
struct Imported {
    log_end: u64,
    applied: u64,
}

/// The state as of one moment. Keeps the pages it shows from being used again, so let go of it soon.
pub struct View {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
    applied: Mark,
    trouble: Arc<Trouble>,
    path: PathBuf,
}

impl State {
    /// Opens the state or makes an empty one. `cache_bytes` bounds what is kept in memory of it.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<State, StorageError> {
        const WHAT: &str = "open the state";
        snapshot::remove_leftover(path)?;
        let new = !path.exists();
        let file = CheckedFile::open(path).map_err(StorageError::io(WHAT, path))?;
        let file = file.ok_or_else(|| StorageError::InUse { path: path.to_owned() })?;
        let open = || {
            let mut db = Database::builder().set_cache_size(cache_bytes).create_with_backend(file)?;
            // All of it once; what is read from then on is what was found now, or written.
            let sound = db.check_integrity()?;
            Ok((db, sound))
        };
        let (db, sound) = catch_unwind(AssertUnwindSafe(open))
            .map_err(|_| StorageError::damaged(WHAT, path, "its pages contradict each other"))?
            .map_err(|error| open_error(path, error))?;
        if !sound {
            return Err(StorageError::damaged(WHAT, path, "its checksums do not fit"));
        }
        guard(WHAT, path, || prepare(&db))?;
        let (found, imported_over) = guard(WHAT, path, || read_words(&db))?;
        of_this_format(path, found)?;
        let trouble = Arc::default();
        let view = guard(WHAT, path, || View::of(&db, path, &trouble))?;
        if new {
            let folder = path.parent().unwrap_or(Path::new("."));
            sync_folder(folder).map_err(StorageError::io("sync the folder of", path))?;
        }
        Ok(State { db, path: path.to_owned(), view: RwLock::new(Arc::new(view)), imported_over, trouble })
    }

    /// Where the log ended when this state was taken from another node, if it was, and nothing was applied since.
    pub fn imported_over(&self) -> Option<u64> {
        let applied = self.applied().index;
        self.imported_over.filter(|imported| imported.applied == applied).map(|imported| imported.log_end)
    }

    /// The place in the log that the state is of.
    pub fn applied(&self) -> Mark {
        self.view().applied
    }

    /// Everything as of one moment, for who reads more than one key.
    pub fn view(&self) -> Arc<View> {
        self.view.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Whether reads fail because a write failed before: the node must be started again.
    pub fn has_failed(&self) -> bool {
        self.trouble.failed.load(Ordering::SeqCst) && self.damage().is_none()
    }

    /// Why reads fail, if the disk changed what was written: the node must stop and be rebuilt from its peers.
    pub fn damage(&self) -> Option<&str> {
        self.trouble.damage.get().map(String::as_str)
    }

    /// Why reads fail, if it is that a later build wrote what they met: the node must stop, and leave all as it is.
    pub fn of_another_build(&self) -> Option<StorageError> {
        let why = self.trouble.later.get()?.clone();
        Some(StorageError::Later { path: self.path.clone(), why })
    }

    /// Changes the state to that of `to`. All of it or nothing; durable with the next checkpoint only.
    pub fn apply(&self, to: Mark, changes: impl IntoIterator<Item = (Key, Option<Value>)>) -> Result<(), StorageError> {
        const WHAT: &str = "change the state";
        let before = self.applied();
        if to.index <= before.index {
            let why = format!("{to} was applied before, it is at {before}");
            return Err(StorageError::Refused { what: WHAT, path: self.path.clone(), why });
        }
        guard(WHAT, &self.path, || {
            let mut txn = self.db.begin_write().map_err(told)?;
            txn.set_durability(Durability::None).map_err(told)?;
            {
                let mut about = txn.open_table(ABOUT).map_err(told)?;
                let mut bytes = read_bytes(&about)?;
                let mut table = txn.open_table(STATE).map_err(told)?;
                for (key, value) in changes {
                    let key = encode_key(&key);
                    let (new, old) = match value {
                        Some(value) => {
                            let value = encode_value(&value).map_err(|error| Why::Io(std::io::Error::other(error)))?;
                            let sealed = seal(&key, &value);
                            let old = table.insert(key.as_slice(), sealed.as_slice()).map_err(told)?;
                            (key.len() + sealed.len(), old.map(|old| key.len() + old.value().len()))
                        }
                        None => {
                            let old = table.remove(key.as_slice()).map_err(told)?;
                            (0, old.map(|old| key.len() + old.value().len()))
                        }
                    };
                    bytes = (bytes + new as u64).saturating_sub(old.unwrap_or(0) as u64);
                }
                put_applied(&mut about, to)?;
                put_bytes(&mut about, bytes)?;
            }
            txn.commit().map_err(told)
        })?;
        let view = guard(WHAT, &self.path, || View::of(&self.db, &self.path, &self.trouble))?;
        *self.view.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(view);
        Ok(())
    }

    /// What the file takes on the disk, and how much of it the keys and values are.
    pub fn size(&self) -> Result<(u64, u64), StorageError> {
        const WHAT: &str = "look at the state";
        let file = std::fs::metadata(&self.path).map_err(StorageError::io(WHAT, &self.path))?;
        let bytes = guard(WHAT, &self.path, || {
            let txn = self.db.begin_read().map_err(told)?;
            read_bytes(&txn.open_table(ABOUT).map_err(told)?)
        })?;
        Ok((file.blocks() * 512, bytes))
    }

    /// Makes everything applied so far durable, and answers how far that is: the log is needed behind it only.
    pub fn checkpoint(&self) -> Result<Mark, StorageError> {
        guard("make a checkpoint of the state", &self.path, || {
            let mut txn = self.db.begin_write().map_err(told)?;
            txn.set_durability(Durability::Immediate).map_err(told)?;
            // So that opening after a crash does not read all of it.
            txn.set_quick_repair(true);
            let applied = {
                let mut about = txn.open_table(ABOUT).map_err(told)?;
                let applied = read_applied(&about)?;
                put_applied(&mut about, applied)?;
                applied
            };
            txn.commit().map_err(told)?;
            Ok(applied)
        })
    }
}

impl Store for State {
    fn get(&self, key: &Key) -> Result<Option<Value>, Fault> {
        self.view().get(key)
    }

    fn range(&self, from: &Key, to: &Key, max: usize) -> Result<Vec<(Key, Value)>, Fault> {
        self.view().range(from, to, max)
    }
}

impl View {
    fn of(db: &Database, path: &Path, trouble: &Arc<Trouble>) -> Result<View, Why> {
        let txn = db.begin_read().map_err(told)?;
        let applied = read_applied(&txn.open_table(ABOUT).map_err(told)?)?;
        let table = txn.open_table(STATE).map_err(told)?;
        Ok(View { table, applied, trouble: trouble.clone(), path: path.to_owned() })
    }

    pub fn applied(&self) -> Mark {
        self.applied
    }

    fn read(&self, key: &Key) -> Result<Option<Value>, Why> {
        let name = encode_key(key);
        let Some(found) = self.table.get(name.as_slice()).map_err(told)? else { return Ok(None) };
        decode_value(unseal(&name, found.value())?).map(Some).map_err(undecoded)
    }

    fn read_range(&self, from: &Key, to: &Key, max: usize) -> Result<Vec<(Key, Value)>, Why> {
        let (from, to) = (encode_key(from), encode_key(to));
        let mut pairs = Vec::new();
        for pair in self.table.range::<&[u8]>(from.as_slice()..to.as_slice()).map_err(told)?.take(max) {
            let (key, value) = pair.map_err(told)?;
            let value = decode_value(unseal(key.value(), value.value())?).map_err(undecoded)?;
            pairs.push((decode_key(key.value()).map_err(undecoded)?, value));
        }
        Ok(pairs)
    }

    /// Runs a read; where it fails, says so once and answers that it did.
    fn or_damage<T>(&self, read: impl FnOnce() -> Result<T, Why>) -> Option<T> {
        let why = match catch_unwind(AssertUnwindSafe(read)) {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(Why::Failed)) => {
                self.trouble.failed.store(true, Ordering::SeqCst);
                tracing::error!(path = %self.path.display(), "the state cannot be read: an earlier write to it failed");
                return None;
            }
            Ok(Err(Why::Later(why))) => {
                let path = self.path.clone();
                tracing::error!("{}", StorageError::Later { path, why: why.clone() });
                let _first = self.trouble.later.set(why);
                return None;
            }
            Ok(Err(why)) => why.to_string(),
            Err(_) => "its pages contradict each other".to_owned(),
        };
        let _ = self.trouble.damage.set(why.clone());
        tracing::error!("{}", StorageError::damaged("read the state", &self.path, why));
        None
    }
}

impl Store for View {
    fn get(&self, key: &Key) -> Result<Option<Value>, Fault> {
        self.or_damage(|| self.read(key)).ok_or_else(|| Fault::Key(key.clone()))
    }

    fn range(&self, from: &Key, to: &Key, max: usize) -> Result<Vec<(Key, Value)>, Fault> {
        if from >= to {
            return Ok(Vec::new());
        }
        self.or_damage(|| self.read_range(from, to, max)).ok_or_else(|| Fault::Range(from.clone(), to.clone()))
    }
}

impl Freeze for View {
    fn freeze(self: Arc<Self>) -> Base {
        self
    }
}

/// Gives a new database its tables.
fn prepare(db: &Database) -> Result<(), Why> {
    {
        let txn = db.begin_read().map_err(told)?;
        match txn.open_table(ABOUT) {
            Ok(about) if about.get(BYTES_KEY).map_err(told)?.is_some() => return Ok(()),
            Ok(_) => {
                let bytes = count_bytes(&txn.open_table(STATE).map_err(told)?)?;
                let txn = db.begin_write().map_err(told)?;
                put_bytes(&mut txn.open_table(ABOUT).map_err(told)?, bytes)?;
                return txn.commit().map_err(told);
            }
            Err(redb::TableError::TableDoesNotExist(_)) => {}
            Err(error) => return Err(told(error)),
        }
    }
    let txn = db.begin_write().map_err(told)?;
    txn.open_table(STATE).map_err(told)?;
    {
        let mut about = txn.open_table(ABOUT).map_err(told)?;
        put_about(&mut about, FORMAT_KEY, &FORMAT.to_le_bytes())?;
        put_applied(&mut about, Mark::default())?;
        put_bytes(&mut about, 0)?;
    }
    txn.commit().map_err(told)
}

fn put_about(about: &mut About, key: &str, value: &[u8]) -> Result<(), Why> {
    let sealed = seal(key.as_bytes(), value);
    about.insert(key, sealed.as_slice()).map_err(told)?;
    Ok(())
}

fn put_applied(about: &mut About, applied: Mark) -> Result<(), Why> {
    let mut value = applied.index.to_le_bytes().to_vec();
    value.extend(applied.term.to_le_bytes());
    put_about(about, APPLIED_KEY, &value)
}

fn put_bytes(about: &mut About, bytes: u64) -> Result<(), Why> {
    put_about(about, BYTES_KEY, &bytes.to_le_bytes())
}

fn read_bytes(table: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<u64, Why> {
    read_about(table, BYTES_KEY).map(|[bytes]| bytes)
}

fn of_this_format(path: &Path, found: u64) -> Result<(), StorageError> {
    let (path, known) = (path.to_owned(), FORMAT);
    match found.cmp(&FORMAT) {
        Less => Err(StorageError::Older { path, found, known }),
        Greater => Err(StorageError::Newer { path, found, known }),
        Equal => Ok(()),
    }
}

/// Of a state that an older build wrote.
fn count_bytes(table: &impl ReadableTable<&'static [u8], &'static [u8]>) -> Result<u64, Why> {
    let mut bytes = 0;
    for pair in table.iter().map_err(told)? {
        let (key, value) = pair.map_err(told)?;
        bytes += (key.value().len() + value.value().len()) as u64;
    }
    Ok(bytes)
}

/// One of the state's words about itself, as numbers.
fn read_about<const N: usize>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<[u64; N], Why> {
    let found = table.get(key).map_err(told)?.ok_or_else(|| damage(format!("it has no '{key}'")))?;
    let bytes = unseal(key.as_bytes(), found.value())?;
    let mut words = [0; N];
    if bytes.len() != 8 * N {
        return Err(damage(format!("its '{key}' has the wrong length")));
    }
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    Ok(words)
}

fn read_applied(table: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Mark, Why> {
    let [index, term] = read_about(table, APPLIED_KEY)?;
    Ok(Mark { index, term })
}

/// The state's format, and over what it was imported.
fn read_words(db: &Database) -> Result<(u64, Option<Imported>), Why> {
    let txn = db.begin_read().map_err(told)?;
    let table = txn.open_table(ABOUT).map_err(told)?;
    let [format] = read_about(&table, FORMAT_KEY)?;
    let was_imported = table.get(IMPORTED_OVER_KEY).map_err(told)?.is_some();
    let over = was_imported.then(|| read_about(&table, IMPORTED_OVER_KEY)).transpose()?;
    Ok((format, over.map(|[log_end, applied]| Imported { log_end, applied })))
}

/// An error of redb: the disk's, or it means damage.
fn told(error: impl Into<redb::Error>) -> Why {
    match error.into() {
        redb::Error::Io(source) if source.kind() == std::io::ErrorKind::InvalidData => Why::Damage(source.to_string()),
        redb::Error::Io(source) => Why::Io(source),
        redb::Error::PreviousIo => Why::Failed,
        error => Why::Damage(error.to_string()),
    }
}

fn damage(why: impl std::fmt::Display) -> Why {
    Why::Damage(why.to_string())
}

/// What its checksum says is as it was written.
fn undecoded(why: CodecError) -> Why {
    if why.is_later() { Why::Later(why) } else { damage(why) }
}

/// Runs a piece of work on the database. What redb's checks do not foresee in a damaged file ends in an assertion.
fn guard<T>(what: &'static str, path: &Path, work: impl FnOnce() -> Result<T, Why>) -> Result<T, StorageError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(Why::Io(source))) => Err(StorageError::Io { what, path: path.to_owned(), source }),
        Ok(Err(Why::Failed)) => Err(StorageError::Failed { what, path: path.to_owned() }),
        Ok(Err(Why::Later(why))) => Err(StorageError::Later { path: path.to_owned(), why }),
        Ok(Err(Why::Damage(why))) => Err(StorageError::damaged(what, path, why)),
        Err(_) => Err(StorageError::damaged(what, path, "its pages contradict each other")),
    }
}

fn open_error(path: &Path, error: DatabaseError) -> StorageError {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    const WHAT: &str = "open the state";
    match error {
        DatabaseError::DatabaseAlreadyOpen => StorageError::InUse { path: path.to_owned() },
        DatabaseError::Storage(redb::StorageError::Io(source))
            if !matches!(source.kind(), InvalidData | UnexpectedEof) =>
        {
            StorageError::Io { what: WHAT, path: path.to_owned(), source }
        }
        error => StorageError::damaged(WHAT, path, error),
    }
}

#[cfg(test)]
mod tests;
