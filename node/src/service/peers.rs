use crate::disk::StateSlot;
use crate::handle::Events;
use crate::inlet::Inlet;
use crate::peers::grpc::Identity;
use baton_core::node::Input;
use baton_core::types::NodeId;
use baton_proto::v1::{self, peers_server::Peers};
use baton_proto::{PeerFrame, PeerRefusal, Refusal, SnapshotRequest};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Messages from other nodes, and the whole state for those who are far behind.
pub(crate) struct PeersService {
    pub(crate) identity: Identity,
    pub(crate) peers: Arc<dyn crate::peers::Peers>,
    pub(crate) events: Events,
    pub(crate) state: Arc<StateSlot>,
}

#[tonic::async_trait]
impl Peers for PeersService {
    type MessagesStream = ReceiverStream<Result<v1::PeerFrame, Status>>;
    type SnapshotStream = ReceiverStream<Result<v1::SnapshotChunk, Status>>;

    async fn messages(
        &self,
        request: Request<Streaming<v1::PeerFrame>>,
    ) -> Result<Response<Self::MessagesStream>, Status> {
        let mut incoming = request.into_inner();
        let first = incoming.message().await?.ok_or_else(|| Status::invalid_argument("a peer greets first"))?;
        let PeerFrame::Hello(theirs) = PeerFrame::try_from(first)? else {
            return Err(Status::invalid_argument("a peer greets first"));
        };
        let (outgoing, stream) = mpsc::channel(1);
        let mine = self.identity.hello();
        let judged = match mine.judge(&theirs, None) {
            Ok(()) if self.identity.was_removed(theirs.node) => PeerFrame::Refused(removed(theirs.node)),
            // One that was in the cluster already may be news to this node; one that was not yet must have been taken in.
            Ok(()) if theirs.cluster.is_none() && !self.identity.knows(theirs.node) => {
                let why = "is not one of this cluster's nodes; `baton node --join` makes it one";
                return Err(Status::permission_denied(format!("node {} {why}", theirs.node)));
            }
            Ok(()) => {
                self.peers.heard_of(theirs.node, &theirs.address);
                PeerFrame::Hello(mine)
            }
            Err(refusal) => PeerFrame::Refused(refusal),
        };
        let accepted = matches!(judged, PeerFrame::Hello(_));
        let _gone = outgoing.send(Ok(judged.into())).await;
        if accepted {
            let (identity, events) = (self.identity.clone(), self.events.clone());
            tokio::spawn(listen(theirs.node, incoming, outgoing, identity, events));
        }
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn snapshot(&self, request: Request<v1::SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let request = SnapshotRequest::try_from(request.into_inner())?;
        if self.identity.was_removed(request.node) {
            return Err(Status::permission_denied(removed(request.node).detail));
        }
        let (chunks, stream) = mpsc::channel(8);
        let export = self.state.get().export();
        tokio::task::spawn_blocking(move || {
            for part in export {
                let chunk = part.map_err(|e| Status::internal(e.to_string())).and_then(|part| {
                    let data = postcard::to_allocvec(&part).map_err(|e| Status::internal(e.to_string()))?;
                    Ok(v1::SnapshotChunk { crc: crc32c::crc32c(&data), data: data.into() })
                });
                if chunks.blocking_send(chunk).is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

fn removed(node: NodeId) -> PeerRefusal {
    let detail = format!("node {node} was removed from this cluster");
    PeerRefusal { reason: Refusal::Removed, detail }
}

async fn listen(
    from: NodeId,
    mut incoming: Streaming<v1::PeerFrame>,
    outgoing: mpsc::Sender<Result<v1::PeerFrame, Status>>,
    identity: Identity,
    events: Events,
) {
    let inlet = Inlet::new(events);
    while let Ok(Some(frame)) = incoming.message().await {
        let bytes = baton_proto::size_of(&frame);
        match PeerFrame::try_from(frame) {
            Ok(PeerFrame::Message(message)) => {
                // When it dials again it is told why.
                if identity.was_removed(from) || !inlet.tell(Input::Peer { from, message }, bytes).await {
                    return;
                }
            }
            Ok(PeerFrame::Hello(_) | PeerFrame::Refused(_)) => {}
            Err(bad) => {
                tracing::warn!(%from, "a peer's stream was ended: {bad}");
                let _gone = outgoing.send(Err(bad.into())).await;
                return;
            }
        }
    }
}
