//! The way from a mount to the nodes of the same process: calls and shared buffers instead of a network.

use baton_core::meta::Query;
use baton_core::mount::{Input, SliceFault, SlicePart};
use baton_core::session::{Reply, ToNode};
use baton_core::types::{Cred, NodeId, SliceId};
use baton_fs_mount::{Client, Link, OnParts, OnPlaced};
use baton_node::{MountConn, NodeHandle};
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::runtime::Handle;

/// How often it is looked whether the node that the mount hangs on still leads, or runs at all.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const STATUS_PATIENCE: Duration = Duration::from_millis(200);

pub struct LocalLink {
    nodes: Vec<NodeHandle>,
    attached: Mutex<Option<(NodeId, MountConn)>>,
    bulk: Handle,
}

impl LocalLink {
    pub fn start(client: &Arc<Client>, nodes: Vec<NodeHandle>, bulk: Handle) -> Arc<LocalLink> {
        let link = Arc::new(LocalLink { nodes, attached: Mutex::new(None), bulk: bulk.clone() });
        client.set_link(link.clone());
        let (link_there, client_there) = (Arc::downgrade(&link), Arc::downgrade(client));
        bulk.spawn(follow_leader(link_there, client_there));
        link
    }

    fn attach(&self, client: &Arc<Client>, node: &NodeHandle) {
        let there = Arc::downgrade(client);
        let conn = node.attach(move |message| {
            if let Some(client) = there.upgrade() {
                client.drive(Input::Node(message));
            }
        });
        let before = self.lock().replace((node.id(), conn));
        if before.is_some() {
            client.drive(Input::Unlinked);
        }
        drop(before);
        client.drive(Input::Linked);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(NodeId, MountConn)>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node the mount hangs on, while it runs.
    fn node(&self) -> Option<&NodeHandle> {
        let id = self.lock().as_ref().map(|(id, _)| *id)?;
        self.nodes.iter().find(|node| node.id() == id && node.is_running())
    }
}

/// Keeps the mount at the leader, which answers without asking another node.
async fn follow_leader(link: Weak<LocalLink>, client: Weak<Client>) {
    loop {
        {
            let (Some(link), Some(client)) = (link.upgrade(), client.upgrade()) else { return };
            let mut leader = None;
            for node in &link.nodes {
                // A node that hangs at its disk must not keep the mount from the others.
                if let Ok(Some(status)) = tokio::time::timeout(STATUS_PATIENCE, node.status()).await
                    && status.leader.is_some()
                {
                    leader = status.leader;
                    break;
                }
            }
            let running = |id: &NodeId| link.nodes.iter().find(|node| node.id() == *id && node.is_running());
            let here = link.node().map(NodeHandle::id);
            if let Some(best) = leader.as_ref().and_then(running).filter(|node| Some(node.id()) != here) {
                link.attach(&client, best);
            } else if here.is_none()
                && let Some(any) = link.nodes.iter().find(|node| node.is_running())
            {
                link.attach(&client, any);
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

impl Link for LocalLink {
    fn tell(&self, message: ToNode) {
        if let Some((_, conn)) = self.lock().as_ref() {
            conn.tell(message);
        }
    }

    fn ask_now(&self, cred: &Cred, query: &Query) -> Option<Reply> {
        self.nodes.iter().find_map(|node| node.ask_now(cred, query))
    }

    fn put(&self, id: SliceId, data: Bytes, done: OnPlaced) {
        let Some(slices) = self.node().map(|node| node.slices().clone()) else {
            return done(Err(SliceFault::Unreachable));
        };
        self.bulk.spawn(async move { done(slices.put(id, data).await) });
    }

    fn get(&self, parts: Vec<SlicePart>, done: OnParts) {
        let Some(slices) = self.node().map(|node| node.slices().clone()) else {
            return done(Err(SliceFault::Unreachable));
        };
        // Most often every part is on this node's disk, or in its memory: no other thread needs to wake for that.
        let here: Result<Vec<Bytes>, SliceFault> = parts.iter().map(|part| slices.get_here(part)).collect();
        if let Ok(here) = here {
            return done(Ok(here));
        }
        self.bulk.spawn(async move {
            let mut got = Vec::with_capacity(parts.len());
            for part in parts {
                match slices.get(part).await {
                    Ok(bytes) => got.push(bytes),
                    Err(fault) => return done(Err(fault)),
                }
            }
            done(Ok(got));
        });
    }
}
