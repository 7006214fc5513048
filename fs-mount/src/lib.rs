//! # The mount's shell
//!
//! Carries calls between the kernel and the cluster and decides nothing.
//!
//! ```text
//!   kernel -- fuse::Adapter -- Client (owns the MountMachine) -- Link -- a node
//! ```
//!
//! [`fuse`] is the kernel's side, [`Client`] carries out what the machine says, a [`Link`] reaches a node: [`grpc`] over the
//! network; whoever runs a node in the same process brings a shorter one.

mod client;
mod clock;
pub mod figures;
pub mod fuse;
mod grpc;
mod link;

pub use client::{Calls, Client, ClientOptions};
pub use grpc::{GrpcLink, GrpcOptions};
pub use link::{Link, OnParts, OnPlaced};
