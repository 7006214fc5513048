//! Slices: stored here, copied to other nodes, read from whoever has a good copy.
//!
//! The node that receives a slice is its primary: it stores it and has it stored by the other replicas at the same time, and
//! answers when all have it on disk. If some cannot be reached it goes on with those that can, as long as there are two (or
//! one, in a cluster of one); the list of who has it then is short, which is what [`repair`](crate::repair) looks for.

use crate::own_disk::{OWN_PATIENCE, OwnDisk, get_here};
use crate::peers::Peers;
use crate::storage::SliceStore;
use baton_core::meta::{Fault, Key, SliceInfo, Store, Value};
use baton_core::mount::{SliceFault, SlicePart};
use baton_core::node::{Asking, Pace, Reader, Space, Survey, copies_wanted, enough_copies, is_full, is_full_disk};
use baton_core::types::{Members, NodeId, SessionId, SliceId};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// A replica that takes longer for one slice is given up for it.
pub(crate) const REPLICA_PATIENCE: Duration = Duration::from_secs(5);
/// Once enough copies are on disk, the others get this much longer. What they miss, repair makes up for.
const LAST_REPLICA_PATIENCE: Duration = Duration::from_millis(300);
/// A replica, or this node's own disk, that let somebody wait in vain is not asked first again for this long.
pub(crate) const SULK: Duration = Duration::from_secs(3);
/// A replica that does not give a whole slice for so long is passed over for the next one: nobody waits for a copy but the
/// walk that makes it, and the way may be a narrow one.
const COPY_PATIENCE: Duration = Duration::from_secs(30);
/// A replica that does not answer a read for this long is passed over for the next one.
const READ_PATIENCE: Duration = Duration::from_secs(2);

pub struct Slices {
    pub(crate) me: NodeId,
    pub(crate) members: RwLock<Members>,
    pub(crate) store: Arc<SliceStore>,
    pub(crate) own: Arc<OwnDisk>,
    pub(crate) peers: Arc<dyn Peers>,
    pub(crate) bulk: tokio::runtime::Handle,
    pub(crate) reader: Reader,
    /// Replicas that let somebody wait in vain, and when.
    pub(crate) slow: Mutex<BTreeMap<NodeId, Instant>>,
    pub(crate) found: Mutex<Option<Found>>,
    /// Copies that need not be here, as far as is known.
    pub(crate) spare: Mutex<BTreeSet<SliceId>>,
}

/// A copy that was read back.
pub(crate) struct VerifiedCopy {
    pub(crate) id: SliceId,
    pub(crate) checksum: Result<u32, SliceFault>,
    pub(crate) mended: bool,
}

/// Slices looked up together.
const LOOK_STEP: usize = 1024;
/// Slices in one answer, of up to 4 MiB each.
const VERIFY_STEP: usize = 32;

/// What the last walk over all slices found, and how fast it gets less from walk to walk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) survey: Survey,
    /// The copies that are missing.
    pub(crate) making: Pace,
    /// The bytes that move to emptier disks.
    pub(crate) moving: Pace,
    /// By node that leaves, what it keeps and somebody else should have first.
    pub(crate) leaving: BTreeMap<NodeId, Pace>,
}

impl Found {
    /// A walk found this, at this moment.
    fn look(&mut self, survey: Survey, now: u64) {
        self.making.look(now, survey.short);
        self.moving.look(now, survey.to_move);
        self.leaving.retain(|node, _| survey.needed.contains_key(node));
        for (node, left) in &survey.needed {
            self.leaving.entry(*node).or_default().look(now, *left);
        }
        self.survey = survey;
    }
}

