//! What the rest of the process may do with a running node.

use crate::Clock;
use crate::slices::Slices;
use baton_core::meta::Query;
use baton_core::node::{Conn, CopyRow, Input, Reader, Status};
use baton_core::session::{Reply, ToMount, ToNode};
use baton_core::types::{Cred, Ino, NodeId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot};

/// Where a mount's messages go; called on the node's thread, so it must not block.
pub(crate) type Sink = Box<dyn Fn(ToMount) + Send>;

/// What reaches the runner.
pub(crate) enum Event {
    Input(Input),
    Attach { conn: Conn, sink: Sink },
    Status(oneshot::Sender<Status>),
    Copies { of: Option<Ino>, max: usize, tell: oneshot::Sender<Vec<CopyRow>> },
    Stop,
}

pub(crate) type Events = mpsc::UnboundedSender<Event>;

#[derive(Clone)]
pub struct NodeHandle {
    pub(crate) id: NodeId,
    pub(crate) events: Events,
    pub(crate) reader: Reader,
    pub(crate) clock: Clock,
    pub(crate) slices: Arc<Slices>,
    pub(crate) conns: Arc<AtomicU64>,
}

impl NodeHandle {
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Connects a mount; the connection ends when what comes back is dropped.
    pub fn attach(&self, sink: impl Fn(ToMount) + Send + 'static) -> MountConn {
        let conn = Conn(self.conns.fetch_add(1, Ordering::Relaxed));
        self.tell(Event::Attach { conn, sink: Box::new(sink) });
        MountConn { conn, node: self.clone() }
    }

    /// The answer to a question, at once, while this node is sure to have the latest state.
    pub fn ask_now(&self, cred: &Cred, query: &Query) -> Option<Reply> {
        self.reader.ask(|| self.clock.mono(), cred, query)
    }

    /// Who has copies of an object, or of anything, as far as this node leads.
    pub async fn copies(&self, of: Option<Ino>, max: usize) -> Option<Vec<CopyRow>> {
        let (tell, told) = oneshot::channel();
        self.tell(Event::Copies { of, max, tell });
        told.await.ok()
    }

    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Slices on this node's disk, and the bytes in them.
    pub fn slice_stats(&self) -> (u64, u64) {
        let stats = self.slices.store.stats();
        (stats.slices as u64, stats.bytes)
    }

    pub fn slices(&self) -> &Arc<Slices> {
        &self.slices
    }

    /// `None` when the node has stopped.
    pub async fn status(&self) -> Option<Status> {
        let (tell, told) = oneshot::channel();
        self.tell(Event::Status(tell));
        told.await.ok()
    }

    /// Whether the node's own task still runs.
    pub fn is_running(&self) -> bool {
        !self.events.is_closed()
    }

    pub(crate) fn tell(&self, event: Event) {
        // A node that has stopped hears nothing any more; who waits for an answer sees its channel closed.
        let _stopped = self.events.send(event);
    }
}

/// One mount's connection to this node.
pub struct MountConn {
    conn: Conn,
    node: NodeHandle,
}

impl MountConn {
    pub fn tell(&self, message: ToNode) {
        self.node.tell(Event::Input(Input::Mount { conn: self.conn, message }));
    }
}

impl Drop for MountConn {
    fn drop(&mut self) {
        self.node.tell(Event::Input(Input::MountLost(self.conn)));
    }
}
