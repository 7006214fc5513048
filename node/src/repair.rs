//! Brings this node's slices in line with what the state says, at a pace that leaves the disk to the programs. The core says what
//! is to be made and what may go ([`baton_core::node::Repair`]); here it is fetched, deleted, and read back in turn.

use crate::handle::{Event, Events};
use crate::slices::Slices;
use crate::storage::slices::ScrubPlace;
use baton_core::meta::Fault;
use baton_core::mount::SliceFault;
use baton_core::node::{Copying, Input, Made, Repair as Decisions};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Slices looked at in one step.
const STEP: usize = 64;
/// Between two steps, and between two walks.
const STEP_PAUSE: Duration = Duration::from_millis(5);
const WALK_PAUSE: Duration = Duration::from_secs(5);
/// The same while something is to be done.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// Read back and verified between two walks: a terabyte in some two weeks, and no more than a few percent of a disk's time.
const SCRUB_BYTES: u64 = 4 << 20;
/// For how long one walk takes over copies from fuller disks at least, half of it resting: nobody waits for these. Where there is
/// much to walk over, as long as everything took before.
const TAKE_FOR: Duration = Duration::from_secs(30);
/// What became of a copy that was said to be here is known after so long: if it is not listed then, nobody heard.
const LISTED_WITHIN: Duration = Duration::from_secs(300);
/// How often the cluster is told how far a walk is with what is lacked here.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Slices fetched at once.
const FETCHES: usize = 4;

pub(crate) struct Repair {
    slices: Arc<Slices>,
    events: Events,
    decisions: Decisions,
    started: Instant,
}

impl Repair {
    pub(crate) fn new(slices: Arc<Slices>, events: Events) -> Repair {
        let decisions = Decisions::new(slices.me, LISTED_WITHIN.as_micros() as u64);
        Repair { slices, events, decisions, started: Instant::now() }
    }

    pub(crate) async fn run(mut self) {
        let mut place = self.slices.store.anywhere();
        let mut pause = WALK_PAUSE;
        let mut take_for = TAKE_FOR;
        loop {
            tokio::time::sleep(pause).await;
            if self.events.is_closed() {
                return;
            }
            let began = Instant::now();
            // What cannot be read now is looked at by the next walk.
            let all_is_well = self.walk(take_for).await.unwrap_or(true);
            pause = if all_is_well { WALK_PAUSE } else { BUSY_PAUSE };
            self.collect_garbage().await;
            place = self.scrub(place).await;
            take_for = began.elapsed().max(TAKE_FOR);
        }
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    /// Reads a piece of what is stored here back from the disk; answers where to go on. What is damaged is no good copy any more,
    /// and the next walk makes it anew.
    async fn scrub(&self, place: ScrubPlace) -> ScrubPlace {
        let store = self.slices.store.clone();
        let scrubbed = tokio::task::spawn_blocking(move || store.scrub(place, SCRUB_BYTES)).await;
        let Ok(Ok(scrubbed)) = scrubbed else { return ScrubPlace::default() };
        scrubbed.next.unwrap_or_default()
    }

    /// Goes over all slices once; whether there is nothing more to do.
    async fn walk(&mut self, take_for: Duration) -> Result<bool, Fault> {
        let reader = &self.slices.reader;
        let Some(mut walking) = self.decisions.begin(reader, self.now())? else { return Ok(true) };
        let take_until = Instant::now() + take_for;
        let mut copied = 0;
        let mut told = None;
        loop {
            self.drop_spare_copies().await;
            let (now, may_take) = (self.now(), Instant::now() < take_until);
            let Slices { reader, store, .. } = &*self.slices;
            let is_here = |id| store.is_good(id);
            let step = self.decisions.step(&mut walking, reader, now, STEP, may_take, is_here)?;
            let Some(orders) = step else { break };
            let (mending, takes) = (Instant::now(), orders.iter().any(|copying| copying.instead_of.is_some()));
            for (copying, made) in orders.iter().zip(self.make(&orders).await) {
                copied += u64::from(made == Made::Copy);
                walking.made(copying, made);
            }
            let fetching = self.decisions.fetching(&walking, self.now());
            if told.is_none_or(|at: Instant| at.elapsed() >= TELL_EVERY) {
                told = Some(Instant::now());
                let _stopped = self.events.send(Event::Input(Input::Fetching(fetching)));
            }
            if takes {
                tokio::time::sleep(mending.elapsed()).await;
            }
            tokio::time::sleep(STEP_PAUSE).await;
        }
        if copied > 0 {
            tracing::info!(copied, "copies of slices were made here");
        }
        let now = self.now();
        let ended = self.decisions.end(walking, &self.slices.reader, now);
        for news in [Input::Walked(ended.walk), Input::Fetching(ended.fetching)] {
            let _stopped = self.events.send(Event::Input(news));
        }
        self.slices.note_found(ended.survey, now);
        Ok(ended.all_is_well)
    }

    /// Makes these copies, a few at once; what became of each.
    async fn make(&self, orders: &[Copying]) -> Vec<Made> {
        // As it stays where a task panics.
        let mut made = vec![Made::Nothing; orders.len()];
        let mut fetching = JoinSet::new();
        for (at, copying) in orders.iter().cloned().enumerate() {
            if fetching.len() >= FETCHES
                && let Some(Ok((at, done))) = fetching.join_next().await
            {
                made[at] = done;
            }
            let (slices, events) = (self.slices.clone(), self.events.clone());
            fetching.spawn(async move { (at, fetch(slices, events, copying).await) });
        }
        while let Some(done) = fetching.join_next().await {
            if let Ok((at, done)) = done {
                made[at] = done;
            }
        }
        made
    }

    /// Drops what the cluster need not have here any more.
    async fn drop_spare_copies(&mut self) {
        self.slices.take_spare().into_iter().for_each(|id| self.decisions.note_spare(id));
        while let Some(gone) = self.decisions.to_drop(&self.slices.reader, STEP) {
            self.slices.own.delete(gone).await;
            tokio::time::sleep(STEP_PAUSE).await;
        }
    }

    /// Drops what no file refers to, nor ever will.
    async fn collect_garbage(&self) {
        for ids in self.slices.store.ids().chunks(STEP) {
            // What cannot be read now is looked at by the next walk.
            let garbage = self.slices.reader.garbage(ids).unwrap_or_default();
            if !garbage.is_empty() {
                tracing::info!(slices = garbage.len(), "slices that nothing refers to were dropped");
                self.slices.own.delete(garbage).await;
            }
            tokio::time::sleep(STEP_PAUSE).await;
        }
    }
}

/// Makes the copy here, and tells the cluster if it did not expect one.
async fn fetch(slices: Arc<Slices>, events: Events, copying: Copying) -> Made {
    let Copying { id, len, nodes, .. } = &copying;
    if slices.store.is_good(*id) {
        tell(&events, &copying);
        return Made::Known;
    }
    let was_damaged = slices.store.contains(*id);
    match slices.copy_here(*id, *len, nodes).await {
        Ok(()) => {
            if was_damaged {
                tracing::warn!(slice = %id, "a damaged slice was replaced from another node's copy");
            }
            tell(&events, &copying);
            Made::Copy
        }
        // Dropped meanwhile, or the next walk finds it.
        Err(SliceFault::Missing) => Made::Nothing,
        Err(fault) => {
            tracing::debug!(slice = %id, ?fault, "a slice could not be copied here yet");
            Made::Nothing
        }
    }
}

fn tell(events: &Events, copying: &Copying) {
    if let Some(news) = copying.news() {
        let _stopped = events.send(Event::Input(news));
    }
}
