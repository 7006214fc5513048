//! # The node's shell
//!
//! Carries bytes in and out of [`NodeMachine`](baton_core::node::NodeMachine), which decides everything.
//!
//! ```text
//!   gRPC (service) --+                       +--> disk: log thread, store thread   (Raft log, state)
//!   mounts in the    +--> runner: one task,  |
//!   same process   --+    the machine's only +--> peers: gRPC, or the same process
//!   peers          --+    owner              |
//!                                            +--> mounts
//!   slices: stored, replicated, repaired beside the machine; file data never passes through it
//! ```
//!
//! One thread and one single-threaded runtime a node: waking another core is half of every round trip on small machines.

mod clock;
pub mod config;
mod daemon;
mod disk;
mod handle;
mod inlet;
mod merging;
mod own_disk;
mod peers;
mod repair;
mod room;
mod runner;
mod service;
mod slices;
pub mod storage;
pub mod topology;
mod waits;

pub use clock::Clock;
pub use config::NodeConfig;
pub use daemon::{Links, Node, NodeError, claim, listen, prepare, start_on, whose};
pub use handle::{MountConn, NodeHandle, NotBroken, NotChanged, NotFrozen};
pub use own_disk::BULK_THREADS;
pub use peers::local::LocalNet;
pub use slices::Slices;
pub use topology::IpList;
