//! # The mount's machine
//!
//! What a mount asks of its node, in one deterministic `step(now, input) -> outputs`.

mod call;

pub use call::{Call, Done, Handle};
