//! This node's own slices, for who cannot wait for its disk.
//!
//! A thread that asked a disk that hangs is gone until the disk answers, and nobody gets it back sooner. So only a few ask
//! at a time, and fewer than there are threads. Who has no turn within [`TURN_PATIENCE`] is told what is told of a node that cannot
//! be reached, and goes to another: of a disk that hangs nothing more is asked until it answered something.
//!
//! Readers do not wait for as long as that: see [`Slices::get`](crate::slices::Slices::get).

use crate::room::Room;
use crate::slices::{REPLICA_PATIENCE, SULK};
use crate::storage::{SliceError, SliceStore};
use baton_core::limits::DISK_RESERVE;
use baton_core::mount::{SliceFault, SlicePart};
use baton_core::types::SliceId;
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Threads for slices, and for what else waits for a disk.
pub const BULK_THREADS: usize = 48;
/// Reads under way at once, and the same of writes and deletions. A disk has enough to choose from in that; and a disk that hangs
/// leaves some threads to the rest.
const READS_MAX: usize = 16;
const WRITES_MAX: usize = 16;
const _: () = assert!(READS_MAX + WRITES_MAX < BULK_THREADS);
/// As long as a replica is waited for: who asked for more has given up then.
const TURN_PATIENCE: Duration = REPLICA_PATIENCE;
/// A reader who waits longer asks others too. Longer than a disk that works takes for a slice, also one that syncs meanwhile; and
/// asking in vain costs little where the other nodes are near.
pub(crate) const OWN_PATIENCE: Duration = Duration::from_millis(300);

pub(crate) struct OwnDisk {
    store: Arc<SliceStore>,
    room: Room,
    bulk: tokio::runtime::Handle,
    reads: Turns,
    writes: Turns,
    /// When a reader last did not want to wait for it any more.
    late: Mutex<Option<Instant>>,
    /// When it answered anything last: a disk that has much to do answers all the time.
    answered: Arc<Mutex<Instant>>,
}

type Turns = Arc<Semaphore>;

impl OwnDisk {
    pub(crate) fn new(store: Arc<SliceStore>, room: Room, bulk: tokio::runtime::Handle) -> OwnDisk {
        let turns = |max| Arc::new(Semaphore::new(max));
        let answered = Arc::new(Mutex::new(Instant::now()));
        OwnDisk {
            store,
            room,
            bulk,
            reads: turns(READS_MAX),
            writes: turns(WRITES_MAX),
            late: Mutex::default(),
            answered,
        }
    }

    pub(crate) async fn get(&self, part: SlicePart) -> Result<Bytes, SliceFault> {
        self.act(&self.reads, move |store, _| get_here(store, &part)).await
    }

    /// Of a whole slice, read back from the disk.
    pub(crate) async fn checksum(&self, id: SliceId, len: u32) -> Result<u32, SliceFault> {
        let part = SlicePart { id, at: 0, len, nodes: Vec::new() };
        self.act(&self.reads, move |store, _| Ok(crc32c::crc32c(&get_here(store, &part)?))).await
    }

    pub(crate) async fn put(&self, id: SliceId, data: Bytes) -> Result<(), SliceFault> {
        let put = move |store: &SliceStore, room: &Room| {
            refuse_if_full(room)?;
            store.put(id, &data).map_err(|error| fault_of(&error))
        };
        self.act(&self.writes, put).await
    }

    /// A good copy in the place of whatever is here.
    pub(crate) async fn replace(&self, id: SliceId, data: Bytes) -> Result<(), SliceFault> {
        let replace = move |store: &SliceStore, _: &Room| {
            store.delete(id);
            store.put(id, &data).map_err(|error| fault_of(&error))
        };
        self.act(&self.writes, replace).await
    }

    /// Waits for its turn for as long as it takes: nobody would say again what is to go.
    pub(crate) async fn delete(&self, ids: Vec<SliceId>) {
        let Ok(turn) = self.writes.clone().acquire_owned().await else { return };
        let store = self.store.clone();
        let delete = move || {
            let _turn = turn;
            ids.into_iter().for_each(|id| store.delete(id));
        };
        let _panicked = self.bulk.spawn_blocking(delete).await;
    }

    /// Whether a copy that is not here yet would be refused.
    pub(crate) fn is_full(&self) -> bool {
        refuse_if_full(&self.room).is_err()
    }

