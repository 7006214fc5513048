//! Nodes on other machines. Each node dials each other one and sends its messages on that stream; what comes back on it is
//! only the greeting. Slices and snapshots travel on a connection of their own, so that they never stand before a message.

use super::{Later, Peers};
use crate::handle::{Event, Events};
use crate::inlet::kib;
use crate::storage::state::snapshot::Part;
use baton_core::mount::{SliceFault, SlicePart};
use baton_core::node::{Input, ToPeer};
use baton_core::types::{ClusterId, Members, NodeId, SliceId};
use baton_proto::v1::peers_client::PeersClient;
use baton_proto::v1::slices_client::SlicesClient;
use baton_proto::{
    GetSlice, MESSAGE_MAX, PeerFrame, PeerHello, Placed, PutSlice, Refusal, SLICE_MESSAGE_MAX, SliceBytes,
    SliceProblem, SnapshotRequest, v1,
};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, RwLock, RwLockReadGuard};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// Messages for one peer that may wait, and about the bytes in them; what comes then is dropped, and Raft sends it again.
const QUEUE_MAX: usize = 8_192;
const QUEUE_KIB_MAX: usize = 64 * 1024;
/// Frames that are handed to the transport ahead of what it sends.
const FRAMES_MAX: usize = 16;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// What this node says of itself and what it was told, shared by all its streams.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) me: NodeId,
    /// Where the others reach this node.
    pub(crate) address: String,
    pub(crate) cluster: Arc<OnceLock<ClusterId>>,
    /// The version in force; 0: none is known.
    in_force: Arc<AtomicU32>,
    members: Arc<RwLock<Members>>,
    /// Peers that refused this node because it belongs to another cluster.
    strangers: Arc<Mutex<BTreeSet<NodeId>>>,
}

impl Identity {
    pub(crate) fn new(me: NodeId, members: Members, cluster: Option<ClusterId>) -> Identity {
        let known = OnceLock::new();
        if let Some(cluster) = cluster {
            let _first = known.set(cluster);
        }
        let address = members.nodes.get(&me).map_or(String::new(), |member| member.address.clone());
        let members = Arc::new(RwLock::new(members));
        let (in_force, strangers) = (Arc::default(), Arc::default());
        Identity { me, address, cluster: Arc::new(known), in_force, members, strangers }
    }

    pub(crate) fn hello(&self) -> PeerHello {
        let in_force = self.in_force.load(Ordering::SeqCst);
        PeerHello::new(self.cluster.get().copied(), self.me, self.address.clone(), in_force)
    }

    pub(crate) fn set_in_force(&self, version: u32) {
        self.in_force.store(version, Ordering::SeqCst);
    }

    pub(crate) fn set_members(&self, members: &Members) {
        *self.members.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = members.clone();
    }

    fn members(&self) -> RwLockReadGuard<'_, Members> {
        self.members.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn knows(&self, node: NodeId) -> bool {
        self.members().nodes.contains_key(&node)
    }

    pub(crate) fn was_removed(&self, node: NodeId) -> bool {
        self.members().was_removed(node)
    }

    /// Whether most of the others say that this node does not belong to them: then it is this one that is wrong.
    fn refused_by(&self, peer: NodeId) -> bool {
        let mut strangers = self.strangers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        strangers.insert(peer);
        strangers.len() * 2 > self.members().nodes.len()
    }
}

/// A message, and the room that it takes until it was sent.
type Queued = (ToPeer, OwnedSemaphorePermit);

/// The ways to one peer. Dropped, they end.
struct Way {
    address: String,
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    bulk: Channel,
}

pub(crate) struct GrpcPeers {
    ways: RwLock<BTreeMap<NodeId, Way>>,
    /// Where this node finds others, as its operator said: from here a node may have another address than from there.
    told: BTreeMap<NodeId, String>,
    identity: Identity,
    events: Events,
    bulk: tokio::runtime::Handle,
}

fn endpoint(address: &str) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(3))
        .initial_connection_window_size(8 << 20)
        .initial_stream_window_size(8 << 20))
}

impl GrpcPeers {
    /// Must be called on the runtime on which the streams are to run, and so must what changes the list of nodes.
    pub(crate) fn start(
        identity: Identity,
        members: &Members,
        told: BTreeMap<NodeId, String>,
        events: &Events,
        bulk: tokio::runtime::Handle,
    ) -> GrpcPeers {
        let peers = GrpcPeers { ways: RwLock::default(), told, identity, events: events.clone(), bulk };
        peers.members(members);
        peers
    }

    fn way_to(&self, peer: NodeId, address: &str) -> Result<Way, tonic::transport::Error> {
        let (queue, queued) = mpsc::channel(QUEUE_MAX);
        let (identity, events) = (self.identity.clone(), self.events.clone());
        let dialler = Dialler { peer, endpoint: endpoint(address)?, identity, events, queued };
        let bulk_endpoint = endpoint(address)?;
        tokio::spawn(dialler.run());
        let _entered = self.bulk.enter(); // the connection's own work belongs there too
        let room = Arc::new(Semaphore::new(QUEUE_KIB_MAX));
        Ok(Way { address: address.to_owned(), queue, room, bulk: bulk_endpoint.connect_lazy() })
    }