impl Slices {
    /// Stores a slice on as many nodes as it should have; answers which.
    pub async fn put(&self, id: SliceId, data: Bytes) -> Result<Vec<NodeId>, SliceFault> {
        let members = self.members();
        let (nodes, spaces) = (members.staying(), self.reader.spaces());
        let enough = enough_copies(nodes.len());
        // What is known to be of no use is not begun: the copies that would be made lie there for as long as the session lives.
        if no_room(&members, &spaces) {
            return Err(SliceFault::Full);
        }
        let room = |node| spaces.get(&node).map_or(0, |space| space.free);
        let Asking { order, at_once } = Asking::of(self.me, &members, |node| self.is_slow(node), room);
        let mut asked: Vec<NodeId> = Vec::new();
        let mut putting = JoinSet::new();
        let mut spare = order.into_iter();
        for to in spare.by_ref().take(at_once) {
            asked.push(to);
            self.start_put(&mut putting, to, id, &data);
        }
        let mut have = Vec::new();
        let mut full = 0;
        loop {
            let patience = if have.len() >= enough { LAST_REPLICA_PATIENCE } else { REPLICA_PATIENCE };
            let done = match tokio::time::timeout(patience, putting.join_next()).await {
                Ok(None) => break,
                Ok(Some(Ok(done))) => done,
                Ok(Some(Err(_))) => continue,
                Err(_) => {
                    self.note_slow(asked.iter().filter(|node| !have.contains(*node)));
                    break;
                }
            };
            match done {
                (node, Ok(())) => have.push(node),
                (node, Err(fault)) => {
                    full += usize::from(fault == SliceFault::Full);
                    tracing::debug!(slice = %id, %node, ?fault, "a replica did not take a slice");
                    if let Some(next) = spare.next() {
                        asked.push(next);
                        self.start_put(&mut putting, next, id, &data);
                    }
                }
            }
        }
        // Those that are still at it go on by themselves; that they have a copy then is for repair to find.
        putting.detach_all();
        if have.len() >= enough {
            have.sort_by_key(|node| (*node != self.me, *node));
            return Ok(have);
        }
        Err(if is_full(nodes.len(), full) { SliceFault::Full } else { SliceFault::Unreachable })
    }

    /// Of a slice, with those nodes that are not away for long.
    pub(crate) fn copies_wanted_now(&self) -> usize {
        let members = self.members();
        copies_wanted(members.staying().len()).min(members.keeping().len())
    }

