//! Trees of vertices in one thread: explored exhaustively, driven at random, and told as conversations.

mod explore;
mod planted;
mod properties;
mod talks;
mod vertex;
mod world;

pub(super) use planted::Planted;
