//! # The state on its way to another node
//!
//! A snapshot is a sequence of [`Part`]s: `Start`, any number of `Pairs` in the order of their keys, `End` with their number
//! and a checksum over all of them. The giver reads them from one view, so it shows one moment while the state goes on. The
//! taker builds a new database beside the old one and puts it in its place at once when all of it came and is right; until
//! then the old one stays as it is.

use super::{
    ABOUT, FORMAT, IMPORTED_OVER_KEY, STATE, State, View, Why, guard, put_about, put_applied, put_bytes, told, unseal,
};
use crate::storage::{Mark, StorageError, sync_folder};
use baton_core::meta::{CodecError, Value, decode_key, decode_value};
use baton_core::node::Written;
use baton_proto::SPEAKS;
use redb::{Database, Durability};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A part ends at the first pair that brings it to this size: one message on the wire, one transaction of the taker.
const PART_BYTES: usize = 256 * 1024;
/// The taker's cache while it builds.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// A key and a value as they stand on the disk.
pub type Pair = (Vec<u8>, Vec<u8>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Part {
    Start { format: u64, applied: Mark },
    Pairs(Vec<Pair>),
    End { pairs: u64, sum: u32 },
}

/// What the parts add up to so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Total {
    pairs: u64,
    bytes: u64,
    sum: u32,
}

impl Total {
    fn add(&mut self, pairs: &[Pair]) {
        for (key, value) in pairs {
            self.bytes += (key.len() + value.len()) as u64;
            let lengths = ((key.len() as u64) << 32 | value.len() as u64).to_le_bytes();
            for bytes in [&lengths[..], key, value] {
                self.sum = crc32c::crc32c_append(self.sum, bytes);
            }
        }
        self.pairs += pairs.len() as u64;
    }
}

/// The parts of one view, first to last. After an error there are no more.
pub struct Export {
    view: Arc<View>,
    total: Total,
    next: Next,
}

enum Next {
    Start,
    /// Pairs behind this key; none was sent yet where there is no key.
    Pairs(Option<Vec<u8>>),
    Nothing,
}

impl State {
    /// The whole state as of now.
    pub fn export(&self) -> Export {
        Export { view: self.view(), total: Total::default(), next: Next::Start }
    }
}

impl Export {
    pub fn applied(&self) -> Mark {
        self.view.applied()
    }

    fn pairs_after(&self, last: Option<&[u8]>) -> Result<Vec<Pair>, Why> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut pairs, mut bytes) = (Vec::new(), 0);
        for pair in self.view.table.range::<&[u8]>((from, Bound::Unbounded)).map_err(told)? {
            let (key, value) = pair.map_err(told)?;
            unseal(key.value(), value.value())?;
            bytes += key.value().len() + value.value().len();
            pairs.push((key.value().to_vec(), value.value().to_vec()));
            if bytes >= PART_BYTES {
                break;
            }
        }
        Ok(pairs)
    }
}

impl Iterator for Export {
    type Item = Result<Part, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let last = match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Nothing => return None,
            Next::Start => {
                self.next = Next::Pairs(None);
                return Some(Ok(Part::Start { format: FORMAT, applied: self.view.applied() }));
            }
            Next::Pairs(last) => last,
        };
        let pairs = match guard("read the state", &self.view.path, || self.pairs_after(last.as_deref())) {
            Ok(pairs) => pairs,
            Err(error) => return Some(Err(error)),
        };
        let Some((last, _)) = pairs.last() else {
            return Some(Ok(Part::End { pairs: self.total.pairs, sum: self.total.sum }));
        };
        self.next = Next::Pairs(Some(last.clone()));
        self.total.add(&pairs);
        Some(Ok(Part::Pairs(pairs)))
    }
}

/// A snapshot that is being taken in.
pub struct Import {
    path: PathBuf,
    beside: PathBuf,
    db: Database,
    total: Total,
    applied: Option<Mark>,
    last: Vec<u8>,
    ended: bool,
    /// Behind the database: that is closed first.
    _leftover: Leftover,
}

/// An import that does not come to its end leaves nothing behind.
struct Leftover(PathBuf);

impl Drop for Leftover {
    fn drop(&mut self) {
        let _in_its_place = fs::remove_file(&self.0);
    }
}

impl Import {
    /// Begins a new state beside the one at `path`, which stays as it is.
    pub fn begin(path: &Path) -> Result<Import, StorageError> {
        let beside = beside(path);
        remove_leftover(path)?;
        let db = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(&beside)
            .map_err(|error| super::open_error(&beside, error))?;
        guard("write the state", &beside, || super::prepare(&db))?;
        let (path, _leftover) = (path.to_owned(), Leftover(beside.clone()));
        let (total, last) = (Total::default(), Vec::new());
        Ok(Import { path, beside, db, total, applied: None, last, ended: false, _leftover })
    }

