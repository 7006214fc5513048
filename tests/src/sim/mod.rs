//! # The simulator
//!
//! N nodes' machines and M mounts' machines, and everything around them played from one seed: clocks that drift and jump,
//! a network that loses, repeats, reorders and is cut, disks that forget or tear what was not synced, processes that die, freeze
//! and are killed. Nothing here sleeps: time is a number, and the next event is the next thing that happens.
//!
//! ```text
//!              workload (processes)                     faults
//!                    | calls                              | crash, cut, pause, jump, wipe
//!   mount  = MountMachine + its shell's double            v
//!                    | ordered streams that break  --  network
//!   node   = NodeMachine  + its shell's double     --  disk (log, state store, slices)
//!                    |
//!                 history  -->  check/*  -->  verdict
//! ```
//!
//! A run has two phases: *faults*, and then *calm*, in which everything is healed and every call must finish, all nodes
//! must come to the same state, and whatever was acknowledged must be there.
//!
//! Invariants: nothing depends on the order of a hash map, on a clock or on an address, so a seed is a run; the trace's
//! hash covers every event that was delivered.

mod builds;
mod check;
mod clock;
mod data;
mod disk;
mod faults;
mod history;
mod kernel;
mod members;
mod mount;
mod network;
mod node;
mod planted;
mod putting;
mod rng;
mod run;
mod slices;
mod trace;
mod workload;
mod world;

pub use planted::Planted;
pub use run::{Failure, Plan, Size, Stats, Verdict, run};
