//! The way of one stream's messages to the runner. What the runner has not taken yet is bounded: whoever sends more is not read
//! meanwhile, and then TCP holds it back.

use crate::handle::{Event, Events};
use baton_core::node::Input;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Bytes of one stream that wait for the runner. One message is taken whatever its size.
const WAITING_KIB_MAX: u32 = 8 * 1024;

/// Bytes as a semaphore counts them, which does not count far enough for bytes.
pub(crate) fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX)
}

pub(crate) struct Inlet {
    events: Events,
    room: Arc<Semaphore>,
}

impl Inlet {
    pub(crate) fn new(events: Events) -> Inlet {
        Inlet { events, room: Arc::new(Semaphore::new(WAITING_KIB_MAX as usize)) }
    }

    /// Answers whether the node still runs.
    pub(crate) async fn tell(&self, input: Input, bytes: usize) -> bool {
        let room = self.room.clone().acquire_many_owned(kib(bytes).min(WAITING_KIB_MAX));
        let Ok(room) = room.await else { return false };
        self.events.send(Event::Streamed { input, room }).is_ok()
    }
}
