//! The node's clocks, as the machine takes them.

use baton_core::node::Now;
use baton_core::types::Stamp;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    /// Microseconds since the start; never 0, which the machines use for "never".
    pub fn mono(&self) -> u64 {
        self.0.elapsed().as_micros() as u64 + 1
    }

    pub fn now(&self) -> Now {
        Now { mono: self.mono(), real: real() }
    }
}

fn real() -> Stamp {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Stamp::new(since.as_secs() as i64, since.subsec_nanos()),
        Err(before) => Stamp::from_nanos(-(before.duration().as_nanos() as i128)),
    }
}