    /// Takes the next part. After an error the import is over.
    pub fn add(&mut self, part: Part) -> Result<(), StorageError> {
        match (part, self.applied, self.ended) {
            (Part::Start { format: FORMAT, applied }, None, false) => {
                self.applied = Some(applied);
                Ok(())
            }
            (Part::Start { format, .. }, None, false) => super::of_this_format(&self.path, format),
            (Part::Pairs(pairs), Some(_), false) => self.add_pairs(&pairs),
            (Part::End { pairs, sum }, Some(_), false) if (self.total.pairs, self.total.sum) == (pairs, sum) => {
                self.ended = true;
                Ok(())
            }
            (Part::End { .. }, Some(_), false) => Err(self.bad("a part of it is missing")),
            _ => Err(self.bad("its parts come in the wrong order")),
        }
    }

    fn add_pairs(&mut self, pairs: &[Pair]) -> Result<(), StorageError> {
        for (key, value) in pairs {
            if *key <= self.last {
                return Err(self.bad("its keys are out of order"));
            }
            self.last.clone_from(key);
            let value = unseal(key, value).map_err(|why| self.bad(why))?;
            decode_key(key).map_err(|why| self.undecoded(why))?;
            if let Value::Version(found) = decode_value(value).map_err(|why| self.undecoded(why))? {
                let unspoken = |why| StorageError::Unspoken { path: self.path.clone(), why };
                SPEAKS.can_use(Written::State, found).map_err(unspoken)?;
            }
        }
        self.total.add(pairs);
        guard("write the state", &self.beside, || {
            let mut txn = self.db.begin_write().map_err(told)?;
            txn.set_durability(Durability::None).map_err(told)?;
            {
                let mut table = txn.open_table(STATE).map_err(told)?;
                for (key, value) in pairs {
                    table.insert(key.as_slice(), value.as_slice()).map_err(told)?;
                }
            }
            txn.commit().map_err(told)
        })
    }

    /// Puts the new state in the old one's place, durably, and opens it. Whoever still has the old one open reads what it
    /// held; what is written to it is lost. `over`: where the log ends, if it is to be reset to the new state next.
    pub fn finish(self, cache_bytes: usize, over: Option<u64>) -> Result<State, StorageError> {
        self.seal(over)?.take_its_place(cache_bytes)
    }

    /// Makes it durable, beside the one that there is.
    pub fn seal(self, over: Option<u64>) -> Result<Sealed, StorageError> {
        let applied = match self.applied {
            Some(applied) if self.ended => applied,
            _ => return Err(self.bad("its end is missing")),
        };
        guard("write the state", &self.beside, || {
            let mut txn = self.db.begin_write().map_err(told)?;
            txn.set_durability(Durability::Immediate).map_err(told)?;
            txn.set_quick_repair(true);
            {
                let mut about = txn.open_table(ABOUT).map_err(told)?;
                put_applied(&mut about, applied)?;
                put_bytes(&mut about, self.total.bytes)?;
                if let Some(over) = over {
                    let words = [over.to_le_bytes(), applied.index.to_le_bytes()].concat();
                    put_about(&mut about, IMPORTED_OVER_KEY, &words)?;
                }
            }
            txn.commit().map_err(told)
        })?;
        drop(self.db);
        let sync = || File::open(&self.beside)?.sync_all();
        sync().map_err(StorageError::io("sync a snapshot for", &self.path))?;
        Ok(Sealed { path: self.path, beside: self.beside, _leftover: self._leftover })
    }

    /// Nothing is wrong with what a later build wrote, and trying again is no use.
    fn undecoded(&self, why: CodecError) -> StorageError {
        if why.is_later() { StorageError::Later { path: self.path.clone(), why } } else { self.bad(why) }
    }

    fn bad(&self, why: impl ToString) -> StorageError {
        StorageError::BadSnapshot { path: self.path.clone(), why: why.to_string() }
    }
}

/// A whole state, durable beside the one in whose place it is to come.
pub struct Sealed {
    path: PathBuf,
    beside: PathBuf,
    _leftover: Leftover,
}

impl Sealed {
    /// After an error it may be in that place already: what is written to the other one then is lost.
    pub fn take_its_place(self, cache_bytes: usize) -> Result<State, StorageError> {
        let swap = || {
            fs::rename(&self.beside, &self.path)?;
            sync_folder(self.path.parent().unwrap_or(Path::new(".")))
        };
        swap().map_err(StorageError::io("put a snapshot in the place of", &self.path))?;
        State::open(&self.path, cache_bytes)
    }
}

impl State {
    /// Takes in a whole snapshot: [`Import`] from first to last part.
    pub fn import(
        path: &Path,
        cache_bytes: usize,
        over: u64,
        parts: impl IntoIterator<Item = Result<Part, StorageError>>,
    ) -> Result<State, StorageError> {
        let mut import = Import::begin(path)?;
        for part in parts {
            import.add(part?)?;
        }
        import.finish(cache_bytes, Some(over))
    }

    /// The same state in a file of its own size, durable, in the place of this one's.
    pub fn written_anew(&self, cache_bytes: usize) -> Result<State, StorageError> {
        let mut import = Import::begin(&self.path)?;
        for part in self.export() {
            import.add(part?)?;
        }
        import.finish(cache_bytes, self.imported_over())
    }
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Removes what an import that did not come to its end left behind.
pub(super) fn remove_leftover(path: &Path) -> Result<(), StorageError> {
    let beside = beside(path);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StorageError::io("remove the unfinished snapshot", &beside)(error))
        }
        _ => Ok(()),
    }
}
