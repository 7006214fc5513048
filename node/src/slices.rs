//! Slices: stored here, copied to other nodes, read from whoever has a good copy.
//!
//! The node that receives a slice is its primary: it stores it and has it stored by the other replicas at the same time, and
//! answers when all have it on disk. If some cannot be reached it goes on with those that can, as long as there are two (or
//! one, in a cluster of one); the list of who has it then is short, which is what [`repair`](crate::repair) looks for.

use crate::peers::Peers;
use crate::storage::{SliceError, SliceStore};
use baton_core::mount::{SliceFault, SlicePart};
use baton_core::node::{Space, copies_wanted, place};
use baton_core::types::{NodeId, SliceId};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;

/// A replica that takes longer for one slice is given up for it.
const REPLICA_PATIENCE: Duration = Duration::from_secs(5);

pub struct Slices {
    pub(crate) me: NodeId,
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) store: Arc<SliceStore>,
    pub(crate) peers: Arc<dyn Peers>,
    pub(crate) bulk: tokio::runtime::Handle,
    /// Room on the others' disks, as far as known.
    pub(crate) space: Mutex<BTreeMap<NodeId, Space>>,
}

impl Slices {
    /// Stores a slice on as many nodes as it should have; answers which.
    pub async fn put(&self, id: SliceId, data: Bytes) -> Result<Vec<NodeId>, SliceFault> {
        let wanted = copies_wanted(self.nodes.len());
        let order = self.order();
        let mut spare = order.iter().skip(wanted);
        let mut putting = JoinSet::new();
        for to in order.iter().take(wanted) {
            self.start_put(&mut putting, *to, id, &data);
        }
        let mut have = Vec::new();
        let mut full = false;
        while let Some(done) = putting.join_next().await {
            match done {
                Ok((node, Ok(()))) => have.push(node),
                Ok((node, Err(fault))) => {
                    full |= fault == SliceFault::Full;
                    tracing::debug!(slice = %id, %node, ?fault, "a replica did not take a slice");
                    if let Some(next) = spare.next() {
                        self.start_put(&mut putting, *next, id, &data);
                    }
                }
                Err(_) => {}
            }
        }
        // Two copies outlive the loss of one node; a cluster of one has no choice.
        if have.len() >= wanted.min(2) {
            have.sort_by_key(|node| (*node != self.me, *node));
            return Ok(have);
        }
        Err(if full { SliceFault::Full } else { SliceFault::Unreachable })
    }

    /// This node, then the others, those with the most room first.
    fn order(&self) -> Vec<NodeId> {
        let space = self.space.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let reachable: Vec<(NodeId, u64)> =
            self.nodes.iter().map(|n| (*n, space.get(n).map_or(u64::MAX, |s| s.free))).collect();
        let mut order = place(self.me, &reachable, self.nodes.len());
        order.extend(self.nodes.iter().filter(|n| !order.contains(n)).copied().collect::<Vec<_>>());
        order
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
            let store = self.store.clone();
            putting.spawn_blocking_on(move || (to, put_here(&store, id, &data)), &self.bulk);
        } else {
            let put = self.peers.put_slice(to, id, data);
            let patient = async move {
                let outcome = tokio::time::timeout(REPLICA_PATIENCE, put).await;
                (to, outcome.unwrap_or(Err(SliceFault::Unreachable)))
            };
            putting.spawn_on(patient, &self.bulk);
        }
    }

    /// This node's own copy, on this thread.
    pub fn get_here(&self, part: &SlicePart) -> Result<Bytes, SliceFault> {
        get_here(&self.store, part)
    }

    pub fn put_replica(&self, id: SliceId, data: &[u8]) -> Result<(), SliceFault> {
        put_here(&self.store, id, data)
    }

    /// From here if there is a good copy, else from the others in turn. A damaged copy is replaced by a good one.
    pub async fn get(&self, part: SlicePart) -> Result<Bytes, SliceFault> {
        let (store, here) = (self.store.clone(), part.clone());
        let mut worst = match self.bulk.spawn_blocking(move || get_here(&store, &here)).await {
            Ok(Ok(bytes)) => return Ok(bytes),
            Ok(Err(fault)) => fault,
            Err(_) => SliceFault::Unreachable,
        };
        let damaged_here = worst == SliceFault::Damaged;
        for from in part.nodes.iter().filter(|node| **node != self.me) {
            match self.peers.get_slice(*from, part.clone()).await {
                Ok(bytes) => {
                    if damaged_here {
                        self.mend(part.id, *from);
                    }
                    return Ok(bytes);
                }
                Err(fault) => worst = graver(worst, fault),
            }
        }
        Err(worst)
    }

    /// Fetches a whole slice from somebody who has it, and keeps it.
    pub(crate) async fn copy_here(&self, id: SliceId, len: u32, nodes: &[NodeId]) -> Result<(), SliceFault> {
        let mut worst = SliceFault::Missing;
        for from in nodes.iter().filter(|node| **node != self.me) {
            let part = SlicePart { id, at: 0, len, nodes: Vec::new() };
            match self.peers.get_slice(*from, part).await {
                Ok(data) => {
                    let store = self.store.clone();
                    let put = self.bulk.spawn_blocking(move || put_here(&store, id, &data));
                    return put.await.unwrap_or(Err(SliceFault::Unreachable));
                }
                Err(fault) => worst = graver(worst, fault),
            }
        }
        Err(worst)
    }

    /// Replaces this node's damaged copy, beside whoever is being answered.
    fn mend(&self, id: SliceId, from: NodeId) {
        let Some(len) = self.store.len(id) else { return };
        let part = SlicePart { id, at: 0, len, nodes: Vec::new() };
        let (get, store) = (self.peers.get_slice(from, part), self.store.clone());
        self.bulk.spawn(async move {
            let Ok(data) = get.await else { return };
            let mended = tokio::task::spawn_blocking(move || {
                store.delete(id);
                store.put(id, &data)
            });
            match mended.await {
                Ok(Ok(())) => {
                    tracing::warn!(slice = %id, %from, "a damaged slice was replaced from another node's copy")
                }
                Ok(Err(error)) => tracing::error!(slice = %id, "a damaged slice could not be replaced: {error}"),
                Err(_) => {}
            }
        });
    }
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

pub(crate) fn put_here(store: &SliceStore, id: SliceId, data: &[u8]) -> Result<(), SliceFault> {
    store.put(id, data).map_err(|error| fault_of(&error))
}

pub(crate) fn get_here(store: &SliceStore, part: &SlicePart) -> Result<Bytes, SliceFault> {
    store.get(part.id, part.at, part.len).map_err(|error| fault_of(&error))
}

fn fault_of(error: &SliceError) -> SliceFault {
    match error {
        SliceError::Missing { .. } => SliceFault::Missing,
        SliceError::Full { .. } => SliceFault::Full,
        SliceError::Damaged { .. } | SliceError::OutOfRange { .. } => {
            tracing::error!("{error}");
            SliceFault::Damaged
        }
        SliceError::Length { .. } | SliceError::Io { .. } | SliceError::Failed { .. } => {
            tracing::error!("{error}");
            SliceFault::Unreachable
        }
    }
}
