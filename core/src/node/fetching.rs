//! How far a node is with what it lacks: copies that are listed there and are not on its disk, or are damaged.
//!
//! A walk ([`super::repair`]) fetches what it comes by, and on an empty disk that takes as long as all of it takes. So from where
//! it first comes by something it is counted what it will come by, some steps ahead of it. Where nothing is lacked nothing is
//! counted.

use super::pace::Pace;
use super::view::Reader;
use crate::meta::{Fault, Key, Value};
use crate::types::{NodeId, SessionId, SliceId};

/// Steps that are looked ahead for each step of the walk: far quicker than anything is fetched.
const STEPS_AHEAD: usize = 16;

/// What a node lacks, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetching {
    /// As far as it has counted.
    pub lacks: u64,
    /// How long it takes to fetch all that, as fast as it went lately.
    pub left_us: Option<u64>,
    /// The last walk fetched nothing of it.
    pub in_vain: bool,
}

/// What a walk lacks, counted ahead of it.
#[derive(Debug)]
pub(super) struct Tally {
    /// What was not looked at yet begins here; nothing: all was.
    from: Option<SliceId>,
    counted: u64,
    fetched: u64,
}

/// What is remembered of it from walk to walk.
#[derive(Debug, Default)]
pub(super) struct Lacking {
    now: Fetching,
    pace: Pace,
}

impl Tally {
    /// So many were come by before this slice.
    pub(super) fn new(from: SliceId, counted: u64) -> Tally {
        Tally { from: Some(from), counted, fetched: 0 }
    }

    pub(super) fn look(
        &mut self,
        me: NodeId,
        reader: &Reader,
        most: usize,
        is_here: impl Fn(SliceId) -> bool,
    ) -> Result<(), Fault> {
        let Some(from) = self.from else { return Ok(()) };
        let (most, end) = (most.saturating_mul(STEPS_AHEAD), Key::Session(SessionId(0)));
        let step = reader.with_state(|state| state.range(&Key::Slice(from), &end, most))?;
        let last = step.last().filter(|_| step.len() == most);
        self.from = match last {
            Some((Key::Slice(last), _)) => Some(SliceId { number: last.number + 1, ..*last }),
            _ => None,
        };
        let lacked = |(key, value): &(Key, Value)| match (key, value) {
            (Key::Slice(id), Value::Slice(info)) => info.nodes.contains(&me) && !is_here(*id),
            _ => false,
        };
        self.counted += step.iter().filter(|pair| lacked(pair)).count() as u64;
        Ok(())
    }

    pub(super) fn fetched(&mut self) {
        self.fetched += 1;
    }
}

impl Lacking {
    /// Where a walk is that has come so far.
    pub(super) fn walks(&mut self, now: u64, ahead: Option<&Tally>) -> Fetching {
        let Some(ahead) = ahead else { return self.now };
        let lacks = ahead.counted.saturating_sub(ahead.fetched);
        if ahead.from.is_none() {
            self.is(now, lacks);
        } else {
            self.now.lacks = self.now.lacks.max(lacks);
        }
        self.now
    }

    /// A walk is over, and did not get these.
    pub(super) fn walked(&mut self, now: u64, ahead: Option<&Tally>, lacks: u64) -> Fetching {
        self.is(now, lacks);
        self.now.in_vain = lacks > 0 && ahead.is_none_or(|ahead| ahead.fetched == 0);
        self.now
    }

    fn is(&mut self, now: u64, lacks: u64) {
        self.pace.look(now, lacks);
        self.now.lacks = lacks;
        self.now.left_us = self.pace.left().map(|left| left.as_micros() as u64);
    }
}
