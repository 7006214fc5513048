//! Brings this node's slices in line with what the state says: copies that it should have and has not are fetched, copies
//! that are too few are made more, some are taken over from fuller disks, what nothing refers to is dropped.
//!
//! It walks over the slices at a pace that leaves the disk to the programs. What a session of this moment stored and has not
//! used yet is never touched, nor what was merged a moment ago: the core says what is garbage.

use crate::handle::{Event, Events};
use crate::slices::{Slices, Survey};
use crate::storage::slices::ScrubPlace;
use baton_core::meta::{Key, SliceInfo, Value};
use baton_core::mount::SliceFault;
use baton_core::node::{Input, Shares, Walk, copies_wanted, is_full_disk, missing, spare_copy, wants_copy};
use baton_core::types::{Members, NodeId, SessionId, SliceId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinError;

/// Slices looked at in one step.
const STEP: usize = 64;
/// Between two steps, and between two walks.
const STEP_PAUSE: Duration = Duration::from_millis(5);
const WALK_PAUSE: Duration = Duration::from_secs(5);
/// The same while something is to be done.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// Read back and verified between two walks: a terabyte in some two weeks, and no more than a few percent of a disk's time.
const SCRUB_BYTES: u64 = 4 << 20;
/// Copies too many that one walk says.
const SPARE_MAX: usize = 50_000;
/// For how long one walk takes over copies from fuller disks at least, half of it resting: nobody waits for these. Where there is
/// much to walk over, as long as everything took before.
const TAKE_FOR: Duration = Duration::from_secs(30);
/// What became of a copy that was said to be here is known after so long: if it is not listed then, nobody heard.
const LISTED_WITHIN: Duration = Duration::from_secs(300);
/// Slices fetched at once.
const FETCHES: usize = 4;

pub(crate) struct Repair {
    slices: Arc<Slices>,
    events: Events,
    /// Slices of which this node was to have a copy, listed nowhere yet, and when it began to make it.
    begun: BTreeMap<SliceId, Instant>,
}

impl Repair {
    pub(crate) fn new(slices: Arc<Slices>, events: Events) -> Repair {
        Repair { slices, events, begun: BTreeMap::new() }
    }

    pub(crate) async fn run(mut self) {
        let mut place = ScrubPlace::default();
        let mut pause = WALK_PAUSE;
        let (mut shares, mut take_for) = (None, TAKE_FOR);
        loop {
            tokio::time::sleep(pause).await;
            if self.events.is_closed() {
                return;
            }
            let began = Instant::now();
            let found = self.walk(shares.take(), take_for).await;
            pause = if found.all_is_well { WALK_PAUSE } else { BUSY_PAUSE };
            shares = found.shares;
            self.forget_what_nobody_lists();
            self.collect_garbage().await;
            place = self.scrub(place).await;
            take_for = began.elapsed().max(TAKE_FOR);
        }
    }

    /// Reads a piece of what is stored here back from the disk; answers where to go on.
    async fn scrub(&self, place: ScrubPlace) -> ScrubPlace {
        let store = self.slices.store.clone();
        let scrubbed = tokio::task::spawn_blocking(move || store.scrub(place, SCRUB_BYTES)).await;
        let Ok(Ok(scrubbed)) = scrubbed else { return ScrubPlace::default() };
        for id in scrubbed.damaged {
            let info = self.slices.reader.with_state(|state| state.get(&Key::Slice(id)));
            let Ok(Some(Value::Slice(info))) = info else { continue };
            tracing::error!(slice = %id, "a slice on this disk is damaged");
            if let Some(other) = info.nodes.iter().find(|node| **node != self.slices.me) {
                self.slices.mend(id, *other);
            }
        }
        scrubbed.next.unwrap_or_default()
    }

    /// Goes over all slices once. `shares`: what the nodes kept when the walk before this one looked, if copies may move.
    async fn walk(&mut self, mut shares: Option<Shares>, take_for: Duration) -> Found {
        let mut from = first();
        let (mut copied, mut lacks, mut spare) = (0, 0, Vec::new());
        let take_until = Instant::now() + take_for;
        let mut took = false;
        let began = self.slices.reader.applied();
        let members = match self.slices.reader.with_state(|state| state.get(&Key::Members)) {
            Ok(Some(Value::Members(members))) => members,
            _ => return Found { all_is_well: true, shares: None }, // no cluster yet
        };
        let mut survey = Survey::new(members.leaving().into_iter().map(|node| (node, 0)).collect());
        let mut now_kept = Shares::new(&members);
        loop {
            self.drop_spare_copies().await;
            let step = self
                .slices
                .reader
                .with_state(|state| state.range(&Key::Slice(from), &Key::Session(SessionId(0)), STEP));
            let Ok(step) = step else { return Found { all_is_well: true, shares: None } };
            let Some(last) = step.last().and_then(|(key, _)| slice_of(key)) else { break };
            let mut takes = BTreeMap::new();
            for (key, value) in &step {
                if let (Key::Slice(id), Value::Slice(info)) = (key, value) {
                    if info.nodes.contains(&self.slices.me) {
                        self.begun.remove(id);
                    }
                    survey.count(&members, info);
                    now_kept.count(info);
                    if spare.len() < SPARE_MAX && spare_copy(&members, *id, info).is_some() {
                        spare.push(*id);
                    }
                    let Some(takeover) = shares.as_mut().and_then(|shares| shares.takeover(&members, info)) else {
                        continue;
                    };
                    survey.to_move += u64::from(info.len);
                    let for_me = takeover.to == self.slices.me && !self.begun.contains_key(id);
                    if for_me && Instant::now() < take_until {
                        now_kept.moves(takeover, info.len);
                        takes.insert(*id, takeover.from);
                    }
                }
            }
            let mending = Instant::now();
            for made in self.mend(step, &members, &takes).await {
                took |= made == Made::Copy && !takes.is_empty();
                copied += u64::from(made == Made::Copy);
                lacks += u64::from(made == Made::Nothing { listed: true });
            }
            if !takes.is_empty() {
                tokio::time::sleep(mending.elapsed()).await;
            }
            from = SliceId { session: last.session, number: last.number + 1 };
            tokio::time::sleep(STEP_PAUSE).await;
        }
        if copied > 0 {
            tracing::info!(copied, "copies of slices were made here");
        }
        // Where too few nodes are left, nobody can make what is missing.
        let spaces = self.slices.reader.spaces();
        let has_room = |node: &&NodeId| !spaces.get(*node).is_some_and(is_full_disk);
        let can_be_made = members.keeping().iter().filter(has_room).count() >= copies_wanted(members.staying().len());
        let is_short = survey.short > 0 && can_be_made;
        let may_move = survey.needed.is_empty() && lacks == 0;
        let all_is_well = may_move && !is_short && spare.is_empty() && !took;
        let drained = survey.needed.iter().filter(|(_, left)| **left == 0).map(|(node, _)| *node).collect();
        let _stopped = self.events.send(Event::Input(Input::Walked(Walk { began, lacks, drained, spare })));
        self.slices.found(survey);
        Found { all_is_well, shares: may_move.then(|| now_kept.with_room(&spaces)) }
    }

    /// Makes the copies of these slices that this node should have, and those that it takes over, by who had them; says what
    /// came of each that was not there.
    async fn mend(
        &mut self,
        step: Vec<(Key, Value)>,
        members: &Members,
        takes: &BTreeMap<SliceId, NodeId>,
    ) -> Vec<Made> {
        let mut fetching = tokio::task::JoinSet::new();
        let mut made = Vec::new();
        let spaces = self.slices.reader.spaces();
        for (key, value) in step {
            let (Some(id), Value::Slice(mut info)) = (slice_of(&key), value) else { continue };
            info.nodes.retain(|node| members.nodes.contains_key(node));
            let listed = info.nodes.contains(&self.slices.me);
            let missing = listed && !self.slices.store.contains(id);
            let wanted = wants_copy(self.slices.me, members, &spaces, id, &info);
            let instead_of = takes.get(&id).copied();
            if !missing && !wanted && instead_of.is_none() {
                continue;
            }
            if !listed {
                self.begun.insert(id, Instant::now());
            }
            if fetching.len() >= FETCHES {
                made.extend(fetching.join_next().await.map(outcome));
            }
            fetching.spawn(fetch(self.slices.clone(), self.events.clone(), id, info, instead_of));
        }
        while let Some(done) = fetching.join_next().await {
            made.push(outcome(done));
        }
        made
    }

    /// A copy that was made here and that nobody knows of may go.
    fn forget_what_nobody_lists(&mut self) {
        let (old, young): (BTreeMap<_, _>, _) =
            std::mem::take(&mut self.begun).into_iter().partition(|(_, at)| at.elapsed() > LISTED_WITHIN);
        self.begun = young;
        old.into_keys().for_each(|id| self.slices.note_spare(id));
    }

    /// Drops what the cluster need not have here any more, if that is so still. What is to be listed here may be a moment later.
    async fn drop_spare_copies(&self) {
        let (later, spare): (Vec<_>, Vec<_>) =
            self.slices.take_spare().into_iter().partition(|id| self.begun.contains_key(id));
        later.into_iter().for_each(|id| self.slices.note_spare(id));
        for ids in spare.chunks(STEP) {
            let is_listed = |id: &SliceId| match self.slices.reader.with_state(|state| state.get(&Key::Slice(*id))) {
                Ok(Some(Value::Slice(info))) => info.nodes.contains(&self.slices.me),
                Ok(None) => false,
                _ => true,
            };
            let gone: Vec<SliceId> = ids.iter().copied().filter(|id| !is_listed(id)).collect();
            let store = self.slices.store.clone();
            let delete = move || gone.into_iter().for_each(|id| store.delete(id));
            let _panicked = self.slices.bulk.spawn_blocking(delete).await;
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
                let store = self.slices.store.clone();
                self.slices.bulk.spawn_blocking(move || garbage.into_iter().for_each(|id| store.delete(id)));
            }
            tokio::time::sleep(STEP_PAUSE).await;
        }
    }
}

