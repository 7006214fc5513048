//! # The node's machine
//!
//! Raft, the namespace and the sessions in one deterministic `step(now, inputs) -> outputs`.

mod messages;

pub use messages::{Batch, Item, Space, ToPeer};
