//! # The wire
//!
//! What machines say to each other: the `.proto` files under `proto/`, the code generated from them ([`v1`]), and the
//! conversions between that and the core's own types.
//!
//! ```text
//!   core type  --From-->     v1 message  --prost, gRPC-->  v1 message  --TryFrom-->  core type, or BadMessage
//! ```
//!
//! This is the edge at which everything is checked: what comes out of `TryFrom` keeps every bound in
//! [`limits`](baton_core::limits) that can be checked without the state, has names that are names, ids that are not zero
//! and enums that are known. What does not is refused with a [`BadMessage`] that names the field. Nothing here panics on
//! bytes that a stranger chose.
//!
//! Bulk data is never copied: `bytes` fields share the buffer that they were received into.
//!
//! Changing it: fields are added, never reused. Whoever says hello names the versions that it speaks, from [`WIRE_OLDEST`] to
//! [`WIRE_VERSION`]; two that have none in common refuse each other by name. Among nodes one version is *in force*
//! (`baton_core::node`'s `version`), and a node that does not speak it is refused by name too. What an older build would
//! misunderstand, be it a message, an entry, a value or how an entry is carried out, is a change of one constant: `WIRE_VERSION`
//! becomes 11, and what is new happens where the version in force is at least 11. `WIRE_OLDEST` stays where it is, so that nodes
//! get the new build one after the other; it follows in a later build, when nobody should need the old rules any more.

mod answer;
mod bad;
mod copies;
mod field;
mod ops;
mod peer;
mod raft;
mod session;
mod slices;
mod types;

pub use bad::{BadMessage, Why};
pub use peer::{PeerFrame, PeerHello, PeerRefusal, Refusal, SnapshotRequest};
pub use session::in_messages;
pub use slices::{GetSlice, Placed, PutSlice, SliceBytes, SliceFailure, SliceProblem};

use baton_core::limits::SLICE_MAX;
use baton_core::node::Speaks;

/// The code generated from `proto/`: messages, and a client and a server for each service.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("baton.v1");
}

/// What this build speaks. Counts up when an older build could misunderstand a newer one, on the wire, in an entry of the log or
/// in the state.
pub const WIRE_VERSION: u32 = 10;

/// The oldest version that this build speaks with those who know no newer one, and by which it still writes and carries out
/// entries.
pub const WIRE_OLDEST: u32 = 10;

/// Both, for the machine.
pub const SPEAKS: Speaks = Speaks { oldest: WIRE_OLDEST, newest: WIRE_VERSION };

/// The largest message of a stream. The largest legal one is a layout whose [`READ_MAX`](baton_core::limits::READ_MAX)
/// bytes all lie inline (4 MiB); lists of commands are cut to fit by [`in_messages`].
pub const MESSAGE_MAX: usize = 8 * 1024 * 1024;

/// The largest message that carries a slice: the bytes, and room for what stands around them.
pub const SLICE_MESSAGE_MAX: usize = SLICE_MAX + 64 * 1024;

/// Bytes of state in one chunk of a snapshot: large enough that a frame's cost vanishes, small enough that the stream
/// can be stopped.
pub const SNAPSHOT_CHUNK_MAX: usize = 1024 * 1024;

/// What a mount says of itself (host and mount point), in bytes. Whoever greets cuts it to this.
pub const CLIENT_MAX: usize = 512;

/// The bytes that a message takes on the wire.
pub fn size_of(message: &impl prost::Message) -> usize {
    message.encoded_len()
}

/// Nodes that one slice can name. A cluster has a few dozen.
pub const SLICE_NODES_MAX: usize = 256;
