//! # Baton's core
//!
//! Everything that Baton decides, and nothing of how bytes move. Two machines, [`node`]'s and [`mount`]'s, take an input
//! and the time and answer with outputs; they know no socket, disk, clock, thread or random source, so a whole cluster runs
//! in one thread from one seed.
//!
//! ```text
//!   types  <-  meta, session, token   <-  node, mount
//! ```
//!
//! `meta` is the one implementation of POSIX, `session` makes a mount's commands happen exactly once, `node` puts both
//! behind Raft, `mount` is what a mount asks of a node. `token` decides who may change an object and whose copy of it is true;
//! nothing uses it yet.

pub mod limits;
pub mod meta;
pub mod mount;
pub mod node;
pub mod session;
pub mod token;
pub mod types;
