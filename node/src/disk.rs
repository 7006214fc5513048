//! The node's disk work, on two threads: the log, which replies wait for, and the state, which nothing waits for.

use crate::handle::{Event, Events};
use crate::room::{ROOM_MIN, Room};
use crate::storage::raft_log::LogWrite as DiskWrite;
use crate::storage::state::snapshot::{Import, Part};
use crate::storage::{Mark, RaftLog, State, StorageError};
use baton_core::limits::DISK_RESERVE;
use baton_core::meta::{Fault, Key, Store, Value};
use baton_core::node::{Base, Changes, Freeze, Input, LogWrite};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a node's state store keeps in memory of its pages.
pub(crate) const STATE_CACHE_BYTES: usize = 48 << 20;
/// A checkpoint is made after this many changes, or when changes have waited this long. More of them cost more writing,
/// fewer leave more log to read at a start.
const CHECKPOINT_CHANGES: usize = 50_000;
const CHECKPOINT_AFTER: Duration = Duration::from_secs(5);
/// Below this much room it is looked how much of the state's file is used, so often; it is written anew when most of it is not, and
/// so much is got by it.
const ROOM_SHORT: u64 = 4 * DISK_RESERVE;
const LOOK_FOR_ROOM: Duration = Duration::from_secs(10);
const WORTH_GETTING: u64 = 64 << 20;

/// The state store, which a snapshot may replace while others read it.
pub(crate) struct StateSlot(RwLock<Arc<State>>);

impl StateSlot {
    pub(crate) fn new(state: State) -> Arc<StateSlot> {
        Arc::new(StateSlot(RwLock::new(Arc::new(state))))
    }

    pub(crate) fn get(&self) -> Arc<State> {
        self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn set(&self, state: State) {
        *self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(state);
    }
}

impl Store for StateSlot {
    fn get(&self, key: &Key) -> Result<Option<Value>, Fault> {
        Store::get(&*StateSlot::get(self), key)
    }

    fn range(&self, from: &Key, to: &Key, max: usize) -> Result<Vec<(Key, Value)>, Fault> {
        StateSlot::get(self).range(from, to, max)
    }
}

impl Freeze for StateSlot {
    fn freeze(self: Arc<Self>) -> Base {
        StateSlot::get(&self).view()
    }
}

enum StoreJob {
    Apply {
        to: Mark,
        changes: Changes,
        soon: bool,
    },
    Compact(Mark),
    /// A whole state from another node, part by part.
    Import(Receiver<Result<Part, String>>),
    Stop,
}

pub(crate) struct Disk {
    log: Arc<RaftLog>,
    log_jobs: Sender<LogWrite>,
    /// Writes handed to the log thread and not finished: while there are some, later ones must queue behind them.
    log_busy: Arc<AtomicUsize>,
    store_jobs: Sender<StoreJob>,
    state: Arc<StateSlot>,
    room: Room,
    threads: Vec<JoinHandle<()>>,
}

impl Disk {
    pub(crate) fn start(log: RaftLog, state: Arc<StateSlot>, state_path: PathBuf, room: Room, events: Events) -> Disk {
        let log = Arc::new(log);
        let (log_jobs, log_queue) = channel();
        let (store_jobs, store_queue) = channel();
        let log_busy = Arc::new(AtomicUsize::new(0));
        let log_thread =
            LogThread { log: log.clone(), busy: log_busy.clone(), room: room.clone(), events: events.clone() };
        let store_thread = StoreThread {
            log: log.clone(),
            state: state.clone(),
            state_path,
            room: room.clone(),
            events: events.clone(),
            dirty: 0,
            soon: false,
            since: None,
            looked: Instant::now(),
        };
        let panicked = events.clone();
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let events = panicked.clone();
            std::thread::Builder::new().name(name.into()).spawn(move || or_the_node_ends(&events, work))
        };
        let threads = [
            spawn("baton-log", Box::new(move || log_thread.run(&log_queue))),
            spawn("baton-store", Box::new(move || store_thread.run(&store_queue))),
        ];
        Disk { log, log_jobs, log_busy, store_jobs, state, room, threads: threads.into_iter().flatten().collect() }
    }

    /// Writes now, on this thread, if nothing is queued before it and there is room: `true`, and it is on the disk.
    pub(crate) fn write_log_now(&self, write: &LogWrite) -> Result<bool, StorageError> {
        if self.log_busy.load(Ordering::Acquire) > 0 || !self.room.is_there() {
            return Ok(false);
        }
        match self.log.append(&disk_write(write), true) {
            Err(error) if error.is_full() => Ok(false),
            outcome => outcome.map(|()| true),
        }
    }

