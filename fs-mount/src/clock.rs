//! The mount's clock: it never goes back, and goes on while the machine is suspended.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Since the machine was started.
pub(crate) fn now() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
