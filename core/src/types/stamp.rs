use serde::{Deserialize, Serialize};

/// A moment in real time, to the nanosecond, as files carry it. May lie before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    pub secs: i64,
    /// Always below 1,000,000,000.
    pub nanos: u32,
}

impl Stamp {
    pub fn new(secs: i64, nanos: u32) -> Stamp {
        debug_assert!(nanos < 1_000_000_000);
        Stamp { secs, nanos: nanos.min(999_999_999) }
    }

    pub fn from_nanos(nanos: i128) -> Stamp {
        Stamp { secs: nanos.div_euclid(1_000_000_000) as i64, nanos: nanos.rem_euclid(1_000_000_000) as u32 }
    }

    pub fn as_nanos(self) -> i128 {
        i128::from(self.secs) * 1_000_000_000 + i128::from(self.nanos)
    }

    /// The next moment: what a clock that stood still or went back is pushed to.
    pub fn just_after(self) -> Stamp {
        Stamp::from_nanos(self.as_nanos() + 1)
    }
}