    /// Queues a write; [`Input::Persisted`] says when it is on the disk.
    pub(crate) fn queue_log(&self, write: LogWrite) {
        self.log_busy.fetch_add(1, Ordering::AcqRel);
        let _stopped = self.log_jobs.send(write);
    }

    pub(crate) fn store(&self, index: u64, term: u64, changes: Changes, soon: bool) {
        let _stopped = self.store_jobs.send(StoreJob::Apply { to: Mark { index, term }, changes, soon });
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.state.get()
    }

    /// Whether the state store once failed to write: then it answers nothing any more, though nothing in it is damaged.
    pub(crate) fn state_failed(&self) -> bool {
        self.state.get().has_failed()
    }

    /// Why the state cannot be read, if another build can.
    pub(crate) fn state_of_another_build(&self) -> Option<StorageError> {
        self.state.get().of_another_build()
    }

    pub(crate) fn compact(&self, index: u64, term: u64) {
        let _stopped = self.store_jobs.send(StoreJob::Compact(Mark { index, term }));
    }

    pub(crate) fn import(&self, parts: Receiver<Result<Part, String>>) {
        let _stopped = self.store_jobs.send(StoreJob::Import(parts));
    }

    /// Lets both threads finish what they have, with a last checkpoint.
    pub(crate) fn stop(self) {
        self.room.node_ends();
        let _stopped = self.store_jobs.send(StoreJob::Stop);
        drop(self.log_jobs);
        for thread in self.threads {
            let _panicked = thread.join();
        }
    }
}

/// A node whose disk nobody serves any more would go on to lead, and never write again.
fn or_the_node_ends(events: &Events, work: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        tracing::error!("a thread that serves the disk panicked: the node ends, to be started again");
        let _stopped = events.send(Event::Stop);
    }
}

fn disk_write(write: &LogWrite) -> DiskWrite {
    DiskWrite {
        entries: write.entries.clone(),
        hard_state: write.hard_state.clone(),
        conf_state: write.conf_state.clone(),
        reset_to: write.reset_to.map(|(index, term)| Mark { index, term }),
    }
}

struct LogThread {
    log: Arc<RaftLog>,
    busy: Arc<AtomicUsize>,
    room: Room,
    events: Events,
}

impl LogThread {
    /// One sync for all that is queued: the more wait, the less each costs.
    fn run(self, queue: &Receiver<LogWrite>) {
        while let Ok(first) = queue.recv() {
            let writes: Vec<LogWrite> = std::iter::once(first).chain(queue.try_iter()).collect();
            let last = writes.len() - 1;
            for (at, write) in writes.iter().enumerate() {
                let write = disk_write(write);
                if let Err(error) = self.room.insist(|| self.log.append(&write, at == last)) {
                    tracing::error!("{error}");
                    let _stopped = self.events.send(Event::Stop);
                    return;
                }
            }
            self.busy.fetch_sub(writes.len(), Ordering::AcqRel);
            let _stopped = self.events.send(Event::Input(Input::Persisted(writes[last].number)));
        }
    }
}

/// Why a state was not taken from another node.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("{0}")]
    Giver(String),
    #[error("the disk is full")]
    NoRoom,
    /// It may have been.
    #[error(transparent)]
    HalfTaken(StorageError),
}

struct StoreThread {
    log: Arc<RaftLog>,
    state: Arc<StateSlot>,
    state_path: PathBuf,
    room: Room,
    events: Events,
    /// Changes since the last checkpoint, whether one is wanted at once, and since when the oldest waits.
    dirty: usize,
    soon: bool,
    since: Option<Instant>,
    /// When it was looked last whether the state could do with less room.
    looked: Instant,
}