/// What a walk over all slices came to.
struct Found {
    all_is_well: bool,
    /// What the nodes keep, unless one leaves, or this one fetches what it lacks.
    shares: Option<Shares>,
}

impl Survey {
    fn count(&mut self, members: &Members, info: &SliceInfo) {
        self.slices += 1;
        if missing(members, info) > 0 {
            self.short += 1;
            for (_, left) in self.needed.iter_mut().filter(|(node, _)| info.nodes.contains(node)) {
                *left += 1;
            }
        }
    }
}

/// What came of a copy that this node should have.
#[derive(PartialEq, Eq)]
enum Made {
    Copy,
    /// It was here already, and the cluster knows now.
    Known,
    /// `listed`: the others believe that it is here.
    Nothing {
        listed: bool,
    },
}

/// One that panicked made nothing.
fn outcome(done: Result<Made, JoinError>) -> Made {
    done.unwrap_or(Made::Nothing { listed: true })
}

fn first() -> SliceId {
    SliceId { session: SessionId(0), number: 0 }
}

fn slice_of(key: &Key) -> Option<SliceId> {
    match key {
        Key::Slice(id) => Some(*id),
        _ => None,
    }
}

/// Makes the copy here, and tells the cluster if it did not expect one.
async fn fetch(slices: Arc<Slices>, events: Events, id: SliceId, info: SliceInfo, instead_of: Option<NodeId>) -> Made {
    let listed = info.nodes.contains(&slices.me);
    let have = slices.store.contains(id);
    let outcome = if have { Ok(()) } else { slices.copy_here(id, info.len, &info.nodes).await };
    match outcome {
        Ok(()) => {
            if !listed {
                let _stopped = events.send(Event::Input(Input::Copied { slice: id, instead_of }));
            }
            if have { Made::Known } else { Made::Copy }
        }
        // Dropped meanwhile, or the next walk finds it.
        Err(SliceFault::Missing) => Made::Nothing { listed },
        Err(fault) => {
            tracing::debug!(slice = %id, ?fault, "a slice could not be copied here yet");
            Made::Nothing { listed }
        }
    }
}