    /// A reader waited for long. Where others were answered meanwhile, there was much to read, and no more.
    pub(crate) fn note_late(&self) {
        if lock(&self.answered).elapsed() < OWN_PATIENCE {
            return;
        }
        let before = lock(&self.late).replace(Instant::now());
        if before.is_none_or(|at| at.elapsed() > 2 * SULK) {
            tracing::warn!("this node's own disk does not answer: slices are read from other nodes for now");
        }
    }

    /// Whether somebody waits for a turn to read.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_late() || self.reads.available_permits() == 0
    }

    pub(crate) fn is_late(&self) -> bool {
        lock(&self.late).is_some_and(|at| at.elapsed() < SULK)
    }

    /// Who goes away leaves the turn to the thread, until the disk has answered it.
    async fn act<T: Send + 'static>(
        &self,
        turns: &Turns,
        act: impl FnOnce(&SliceStore, &Room) -> Result<T, SliceFault> + Send + 'static,
    ) -> Result<T, SliceFault> {
        let turn = tokio::time::timeout(TURN_PATIENCE, turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(SliceFault::Unreachable) };
        let (store, room, answered) = (self.store.clone(), self.room.clone(), self.answered.clone());
        let acting = self.bulk.spawn_blocking(move || {
            let _turn = turn;
            let outcome = act(&store, &room);
            *lock(&answered) = Instant::now();
            outcome
        });
        acting.await.unwrap_or(Err(SliceFault::Unreachable))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is left of the disk then is for the log, the state and deletions.
fn refuse_if_full(room: &Room) -> Result<(), SliceFault> {
    if room.free().is_some_and(|free| free < DISK_RESERVE) { Err(SliceFault::Full) } else { Ok(()) }
}

/// On this thread, however long it takes.
pub(crate) fn get_here(store: &SliceStore, part: &SlicePart) -> Result<Bytes, SliceFault> {
    store.get(part.id, part.at, part.len).map_err(|error| fault_of(&error))
}

fn fault_of(error: &SliceError) -> SliceFault {
    match error {
        SliceError::Missing { .. } => SliceFault::Missing,
        SliceError::Full { .. } => SliceFault::Full,
        SliceError::Damaged { .. } => SliceFault::Damaged, // it was said when it was found
        SliceError::OutOfRange { .. } => {
            tracing::error!("{error}");
            SliceFault::Damaged
        }
        SliceError::Length { .. } | SliceError::Io { .. } | SliceError::Failed { .. } => {
            tracing::error!("{error}");
            SliceFault::Unreachable
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_core::types::SessionId;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;
    use tokio::task::JoinSet;

    #[test]
    fn a_disk_that_hangs_keeps_few_threads_and_is_asked_again_when_one_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = SliceStore::open(dir.path()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let own = OwnDisk::new(Arc::new(store), Room::new(dir.path().to_owned()), runtime.handle().clone());
        let own = Arc::new(own);
        let began = Arc::new(AtomicUsize::new(0));
        let (let_one_go, gate) = channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let read = || {
            let (own, began, gate) = (own.clone(), began.clone(), gate.clone());
            async move {
                let hang = move |_: &SliceStore, _: &Room| {
                    began.fetch_add(1, Ordering::SeqCst);
                    gate.lock().unwrap().recv().map_err(|_| SliceFault::Damaged)
                };
                own.act(&own.reads, hang).await
            }
        };
        runtime.block_on(async {
            let mut given_up = JoinSet::new();
            (0..3 * READS_MAX).for_each(|_| drop(given_up.spawn(read())));
            while began.load(Ordering::SeqCst) < READS_MAX {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            // Nobody waits for these any more, and the disk has them still.
            given_up.shutdown().await;
            assert_eq!(began.load(Ordering::SeqCst), READS_MAX);
            assert_eq!(read().await, Err(SliceFault::Unreachable), "no turn");
            assert_eq!(own.put(SliceId { session: SessionId(1), number: 1 }, Bytes::from_static(b"x")).await, Ok(()));
            let_one_go.send(()).unwrap();
            let again = tokio::spawn(read());
            (0..READS_MAX).for_each(|_| let_one_go.send(()).unwrap());
            assert_eq!(again.await.unwrap(), Ok(()));
        });
        assert_eq!(began.load(Ordering::SeqCst), READS_MAX + 1);
    }
}
