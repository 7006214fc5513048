//! What happened, as one number and, for people, as lines.

use super::rng::mix;
use std::collections::VecDeque;

/// Lines kept for the report of a failure.
const LINES_KEPT: usize = 60;

#[derive(Debug, Default)]
pub(super) struct Trace {
    hash: u64,
    events: u64,
    print: bool,
    lines: VecDeque<String>,
}

impl Trace {
    pub(super) fn new(print: bool) -> Trace {
        Trace { print, ..Trace::default() }
    }

    /// Every delivered event goes in: when, what and to whom.
    pub(super) fn event(&mut self, at: u64, what: u64, whom: u64) {
        self.events += 1;
        self.hash = mix(self.hash ^ at.wrapping_mul(31) ^ mix(what) ^ whom.rotate_left(48)).wrapping_add(1);
    }

    /// More of the same event.
    pub(super) fn detail(&mut self, of: u64) {
        self.hash = mix(self.hash.wrapping_add(of));
    }

    pub(super) fn prints(&self) -> bool {
        self.print
    }

    pub(super) fn line(&mut self, at: u64, text: impl FnOnce() -> String) {
        if self.print {
            println!("{:>12.6} {}", at as f64 / 1e6, text());
        }
    }

    /// A line worth keeping for the report whether or not everything is printed.
    pub(super) fn note(&mut self, at: u64, text: impl FnOnce() -> String) {
        let line = format!("{:>12.6} {}", at as f64 / 1e6, text());
        if self.print {
            println!("{line}");
        }
        if self.lines.len() == LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }

    pub(super) fn tail(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}
