//! What runs on a node: its storage.

pub mod storage;
