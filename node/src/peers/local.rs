//! Nodes of one process: a message is a move from one queue to another, a slice a shared buffer.

use super::{Later, Peers};
use crate::disk::StateSlot;
use crate::handle::{Event, Events};
use crate::own_disk::OwnDisk;
use crate::storage::state::snapshot::Part;
use baton_core::mount::{SliceFault, SlicePart};
use baton_core::node::{Input, ToPeer};
use baton_core::types::{Members, NodeId, SliceId};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, RwLock};

#[derive(Clone)]
pub(crate) struct LocalNode {
    pub(crate) events: Events,
    pub(crate) state: Arc<StateSlot>,
    pub(crate) own: Arc<OwnDisk>,
}

/// The nodes of this process, by id.
#[derive(Clone, Default)]
pub struct LocalNet(Arc<RwLock<BTreeMap<NodeId, LocalNode>>>);

impl LocalNet {
    pub(crate) fn add(&self, id: NodeId, node: LocalNode) {
        self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(id, node);
    }

    pub(crate) fn remove(&self, id: NodeId) {
        self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(&id);
    }

    fn get(&self, id: NodeId) -> Option<LocalNode> {
        self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner()).get(&id).cloned()
    }
}

/// The net as one of its nodes sees it.
pub(crate) struct LocalPeers {
    pub(crate) me: NodeId,
    pub(crate) net: LocalNet,
    pub(crate) bulk: tokio::runtime::Handle,
}

impl Peers for LocalPeers {
    /// Whoever runs in this process is here.
    fn members(&self, _: &Members) {}

    fn heard_of(&self, _: NodeId, _: &str) {}

    fn send(&self, to: NodeId, message: ToPeer) {
        if let Some(node) = self.net.get(to) {
            let _stopped = node.events.send(Event::Input(Input::Peer { from: self.me, message }));
        }
    }

    fn snapshot(&self, from: NodeId) -> Receiver<Result<Part, String>> {
        let (tell, told) = channel();
        let node = self.net.get(from);
        self.bulk.spawn_blocking(move || {
            let Some(node) = node else {
                let _gone = tell.send(Err(format!("node {from} is not running")));
                return;
            };
            for part in node.state.get().export() {
                if tell.send(part.map_err(|e| e.to_string())).is_err() {
                    return;
                }
            }
        });
        told
    }

    fn put_slice(&self, to: NodeId, id: SliceId, data: Bytes) -> Later<Result<(), SliceFault>> {
        let node = self.net.get(to);
        Box::pin(async move { node.ok_or(SliceFault::Unreachable)?.own.put(id, data).await })
    }

    fn get_slice(&self, from: NodeId, part: SlicePart) -> Later<Result<Bytes, SliceFault>> {
        let node = self.net.get(from);
        Box::pin(async move { node.ok_or(SliceFault::Unreachable)?.own.get(part).await })
    }
}
