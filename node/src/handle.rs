//! What the rest of the process may do with a running node.

use crate::Clock;
use crate::inlet::Inlet;
use crate::slices::Slices;
use crate::storage::{State, StorageError};
use baton_core::meta::locks::FileLock;
use baton_core::meta::ops::BreakLocks;
use baton_core::meta::{Answer, Key, Query, Value};
use baton_core::node::{Conn, CopyRow, Frozen, Input, Reader, Status};
use baton_core::session::{Reply, ToMount, ToNode};
use baton_core::token::Row;
use baton_core::types::{Cred, Errno, Ino, MemberChange, Members, NoChange, NodeId, SessionId};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

/// Where a mount's messages go; called on the node's thread, so it must not block.
pub(crate) type Sink = Box<dyn Fn(ToMount) + Send>;

/// What reaches the runner.
pub(crate) enum Event {
    Input(Input),
    /// What came on a stream, and the room that it takes until it is taken.
    Streamed {
        input: Input,
        room: OwnedSemaphorePermit,
    },
    Attach {
        conn: Conn,
        sink: Sink,
    },
    Status(oneshot::Sender<Status>),
    Copies {
        of: Option<Ino>,
        max: usize,
        tell: oneshot::Sender<Vec<CopyRow>>,
    },
    Tokens {
        from: Ino,
        max: usize,
        tell: oneshot::Sender<Vec<Row<NodeId>>>,
    },
    Freeze {
        request: u64,
        at: Option<u64>,
        tell: oneshot::Sender<Option<Frozen>>,
    },
    BreakLocks {
        order: BreakLocks,
        tell: oneshot::Sender<Result<Reply, NotBroken>>,
    },
    ChangeMembers {
        request: u64,
        change: MemberChange,
        tell: oneshot::Sender<Result<NodeId, NotChanged>>,
    },
    /// A snapshot took the place of this state.
    Overtaken(Arc<State>),
    /// What another node gave can be used by another build only.
    AnotherBuild(StorageError),
    /// The others say that this node belongs to them no longer.
    Removed,
    Stop,
}

/// Why nobody can say what came of an order to break locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotBroken {
    #[error("this node does not lead, and only the leader breaks locks")]
    NotLeading,
    #[error("this node lost the lead before it was done; `baton lock ls` shows whether the locks are still held")]
    LostLead,
    #[error("it was not done within 10 s and may still happen; `baton lock ls` shows whether the locks are still held")]
    TooLong,
    #[error("there is no object with this inode number")]
    NoSuchObject,
    #[error("it was refused: {0}")]
    Refused(Errno),
    #[error("the node has stopped")]
    Stopped,
}

/// Why there is no state behind an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFrozen {
    #[error("it went on before the state was asked for, or fetches the state from another node; ask again")]
    Passed,
    #[error("it did not get to that entry within 10 s")]
    TooLong,
    #[error("the node has stopped")]
    Stopped,
}

/// Why nobody can say what came of an order to change the list of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotChanged {
    #[error("this node does not lead, and only the leader changes the list of nodes")]
    NotLeading,
    #[error("this node lost the lead before it was done; ask again")]
    LostLead,
    #[error("it was not done within 10 s and may still happen; ask again")]
    TooLong,
    #[error(transparent)]
    Refused(#[from] NoChange),
    #[error("the node has stopped")]
    Stopped,
}

/// A leader that cannot commit steps down long before.
const ORDER_WITHIN: Duration = Duration::from_secs(10);

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
        MountConn { conn, inlet: Inlet::new(self.events.clone()), node: self.clone() }
    }

    /// The answer to a question, at once, while this node is sure to have the latest state.
    pub fn ask_now(&self, cred: &Cred, query: &Query) -> Option<Reply> {
        self.reader.ask(|| self.clock.mono(), cred, query)
    }

    /// What the node knows of tokens, from this object on.
    pub async fn tokens(&self, from: Ino, max: usize) -> Option<Vec<Row<NodeId>>> {
        let (tell, told) = oneshot::channel();
        self.tell(Event::Tokens { from, max, tell });
        told.await.ok()
    }

    /// Which of this node's mounts have copies of an object, or of anything.
    pub async fn copies(&self, of: Option<Ino>, max: usize) -> Option<Vec<CopyRow>> {
        let (tell, told) = oneshot::channel();
        self.tell(Event::Copies { of, max, tell });
        told.await.ok()
    }

    /// The state behind this entry, or as it is now.
    pub async fn freeze(&self, at: Option<u64>) -> Result<Frozen, NotFrozen> {
        let request = RandomState::new().build_hasher().finish();
        let (tell, told) = oneshot::channel();
        self.tell(Event::Freeze { request, at, tell });
        let frozen = tokio::time::timeout(ORDER_WITHIN, told).await;
        frozen.map_err(|_| NotFrozen::TooLong)?.map_err(|_| NotFrozen::Stopped)?.ok_or(NotFrozen::Passed)
    }

    /// Takes the locks on an object away from all who hold them, or from one session: once it is committed, what they were.
    pub async fn break_locks(&self, ino: Ino, session: Option<SessionId>) -> Result<Vec<FileLock>, NotBroken> {
        let request = RandomState::new().build_hasher().finish();
        let (tell, told) = oneshot::channel();
        self.tell(Event::BreakLocks { order: BreakLocks { ino, session, request }, tell });
        let reply = tokio::time::timeout(ORDER_WITHIN, told).await;
        match reply.map_err(|_| NotBroken::TooLong)?.map_err(|_| NotBroken::Stopped)?? {
            Reply::Done(Answer::Broken(locks)) => Ok(locks),
            Reply::Failed(Errno::ESTALE) => Err(NotBroken::NoSuchObject),
            Reply::Failed(errno) => Err(NotBroken::Refused(errno)),
            Reply::Done(_) | Reply::NeedGroups => Err(NotBroken::Refused(Errno::EIO)),
        }
    }

    /// Takes a node in or has one leave: once it is committed, which node it is, and the list as this node has it then.
    pub async fn change_members(&self, change: MemberChange) -> Result<(NodeId, Members), NotChanged> {
        let request = RandomState::new().build_hasher().finish();
        let (tell, told) = oneshot::channel();
        self.tell(Event::ChangeMembers { request, change, tell });
        let outcome = tokio::time::timeout(ORDER_WITHIN, told).await;
        let node = outcome.map_err(|_| NotChanged::TooLong)?.map_err(|_| NotChanged::Stopped)??;
        let listed = self.reader.with_state(|state| state.get(&Key::Members));
        match listed {
            Ok(Some(Value::Members(members))) => Ok((node, members)),
            _ => Err(NotChanged::Stopped),
        }
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
    inlet: Inlet,
    node: NodeHandle,
}

impl MountConn {
    pub fn tell(&self, message: ToNode) {
        self.node.tell(Event::Input(Input::Mount { conn: self.conn, message }));
    }

    /// Waits while too much of what was said so waits for the node; `bytes`: how large this is.
    pub(crate) async fn tell_in_turn(&self, message: ToNode, bytes: usize) {
        let _stopped = self.inlet.tell(Input::Mount { conn: self.conn, message }, bytes).await;
    }
}

impl Drop for MountConn {
    fn drop(&mut self) {
        self.node.tell(Event::Input(Input::MountLost(self.conn)));
    }
}
