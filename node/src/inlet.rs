//! The way of one stream's messages to the runner. What the runner has not taken yet is bounded: whoever sends more is not read
//! meanwhile, and then TCP holds it back.

use crate::handle::{Event, Events};
use baton_core::node::Input;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Bytes of one stream that wait for the runner. One message is taken whatever its size.
const WAITING_KIB_MAX: u32 = 8 * 1024;

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
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).min(WAITING_KIB_MAX);
        let Ok(room) = self.room.clone().acquire_many_owned(kib).await else { return false };
        self.events.send(Event::Streamed { input, room }).is_ok()
    }
}