    fn bulk_to(&self, peer: NodeId) -> Option<Channel> {
        self.ways.read().unwrap_or_else(|poisoned| poisoned.into_inner()).get(&peer).map(|way| way.bulk.clone())
    }
}

/// The stream to one peer, made anew whenever it breaks.
struct Dialler {
    peer: NodeId,
    endpoint: Endpoint,
    identity: Identity,
    events: Events,
    queued: mpsc::Receiver<Queued>,
}

impl Dialler {
    async fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        loop {
            // What was meant for a connection that is no more is of no use on the next one.
            while self.queued.try_recv().is_ok() {}
            if self.queued.is_closed() {
                return;
            }
            match self.session().await {
                Ok(()) => backoff = BACKOFF_MIN,
                Err(why) => tracing::debug!(peer = %self.peer, "no stream to the peer: {why}"),
            }
            if self.events.is_closed() {
                return;
            }
            let _stopped = self.events.send(Event::Input(Input::PeerLost(self.peer)));
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// `Ok` if the peer greeted back, however the stream ended then.
    async fn session(&mut self) -> Result<(), String> {
        let channel = self.endpoint.connect().await.map_err(|e| e.to_string())?;
        let mut client = PeersClient::new(channel).max_encoding_message_size(MESSAGE_MAX);
        let (frames, outgoing) = mpsc::channel::<v1::PeerFrame>(FRAMES_MAX);
        let hello = PeerFrame::Hello(self.identity.hello());
        frames.send(hello.into()).await.map_err(|e| e.to_string())?;
        let mut incoming =
            client.messages(ReceiverStream::new(outgoing)).await.map_err(|e| self.not_let_in(&e))?.into_inner();
        let first = incoming.message().await.map_err(|e| e.to_string())?.ok_or("it said nothing")?;
        match PeerFrame::try_from(first).map_err(|e| e.to_string())? {
            PeerFrame::Hello(theirs) => {
                self.identity.hello().judge(&theirs, Some(self.peer)).map_err(|refusal| refusal.detail)?;
            }
            PeerFrame::Refused(refusal) => return Err(self.refused(refusal.reason, refusal.detail)),
            PeerFrame::Message(_) => return Err("it did not greet".into()),
        }
        tracing::debug!(peer = %self.peer, "connected");
        loop {
            tokio::select! {
                message = self.queued.recv() => {
                    let Some((message, _room)) = message else { return Ok(()) };
                    if frames.send(PeerFrame::Message(message).into()).await.is_err() {
                        return Ok(());
                    }
                }
                answer = incoming.message() => {
                    if !matches!(answer, Ok(Some(_))) {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn not_let_in(&self, why: &tonic::Status) -> String {
        if why.code() == tonic::Code::PermissionDenied {
            tracing::error!(peer = %self.peer, "refused by the peer: {}", why.message());
        }
        why.to_string()
    }

    fn refused(&self, reason: Refusal, detail: String) -> String {
        tracing::error!(peer = %self.peer, "refused by the peer: {detail}");
        if reason == Refusal::WrongCluster && self.identity.refused_by(self.peer) {
            tracing::error!(
                "most of the other nodes belong to another cluster: this data folder is not theirs. Start this node with \
                 the folder that belongs to it, or with an empty one"
            );
            let _stopped = self.events.send(Event::Stop);
        }
        if reason == Refusal::Removed {
            let _stopped = self.events.send(Event::Removed);
        }
        detail
    }
}

impl Peers for GrpcPeers {
    fn members(&self, members: &Members) {
        for (node, member) in &members.nodes {
            self.heard_of(*node, &member.address);
        }
        let mut ways = self.ways.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        ways.retain(|node, _| !members.was_removed(*node));
    }

    fn heard_of(&self, node: NodeId, address: &str) {
        let address = self.told.get(&node).map_or(address, String::as_str);
        let mut ways = self.ways.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if node == self.identity.me || address.is_empty() || ways.get(&node).is_some_and(|way| way.address == address) {
            return;
        }
        match self.way_to(node, address) {
            Ok(way) => drop(ways.insert(node, way)),
            Err(why) => tracing::error!(%node, address, "the address of a node cannot be used: {why}"),
        }
    }

    fn send(&self, to: NodeId, message: ToPeer) {
        let ways = self.ways.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(way) = ways.get(&to)
            && let Ok(room) = way.room.clone().try_acquire_many_owned(kib(message.weight()))
        {
            let _full = way.queue.try_send((message, room));
        }
    }

    fn snapshot(&self, from: NodeId) -> Receiver<Result<Part, String>> {
        let (tell, told) = sync_channel(8);
        let channel = self.bulk_to(from);
        let request = SnapshotRequest {
            cluster: self.identity.cluster.get().copied().unwrap_or(ClusterId(1)),
            node: self.identity.me,
            index: 1,
        };
        self.bulk.spawn(async move {
            let outcome = match channel {
                Some(channel) => fetch_snapshot(channel, request, &tell, GIVER_PATIENCE).await,
                None => Err(format!("node {from} is not known")),
            };
            if let Err(why) = outcome {
                let _gone = tokio::task::spawn_blocking(move || tell.send(Err(why))).await;
            }
        });
        told
    }

    fn put_slice(&self, to: NodeId, id: SliceId, data: Bytes) -> Later<Result<(), SliceFault>> {
        let channel = self.bulk_to(to);
        Box::pin(async move {
            let mut client = slices_client(channel)?;
            let put = PutSlice { id, data, replica_only: true };
            let placed = client.put(v1::PutSlice::from(put)).await.map_err(|_| SliceFault::Unreachable)?;
            match Placed::try_from(placed.into_inner()) {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(failure)) => Err(fault_of(failure.problem)),
                Err(_) => Err(SliceFault::Unreachable),
            }
        })
    }

    fn get_slice(&self, from: NodeId, part: SlicePart) -> Later<Result<Bytes, SliceFault>> {
        let channel = self.bulk_to(from);
        Box::pin(async move {
            let mut client = slices_client(channel)?;
            let get = GetSlice { id: part.id, at: part.at, len: part.len, nodes: Vec::new() };
            let got = client.get(v1::GetSlice::from(get)).await.map_err(|_| SliceFault::Unreachable)?;
            match SliceBytes::try_from(got.into_inner()) {
                Ok(Ok(data)) if data.len() == part.len as usize => Ok(data),
                Ok(Err(failure)) => Err(fault_of(failure.problem)),
                Ok(Ok(_)) | Err(_) => Err(SliceFault::Unreachable),
            }
        })
    }
}

fn slices_client(channel: Option<Channel>) -> Result<SlicesClient<Channel>, SliceFault> {
    let channel = channel.ok_or(SliceFault::Unreachable)?;
    Ok(SlicesClient::new(channel)
        .max_decoding_message_size(SLICE_MESSAGE_MAX)
        .max_encoding_message_size(SLICE_MESSAGE_MAX))
}

fn fault_of(problem: SliceProblem) -> SliceFault {
    match problem {
        SliceProblem::Missing => SliceFault::Missing,
        SliceProblem::Damaged => SliceFault::Damaged,
        SliceProblem::Full => SliceFault::Full,
        SliceProblem::Refused => SliceFault::Unreachable,
    }
}

/// A giver that says nothing for so long is given up: its disk may hang while its connection lives, and until the fetch has ended
/// this node takes a state from nobody else.
const GIVER_PATIENCE: Duration = Duration::from_secs(20);

async fn within<T>(patience: Duration, answer: impl Future<Output = Result<T, tonic::Status>>) -> Result<T, String> {
    match tokio::time::timeout(patience, answer).await {
        Ok(answer) => answer.map_err(|status| status.to_string()),
        Err(_) => Err(format!("whoever gives it said nothing for {patience:?}")),
    }
}

async fn fetch_snapshot(
    channel: Channel,
    request: SnapshotRequest,
    tell: &SyncSender<Result<Part, String>>,
    patience: Duration,
) -> Result<(), String> {
    let mut client = PeersClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
    let request = v1::SnapshotRequest::from(request);
    let mut chunks = within(patience, client.snapshot(request)).await?.into_inner();
    while let Some(chunk) = within(patience, chunks.message()).await? {
        if crc32c::crc32c(&chunk.data) != chunk.crc {
            return Err("a chunk was damaged on the way".into());
        }
        let part: Part = postcard::from_bytes(&chunk.data).map_err(|e| format!("a chunk is not understood: {e}"))?;
        let tell = tell.clone();
        // The taker writes at the disk's pace; waiting for it must not hold up the runtime.
        let sent = tokio::task::spawn_blocking(move || tell.send(Ok(part)).is_ok()).await;
        if !sent.unwrap_or(false) {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// As one whose disk hangs: its connection lives.
    #[tokio::test]
    async fn a_giver_that_says_nothing_is_given_up() {
        let giver = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", giver.local_addr().unwrap());
        let _silent = tokio::spawn(async move { giver.accept().await });
        let channel = Endpoint::from_shared(address).unwrap().connect_lazy();
        let request = SnapshotRequest { cluster: ClusterId(1), node: NodeId(2), index: 1 };
        let (tell, _told) = sync_channel(1);
        let fetched = fetch_snapshot(channel, request, &tell, Duration::from_millis(50)).await;
        assert!(fetched.unwrap_err().contains("said nothing for 50ms"));
    }
}
