//! # Patience: what waits is told of, and waits no longer than it was told
//!
//! A call that takes long says so in the log, with what it is about and what it waits for. If the mount is *soft*, it fails
//! with ETIMEDOUT when its time is over; a change that was sent by then may still happen. If it is *hard*, as is usual, it
//! goes on waiting and is told of again and again.

use super::flow::{Running, Want};
use super::{Call, CallId, MountMachine, Output};
use crate::meta::locks::InTheWay;
use crate::types::{Errno, Ino};

/// What takes longer is told of.
const WORTH_TELLING_US: u64 = 2_000_000;

/// How long a program waits at most, and what then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Microseconds.
    pub lasts: u64,
    /// Give up then; else only tell.
    pub soft: bool,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { lasts: 30_000_000, soft: false }
    }
}

/// A call that waits, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slow {
    pub what: &'static str,
    pub about: Option<Ino>,
    pub waits_for: String,
    /// For so long already, in microseconds.
    pub since: u64,
    /// It fails now.
    pub gives_up: bool,
}

/// Who has the lock, as far as it is known, and for how long the mount has known: it may have been held before.
fn a_lock(in_the_way: Option<(&InTheWay, u64)>) -> String {
    let Some((InTheWay { lock, client, waits }, micros)) = in_the_way else { return "a lock that others hold".into() };
    let (pid, seconds) = (lock.pid, micros / 1_000_000);
    match waits {
        false => format!("a lock that process {pid} on {client} has held for {seconds} s at least"),
        true => format!("a lock that process {pid} on {client} waits for too, and came first"),
    }
}

impl MountMachine {
    pub(super) fn tick_patience(&mut self) {
        let (now, patience) = (self.now, self.config.patience);
        let is_due = |running: &Running| {
            let waited = now.saturating_sub(running.began);
            let over = patience.soft && waited >= patience.lasts && !running.gave_up;
            over || waited >= WORTH_TELLING_US && running.told_at.is_none_or(|told| now >= told + patience.lasts)
        };
        let programs = self.running.iter().filter(|(id, _)| super::locks::is_a_programs(**id));
        let due: Vec<CallId> = programs.filter(|(_, running)| is_due(running)).map(|(id, _)| *id).collect();
        for id in due {
            self.lose_patience(id);
        }
    }

    fn lose_patience(&mut self, id: CallId) {
        let (now, patience, up) = (self.now, self.config.patience, self.link.is_up());
        let Some(running) = self.running.get_mut(&id) else { return };
        let since = now.saturating_sub(running.began);
        let gives_up = patience.soft && since >= patience.lasts;
        let waits_for = match &running.want {
            _ if !up => "a node that can be reached".into(),
            Some(Want::Turn { .. }) => a_lock(running.in_the_way.as_ref().map(|(what, at)| (what, now - at))),
            Some(Want::Ask(_)) => "an answer".into(),
            Some(Want::Do(_)) => "a change to be committed".into(),
            Some(Want::Put(_)) => "data to be stored".into(),
            Some(Want::Get(_)) => "data".into(),
            None => "the groups of its caller".into(),
        };
        let waits_for_turn = matches!(running.want, Some(Want::Turn { .. }));
        running.told_at = Some(now);
        running.gave_up = gives_up;
        let (what, about) = (running.call.name(), running.call.about());
        self.out.push(Output::Slow(Slow { what, about, waits_for, since, gives_up }));
        match gives_up {
            false => {}
            // It takes its place in the queue back first.
            true if waits_for_turn => self.interrupted(id),
            true => {
                // Should it come into the queue after all, it must not stay there, nor be given to nobody.
                let withdrawn = self.running.get(&id).and_then(|running| running.call.place_in_queue(id));
                self.finish(id, Err(Errno::ETIMEDOUT));
                if let Some(cancel) = withdrawn {
                    self.begin_own(Call::Do(cancel.into()));
                }
            }
        }
    }
}
