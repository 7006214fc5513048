//! Which unlinked files nobody has open any more.
//!
//! An object without links can be opened for a moment more, by who found its name before ([`GRACE_US`]); then not any more, so "I do not have it open" is true for ever once a mount has said it. The
//! leader asks in rounds: every session that lives when a round begins must answer (or end); what none of them holds is
//! reaped. Sessions that begin later cannot hold what was an orphan before. So no open and no close ever costs a commit.

use super::NodeMachine;
use super::messages::{Item, ToPeer};
use crate::meta::ops::Reap;
use crate::meta::{Key, Op, Store};
use crate::types::{Ino, SessionId};
use std::collections::{BTreeMap, BTreeSet};

/// Orphans asked about in one round.
const ROUND_MAX: usize = 8_192;
/// Reaps that may be under way, so that a large deletion does not starve the commands of mounts.
const REAPING_MAX: usize = 1_024;
/// An unanswered round is asked again after this long, and one that found its orphans held is repeated.
const AGAIN_US: u64 = 1_000_000;
/// For so long an object that lost its last name can still be opened.
const GRACE_US: u64 = 1_000_000;

#[derive(Default)]
pub(super) struct Orphans {
    /// Every orphan there is.
    known: BTreeSet<Ino>,
    /// Those that can still be opened, and since when they are orphans.
    young: BTreeMap<Ino, u64>,
    /// Those that some session had open when last asked, and when.
    held: BTreeMap<Ino, u64>,
    /// Those that nobody holds, to be reaped.
    free: BTreeSet<Ino>,
    reaping: BTreeSet<Ino>,
    round: Option<Round>,
    rounds: u64,
}

struct Round {
    number: u64,
    asked: BTreeSet<Ino>,
    unanswered: BTreeSet<SessionId>,
    last_asked: u64,
}

impl Orphans {
    /// Answers whether it has just become one.
    pub(super) fn changed(&mut self, ino: Ino, is_orphan: bool, now: u64) -> bool {
        self.reaping.remove(&ino);
        if is_orphan {
            // A large file is reaped in several steps: as long as it is there, the next one is due.
            if self.known.insert(ino) {
                self.young.insert(ino, now);
                return true;
            }
            self.free.insert(ino);
        } else {
            self.young.remove(&ino);
            self.known.remove(&ino);
            self.held.remove(&ino);
            self.free.remove(&ino);
        }
        false
    }

    pub(super) fn session_ended(&mut self, session: SessionId) {
        if let Some(round) = &mut self.round {
            round.unanswered.remove(&session);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.known.len()
    }
}

impl NodeMachine {
    pub(super) fn load_orphans(&mut self) {
        let (from, to) = (Key::Orphan(Ino(0)), Key::Orphan(Ino(u64::MAX)));
        let known = self.shared.read().range(&from, &to, usize::MAX);
        let Ok(known) = known else { return self.stop("the list of orphans cannot be read") };
        let inos = known.into_iter().filter_map(|(key, _)| if let Key::Orphan(ino) = key { Some(ino) } else { None });
        // Round numbers go on: an answer to a round of an earlier leadership must not count for one of this.
        let rounds = self.raw.raft.term << 32;
        self.lead.orphans = Orphans { known: inos.collect(), rounds, ..Orphans::default() };
    }

    pub(super) fn tick_orphans(&mut self) {
        if !self.lead.settled() {
            return;
        }
        self.finish_round();
        if self.lead.orphans.round.is_none() {
            self.start_round();
        }
        self.ask_round();
        self.reap_free();
    }

    fn start_round(&mut self) {
        let now = self.now.mono;
        let orphans = &mut self.lead.orphans;
        let due = |ino: &&Ino| {
            !orphans.free.contains(ino)
                && !orphans.reaping.contains(ino)
                && orphans.held.get(ino).is_none_or(|at| now >= at + AGAIN_US)
                && orphans.young.get(ino).is_none_or(|at| now >= at + GRACE_US)
        };
        let asked: BTreeSet<Ino> = orphans.known.iter().filter(due).take(ROUND_MAX).copied().collect();
        if asked.is_empty() {
            return;
        }
        // From now on nobody can open them: only then is it asked who has.
        let mut view = self.shared.write();
        for ino in &asked {
            orphans.young.remove(ino);
            view.just_unlinked.remove(ino);
        }
        drop(view);
        orphans.rounds += 1;
        let unanswered = self.sessions.keys().copied().collect();
        orphans.round = Some(Round { number: orphans.rounds, asked, unanswered, last_asked: 0 });
    }

    fn ask_round(&mut self) {
        let now = self.now.mono;
        let Some(round) = &mut self.lead.orphans.round else { return };
        if round.unanswered.is_empty() || (round.last_asked != 0 && now < round.last_asked + AGAIN_US) {
            return;
        }
        round.last_asked = now;
        let (number, inos): (u64, Vec<Ino>) = (round.number, round.asked.iter().copied().collect());
        for to in self.others() {
            self.send(to, ToPeer::WhoHolds { round: number, inos: inos.clone() });
        }
        self.ask_mounts_who_holds(number, inos);
    }

    pub(super) fn session_holds(&mut self, number: u64, session: SessionId, inos: &[Ino]) {
        let now = self.now.mono;
        let orphans = &mut self.lead.orphans;
        let Some(round) = orphans.round.as_mut().filter(|round| round.number == number) else { return };
        if round.unanswered.remove(&session) {
            for ino in inos {
                if round.asked.remove(ino) {
                    orphans.held.insert(*ino, now);
                }
            }
        }
        self.finish_round();
        self.reap_free();
    }

    fn finish_round(&mut self) {
        let orphans = &mut self.lead.orphans;
        if let Some(round) = orphans.round.take_if(|round| round.unanswered.is_empty()) {
            let still = round.asked.into_iter().filter(|ino| orphans.known.contains(ino));
            orphans.free.extend(still);
        }
    }

    fn reap_free(&mut self) {
        let orphans = &mut self.lead.orphans;
        while orphans.reaping.len() < REAPING_MAX
            && let Some(ino) = orphans.free.pop_first()
        {
            orphans.reaping.insert(ino);
            self.lead.queue.push(Item::Own(Op::Reap(Reap { ino })));
        }
    }
}
