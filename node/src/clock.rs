//! The node's clocks, as the machine takes them.

use baton_core::node::Now;
use baton_core::types::Stamp;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Goes on while the machine is suspended: what was promised until then is over.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Duration);

fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

impl Clock {
    pub fn start() -> Clock {
        Clock(since_boot())
    }

    /// Microseconds since the start; never 0, which the machines use for "never".
    pub fn mono(&self) -> u64 {
        (since_boot() - self.0).as_micros() as u64 + 1
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
