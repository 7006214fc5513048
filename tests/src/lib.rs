//! # How Baton is tested as a whole
//!
//! [`sim`] runs whole clusters, with their mounts, networks, disks and clocks, in one thread from one seed.

pub mod harness;
pub mod sim;
