//! # The mount's shell
//!
//! Carries calls between the kernel and the cluster and decides nothing: [`fuse`] is the kernel's side.

pub mod fuse;