impl StoreThread {
    fn run(mut self, queue: &Receiver<StoreJob>) {
        loop {
            let job = match queue.recv_timeout(Duration::from_secs(1)) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(StoreJob::Stop),
            };
            let stop = matches!(job, Some(StoreJob::Stop));
            let outcome = job.map_or(Ok(()), |job| self.carry_out(job)).and_then(|()| self.checkpoint_if_due(stop));
            let outcome = outcome.and_then(|()| self.make_room_if_short());
            if let Err(error) = outcome {
                tracing::error!("{error}");
                self.tell(Event::Stop);
                return;
            }
            if stop {
                return;
            }
        }
    }

    fn tell(&self, event: Event) {
        let _stopped = self.events.send(event);
    }

    fn carry_out(&mut self, job: StoreJob) -> Result<(), StorageError> {
        match job {
            StoreJob::Apply { to, changes, soon } => {
                self.soon |= soon;
                let state = self.state.get();
                // After a snapshot came in between, what was handed over before may be older than it.
                if to.index > state.applied().index {
                    self.room.wait();
                    state.apply(to, changes.iter().map(|(key, value)| (key.clone(), value.clone())))?;
                    self.dirty += changes.len() + 1;
                    self.since.get_or_insert_with(Instant::now);
                }
                self.tell(Event::Input(Input::Stored(to.index)));
            }
            StoreJob::Compact(to) => {
                self.room.wait();
                self.log.compact_to(to)?;
            }
            StoreJob::Import(parts) => {
                let got = self.import(&parts);
                let got = match got {
                    Ok(at) => Some((at.index, at.term)),
                    Err(NotTaken::Storage(error) | NotTaken::HalfTaken(error)) if error.is_for_another_build() => {
                        self.tell(Event::AnotherBuild(error));
                        return Ok(());
                    }
                    Err(NotTaken::HalfTaken(error)) => return Err(error),
                    Err(why) => {
                        tracing::warn!("a snapshot could not be taken in: {why}");
                        None
                    }
                };
                self.tell(Event::Input(Input::SnapshotFetched(got)));
            }
            StoreJob::Stop => {}
        }
        Ok(())
    }

    fn import(&mut self, parts: &Receiver<Result<Part, String>>) -> Result<Mark, NotTaken> {
        let mut import = Import::begin(&self.state_path)?;
        for part in parts.iter() {
            let part = part.map_err(NotTaken::Giver)?;
            // Whoever gives it keeps it as it is for so long: nothing to wait with.
            if !self.room.is_there() {
                return Err(NotTaken::NoRoom);
            }
            let own = self.state.get().applied();
            if let Part::Start { applied, .. } = &part
                && applied.index <= own.index
            {
                // Nothing newer: what is here already takes the snapshot's part.
                return Ok(own);
            }
            import.add(part)?;
        }
        let sealed = import.seal(Some(self.log.last_index()))?;
        let state = sealed.take_its_place(STATE_CACHE_BYTES).map_err(NotTaken::HalfTaken)?;
        let before = self.state.get();
        let applied = self.goes_on_with(state);
        self.tell(Event::Overtaken(before));
        Ok(applied)
    }

    /// This state, all of it durable, is the node's from here on.
    fn goes_on_with(&mut self, state: State) -> Mark {
        let applied = state.applied();
        self.state.set(state);
        self.dirty = 0;
        self.since = None;
        applied
    }

    /// What was deleted leaves the state's file as large as it was: where the disk has little room, that is got back.
    fn make_room_if_short(&mut self) -> Result<(), StorageError> {
        if self.looked.elapsed() < LOOK_FOR_ROOM {
            return Ok(());
        }
        self.looked = Instant::now();
        let Some(free) = self.room.free().filter(|free| *free < ROOM_SHORT) else { return Ok(()) };
        match self.make_room(free) {
            Err(error) if error.is_full() => {
                tracing::warn!("the state could not be written anew to make room: {error}");
                Ok(())
            }
            // It may be in the old one's place already: what is written to that one now is lost.
            outcome => outcome,
        }
    }

    fn make_room(&mut self, free: u64) -> Result<(), StorageError> {
        let state = self.state.get();
        let (file, used) = state.size()?;
        let anew = used + used / 2;
        if file < 2 * anew + WORTH_GETTING || free < anew + 2 * ROOM_MIN {
            return Ok(());
        }
        let applied = self.goes_on_with(state.written_anew(STATE_CACHE_BYTES)?);
        self.tell(Event::Input(Input::Checkpointed(applied.index)));
        tracing::info!(
            "the state was written anew: it had taken {} MiB on the disk, for {} MiB",
            file >> 20,
            used >> 20
        );
        Ok(())
    }

    fn checkpoint_if_due(&mut self, now: bool) -> Result<(), StorageError> {
        let now = now || std::mem::take(&mut self.soon);
        let old = self.since.is_some_and(|since| since.elapsed() >= CHECKPOINT_AFTER);
        if self.dirty > 0 && (now || old || self.dirty >= CHECKPOINT_CHANGES) {
            self.room.wait();
            let mark = self.state.get().checkpoint()?;
            self.dirty = 0;
            self.since = None;
            self.tell(Event::Input(Input::Checkpointed(mark.index)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_nobody_serves_any_more_ends_the_node() {
        let (events, mut told) = tokio::sync::mpsc::unbounded_channel();
        or_the_node_ends(&events, || {});
        assert!(told.try_recv().is_err(), "it came to its end");
        or_the_node_ends(&events, || panic!("as the engine does where a sync fails"));
        assert!(matches!(told.try_recv(), Ok(Event::Stop)));
    }
}
