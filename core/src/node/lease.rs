//! The leader's lease: for how long it may answer questions from its own state.
//!
//! With every heartbeat the leader sends a *beat* with its own clock on it; a follower answers with a *promise* that names
//! that beat: for [`PROMISE_US`] from when the beat arrived it elects nobody else. So once a majority has promised, nobody
//! can lead before the shortest of these promises is over, and the leader may read without asking anyone until then. It
//! counts from when it *sent* the beat, and only [`LEASE_US`], which leaves a quarter for clocks that run at different speeds.
//!
//! A node that starts has forgotten what it promised, and so behaves as if it had just promised.

use crate::types::NodeId;
use std::collections::BTreeMap;

/// How long a follower elects nobody else after a beat.
pub(super) const PROMISE_US: u64 = 1_500_000;
/// How long the leader relies on a promise, from when it sent the beat.
pub(super) const LEASE_US: u64 = 1_100_000;

/// A clock may be wrong by one part in so many, in either direction, and a bit more.
pub(super) const CLOCK_MARGIN: u64 = 4;

/// When the newest beat was sent that a node promised on, and which life of its it was.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Promised {
    pub(super) sent: u64,
    pub(super) life: u64,
    /// Its disk hangs.
    pub(super) hangs: bool,
    /// The newest version that it speaks.
    pub(super) speaks: u32,
}

#[derive(Debug, Default)]
pub(super) struct Lease {
    term: u64,
    /// By node; of voters only they count for the lease.
    promised: BTreeMap<NodeId, Promised>,
}

impl Lease {
    pub(super) fn promise(&mut self, term: u64, from: NodeId, promised: Promised) {
        if term != self.term {
            return;
        }
        let newest = self.promised.entry(from).or_default();
        if promised.sent >= newest.sent {
            *newest = promised;
        }
    }

    /// What this node promised last in this term.
    pub(super) fn promised_by(&self, node: NodeId) -> Option<Promised> {
        self.promised.get(&node).copied()
    }

    /// A new leadership begins; nobody promised anything yet.
    pub(super) fn start(&mut self, term: u64) {
        self.term = term;
        self.promised.clear();
    }

    /// Until when a majority of the voters (`me` among them) elects nobody else.
    pub(super) fn until(&self, me: NodeId, voters: &[NodeId], now: u64) -> u64 {
        let mut sent: Vec<u64> =
            voters.iter().map(|v| if *v == me { now } else { self.promised.get(v).map_or(0, |p| p.sent) }).collect();
        sent.sort_unstable_by(|a, b| b.cmp(a));
        match sent.get(voters.len() / 2) {
            Some(0) | None => 0,
            Some(quorum) => quorum + LEASE_US,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_makes_the_lease() {
        let [a, b, c] = [NodeId(1), NodeId(2), NodeId(3)];
        let voters = [a, b, c];
        let at = |sent| Promised { sent, life: 1, hangs: false, speaks: 1 };
        let mut lease = Lease::default();
        lease.start(5);
        assert_eq!(lease.until(a, &voters, 1000), 0);
        lease.promise(4, b, at(900));
        assert_eq!(lease.until(a, &voters, 1000), 0, "a promise of another term counts nothing");
        lease.promise(5, b, at(700));
        assert_eq!(lease.until(a, &voters, 1000), 700 + LEASE_US);
        lease.promise(5, c, at(800));
        lease.promise(5, c, at(600));
        assert_eq!(lease.until(a, &voters, 1000), 800 + LEASE_US);
        assert_eq!(lease.until(a, &[a], 1000), 1000 + LEASE_US);
    }
}