    pub(crate) fn last_found(&self) -> Option<Found> {
        self.found.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn members(&self) -> Members {
        self.members.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    pub(crate) fn set_members(&self, members: Members) {
        *self.members.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = members;
    }

    pub(crate) fn note_found(&self, survey: Survey, now: u64) {
        let mut found = self.found.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        found.get_or_insert_default().look(survey, now);
    }

    fn note_slow<'n>(&self, nodes: impl Iterator<Item = &'n NodeId>) {
        let mut slow = self.slow.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for node in nodes {
            tracing::warn!(%node, "a replica is slow; the others go on without it for now");
            slow.insert(*node, Instant::now());
        }
    }

    fn is_slow(&self, node: NodeId) -> bool {
        let slow = self.slow.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        slow.get(&node).is_some_and(|since| since.elapsed() < SULK)
    }

    fn start_put(
        &self,
        putting: &mut JoinSet<(NodeId, Result<(), SliceFault>)>,
        to: NodeId,
        id: SliceId,
        data: &Bytes,
    ) {
        let data = data.clone();
        if to == self.me {
            let own = self.own.clone();
            putting.spawn_on(async move { (to, own.put(id, data).await) }, &self.bulk);
        } else {
            let put = self.peers.put_slice(to, id, data);
            let patient = async move {
                let outcome = tokio::time::timeout(REPLICA_PATIENCE, put).await;
                (to, outcome.unwrap_or(Err(SliceFault::Unreachable)))
            };
            putting.spawn_on(patient, &self.bulk);
        }
    }

    /// This node's own copy, on this thread; not while its disk does not answer.
    pub fn get_here(&self, part: &SlicePart) -> Result<Bytes, SliceFault> {
        if self.own.is_late() { Err(SliceFault::Unreachable) } else { get_here(&self.store, part) }
    }

    /// From here if there is a good copy, else from the others in turn. The next walk replaces a copy that is damaged here.
    ///
    /// Who is asked first gets a moment, then the others are asked as well: this node's own disk, and while that does not answer
    /// the others.
    pub async fn get(&self, part: SlicePart) -> Result<Bytes, SliceFault> {
        let (own, others) = (self.own.get(part.clone()), self.get_from_others(&part));
        if self.own.is_late() {
            one_then_both(others, own, || {}).await
        } else {
            one_then_both(own, others, || self.own.note_late()).await
        }
    }

    async fn get_from_others(&self, part: &SlicePart) -> Result<Bytes, SliceFault> {
        let mut others: Vec<NodeId> = part.nodes.iter().filter(|node| **node != self.me).copied().collect();
        others.sort_by_key(|node| self.is_slow(*node));
        let mut worst = SliceFault::Missing;
        for from in others {
            match self.get_from(from, part.clone()).await {
                Ok(bytes) => return Ok(bytes),
                Err(fault) => worst = graver(worst, fault),
            }
        }
        Err(worst)
    }

    async fn get_from(&self, from: NodeId, part: SlicePart) -> Result<Bytes, SliceFault> {
        let get = self.peers.get_slice(from, part);
        tokio::time::timeout(READ_PATIENCE, get).await.unwrap_or_else(|_| {
            self.note_slow([from].iter());
            Err(SliceFault::Unreachable)
        })
    }

    /// Fetches a whole slice from somebody who has it, and keeps it in the place of what is here.
    pub(crate) async fn copy_here(&self, id: SliceId, len: u32, nodes: &[NodeId]) -> Result<(), SliceFault> {
        if self.own.is_full() && !self.store.contains(id) {
            return Err(SliceFault::Full);
        }
        let mut worst = SliceFault::Missing;
        for from in nodes.iter().filter(|node| **node != self.me) {
            let part = SlicePart { id, at: 0, len, nodes: Vec::new() };
            let get = tokio::time::timeout(COPY_PATIENCE, self.peers.get_slice(*from, part));
            match get.await.unwrap_or(Err(SliceFault::Unreachable)) {
                Ok(data) => return self.own.replace(id, data).await,
                Err(fault) => worst = graver(worst, fault),
            }
        }
        Err(worst)
    }

    /// What this node should have by the state before a snapshot came, and not by the one it brought, may go: nobody tells it any
    /// more what was dropped in between.
    pub(crate) fn note_what_went(&self, before: &impl Store, after: &impl Store) {
        let keeps = |value: &Value| matches!(value, Value::Slice(info) if info.nodes.contains(&self.me));
        let mut from = SliceId { session: SessionId(0), number: 0 };
        while let Ok(step) = before.range(&Key::Slice(from), &Key::Session(SessionId(0)), LOOK_STEP)
            && let Some((Key::Slice(last), _)) = step.last()
        {
            from = SliceId { number: last.number + 1, ..*last };
            for (key, _) in step.iter().filter(|(_, value)| keeps(value)) {
                let (Key::Slice(id), Ok(now)) = (key, after.get(key)) else { continue };
                if !now.as_ref().is_some_and(keeps) {
                    self.note_spare(*id);
                }
            }
        }
    }

    /// The next walk looks whether this one is still needed here.
    pub(crate) fn note_spare(&self, id: SliceId) {
        self.spare.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(id);
    }

    pub(crate) fn take_spare(&self) -> BTreeSet<SliceId> {
        std::mem::take(&mut *self.spare.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Reads the copies that this node should have back from its disk, from behind this one on; behind which one
    /// there are more.
    pub(crate) async fn verify(
        &self,
        behind: SliceId,
        mend: bool,
    ) -> Result<(Vec<VerifiedCopy>, Option<SliceId>), Fault> {
        let from = SliceId { number: behind.number.saturating_add(1), ..behind };
        let found =
            self.reader.with_state(|state| state.range(&Key::Slice(from), &Key::Session(SessionId(0)), VERIFY_STEP))?;
        let full = found.len() == VERIFY_STEP;
        let last = found.last().and_then(|(key, _)| if let Key::Slice(id) = key { Some(*id) } else { None });
        let mut copies = Vec::new();
        for (key, value) in found {
            let (Key::Slice(id), Value::Slice(info)) = (key, value) else { continue };
            if info.nodes.contains(&self.me) {
                copies.push(self.verify_copy(id, &info, mend).await);
            }
        }
        Ok((copies, last.filter(|_| full)))
    }

    async fn verify_copy(&self, id: SliceId, info: &SliceInfo, mend: bool) -> VerifiedCopy {
        let checksum = self.checksum(id, info.len).await;
        // A disk that does not answer may have a good copy, and is not to write another.
        if checksum.is_ok() || !mend || self.own.is_busy() {
            return VerifiedCopy { id, checksum, mended: false };
        }
        let mended = self.copy_here(id, info.len, &info.nodes).await.is_ok();
        VerifiedCopy { id, checksum: self.checksum(id, info.len).await, mended }
    }

    async fn checksum(&self, id: SliceId, len: u32) -> Result<u32, SliceFault> {
        let read = tokio::time::timeout(COPY_PATIENCE, self.own.checksum(id, len));
        read.await.unwrap_or_else(|_| {
            self.own.note_late();
            Err(SliceFault::Unreachable)
        })
    }
}

/// Whether so many disks are known to be full that a slice gets too few copies, or the command behind it is refused, because what
/// is full are the disks of a majority of the voters.
fn no_room(members: &Members, spaces: &BTreeMap<NodeId, Space>) -> bool {
    let full = |nodes: &[NodeId]| nodes.iter().filter(|node| spaces.get(node).is_some_and(is_full_disk)).count();
    let (staying, voters) = (members.staying(), members.voters());
    let (all, no_room) = (voters.len(), full(&voters));
    is_full(staying.len(), full(&staying)) || no_room > 0 && all - no_room <= all / 2
}

/// The second is asked when the first fails or lets wait; then who has it first gives it.
async fn one_then_both(
    first: impl Future<Output = Result<Bytes, SliceFault>>,
    second: impl Future<Output = Result<Bytes, SliceFault>>,
    first_is_late: impl FnOnce(),
) -> Result<Bytes, SliceFault> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let failed = match tokio::time::timeout(OWN_PATIENCE, &mut first).await {
        Ok(Ok(bytes)) => return Ok(bytes),
        Ok(Err(fault)) => fault,
        Err(_) => {
            first_is_late();
            tokio::select! {
                came = &mut first => match came {
                    Ok(bytes) => return Ok(bytes),
                    Err(fault) => fault,
                },
                came = &mut second => match came {
                    Ok(bytes) => return Ok(bytes),
                    Err(fault) => return first.await.map_err(|other| graver(other, fault)),
                },
            }
        }
    };
    second.await.map_err(|other| graver(other, failed))
}

/// What is told when several were asked and none could: that somebody could not be asked outweighs all, because that may
/// pass; damage outweighs absence.
fn graver(a: SliceFault, b: SliceFault) -> SliceFault {
    let weight = |fault: SliceFault| match fault {
        SliceFault::Missing => 0,
        SliceFault::Full => 1,
        SliceFault::Damaged => 2,
        SliceFault::Unreachable => 3,
    };
    if weight(a) >= weight(b) { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_that_is_under_way_has_its_own_pace() {
        let mut found = Found::default();
        let mut look = |second: u64, short, to_move, needed: &[(u64, u64)]| {
            let needed = needed.iter().map(|(node, left)| (NodeId(*node), *left)).collect();
            found.look(Survey { slices: 100, short, to_move, needed }, second * 1_000_000);
            let left = |pace: &Pace| pace.left().map(|left| left.as_secs());
            let leaving = found.leaving.iter().map(|(node, pace)| (node.0, left(pace))).collect::<Vec<_>>();
            (left(&found.making), left(&found.moving), leaving)
        };
        assert_eq!(look(0, 100, 0, &[(4, 90)]), (None, None, vec![(4, None)]));
        assert_eq!(look(10, 60, 0, &[(4, 60), (5, 7)]), (Some(15), None, vec![(4, Some(20)), (5, None)]));
        assert_eq!(look(20, 0, 5_000, &[]), (None, None, vec![]));
        assert_eq!(look(30, 0, 4_000, &[(4, 9)]), (None, Some(40), vec![(4, None)]), "it was called off between");
    }
}
