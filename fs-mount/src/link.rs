use baton_core::meta::Query;
use baton_core::mount::{SliceFault, SlicePart};
use baton_core::session::{Reply, ToNode};
use baton_core::types::{Cred, NodeId, SliceId};
use bytes::Bytes;

pub type OnPlaced = Box<dyn FnOnce(Result<Vec<NodeId>, SliceFault>) + Send>;
pub type OnParts = Box<dyn FnOnce(Result<Vec<Bytes>, SliceFault>) + Send>;

/// The way to a node. Whoever makes one tells the [`Client`](crate::Client) with `Input::Linked` and `Input::Unlinked` when
/// it stands and when it broke, and with `Input::Node` what comes.
pub trait Link: Send + Sync {
    /// Sends in order, or not at all if the link is down. Called with the machine locked: must neither block nor call back.
    fn tell(&self, message: ToNode);

    /// The answer to a question, if it can be had on this thread without waiting.
    fn ask_now(&self, _cred: &Cred, _query: &Query) -> Option<Reply> {
        None
    }

    /// Stores a slice; `done` is called from any thread, perhaps before this returns.
    fn put(&self, id: SliceId, data: Bytes, done: OnPlaced);

    /// Reads parts of slices, all of them.
    fn get(&self, parts: Vec<SlicePart>, done: OnParts);
}
