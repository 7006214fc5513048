//! The other nodes, as this one reaches them: over gRPC, or in the same process.

pub(crate) mod grpc;
pub(crate) mod local;

use crate::storage::state::snapshot::Part;
use baton_core::mount::{SliceFault, SlicePart};
use baton_core::node::ToPeer;
use baton_core::types::{Members, NodeId, SliceId};
use bytes::Bytes;
use std::pin::Pin;
use std::sync::mpsc::Receiver;

pub(crate) type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

pub(crate) trait Peers: Send + Sync {
    /// These are the nodes now.
    fn members(&self, members: &Members);

    /// A node that this one may not know of yet is reached there.
    fn heard_of(&self, node: NodeId, address: &str);

    /// Sends if the peer can be reached; the machine expects losses.
    fn send(&self, to: NodeId, message: ToPeer);

    /// The whole state of a peer, part by part.
    fn snapshot(&self, from: NodeId) -> Receiver<Result<Part, String>>;

    /// Stores a copy of a slice on a peer.
    fn put_slice(&self, to: NodeId, id: SliceId, data: Bytes) -> Later<Result<(), SliceFault>>;

    /// Reads from a peer's own copy.
    fn get_slice(&self, from: NodeId, part: SlicePart) -> Later<Result<Bytes, SliceFault>>;
}
