//! # Merging: small writes leave the state
//!
//! What programs write in small pieces lies inline in the state, on every node, however many there are. The leader sees to it
//! that what lies together of it becomes slices, which three nodes keep.
//!
//! ```text
//!   apply: inline bytes in a file  --noted-->  the file was quiet for a while, or much was written
//!                                                  |
//!   Output::Merge (this range, into this slice) <--+          the leader's shell looks, stores the slice
//!   Input::Looked --> Own(Merge) into the log --> every node: the same bytes still? then they are the slice's
//!                                                             else nothing, and the slice goes
//! ```
//!
//! * A leader goes over all files once when it has led for a while, and after that looks where it saw inline bytes written: what
//!   it cannot remember makes it go over all files again.
//! * One order is out at a time, and after each it rests for as long as that took: programs come first. While much waits for the
//!   state store, or to be proposed, there is none.
//! * Bytes that all nodes have are kept by three afterwards, and never by fewer: where not enough nodes are there, they stay.
//! * Whether a merge holds is decided when it is applied ([`Merge`](crate::meta::ops::Merge)). It changes nothing that anybody
//!   reads, so no copy is taken back and no token moves.
//!
//! **Whose slices these are.** A merged slice belongs to no session: its number is the term of the leader that ordered it, and
//! that leader's count. A leader proposes the merges of its term in the order of their slices, one after the other. So one that
//! nothing refers to is of no use any more when a later one was applied, or any entry of a later term: its own is before that, or
//! nowhere ([`Reader::garbage`]). Where its merge was refused it goes at once.

use super::io::Output;
use super::messages::Item;
use super::view::Reader;
use super::{NodeMachine, STORE_AT};
use crate::meta::ops::Merge;
use crate::meta::{Content, Extent, Fault, Gather, Gathered, InlineRun, Key, Place, RunSizes, Store};
use crate::session::Reply;
use crate::types::{Ino, SessionId, SliceId};
use std::collections::{BTreeMap, VecDeque};

/// Whether it is quiet or not, after so many inline bytes, in slices of the largest size.
const MUCH: u64 = 4;
/// Files remembered at most.
const NOTED_MAX: usize = 4_096;
/// A leader goes over all files when it has led for as long as makes so many files quiet, one after the other.
const LED: u64 = 6;
/// A slice could not be stored: for so long none is tried, and each time for twice as long, so many times.
const AGAIN_US: u64 = 5_000_000;
const AGAIN_TWICE: u32 = 6;
/// An order that is not answered for so long will not be.
const ANSWERED_US: u64 = 120_000_000;
/// Of a file that is still written to, this part must have been written of the range, or looking for runs is in vain.
const DENSE: u64 = 4;
/// Steps of looking for one order: some thousand extents.
const STEPS: usize = 64;

/// What is merged.
#[derive(Clone, Copy, Debug)]
pub struct MergeRule {
    pub sizes: RunSizes,
    /// A file that nothing was written to for so long is quiet.
    pub quiet_us: u64,
}

impl Default for MergeRule {
    /// Less than a write that comes as a slice stays where it is; and an entry that some hundred extents go with is applied in a
    /// few milliseconds.
    fn default() -> MergeRule {
        MergeRule { sizes: RunSizes { least: 64 << 10, most: 1 << 20 }, quiet_us: 5_000_000 }
    }
}

impl MergeRule {
    fn led_us(self) -> u64 {
        LED * self.quiet_us
    }
}

/// For the shell: look for a run of small writes between these places ([`Reader::look_for_run`]), store it as this slice if there
/// is one, and answer with [`Input::Looked`](super::Input::Looked).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeOrder {
    pub slice: SliceId,
    pub from: Place,
    pub to: Place,
    sizes: RunSizes,
}

/// What was found for an order, and from where on there may be more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    pub run: Option<InlineRun>,
    pub next: Option<Place>,
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merged {
    /// There was something to merge, which is stored now, or nothing; and from where on there may be more.
    Looked { merge: Option<Merge>, next: Option<Place> },
    /// It could not be stored, or not be looked for.
    Failed,
}

#[derive(Default)]
pub(super) struct Merging {
    noted: BTreeMap<Ino, Noted>,
    /// The rests of files that were looked at in part.
    rests: VecDeque<(Place, Place)>,
    /// Whose turn it is: a rest's, or behind which file a new one's.
    rests_turn: bool,
    behind: Ino,
    walk: Option<Walk>,
    order: Option<Order>,
    orders: u64,
    /// Nothing is ordered before.
    pause_until: u64,
    /// How often in turn a slice could not be stored.
    failures: u32,
    rule: MergeRule,
}

/// Going over all files.
struct Walk {
    at: Place,
    /// Not before.
    from: u64,
    /// Once more: something was not noted meanwhile.
    again: bool,
}

/// Where inline bytes were written to a file, how many, and when last.
struct Noted {
    from: u64,
    to: u64,
    bytes: u64,
    at: u64,
}

/// The order that is out.
struct Order {
    slice: SliceId,
    from: Place,
    to: Place,
    since: u64,
    walks: bool,
}

impl Walk {
    fn begins(from: u64) -> Walk {
        Walk { at: Place::FIRST, from, again: false }
    }
}

impl Merging {
    pub(super) fn new(rule: MergeRule, now: u64) -> Merging {
        let walk = Some(Walk::begins(now + rule.led_us()));
        Merging { walk, rule, ..Merging::default() }
    }

    fn note(&mut self, ino: Ino, start: u64, end: u64, now: u64) {
        if self.noted.len() >= NOTED_MAX && !self.noted.contains_key(&ino) {
            match &mut self.walk {
                Some(walk) => walk.again |= walk.at > Place::FIRST,
                None => self.walk = Some(Walk::begins(now + self.rule.led_us())),
            }
            return;
        }
        let noted = self.noted.entry(ino).or_insert(Noted { from: start, to: end, bytes: 0, at: now });
        noted.from = noted.from.min(start);
        noted.to = noted.to.max(end);
        noted.bytes += end - start;
        noted.at = now;
    }

    /// Where to look next, and whether that is the walk over all files.
    fn next(&mut self, now: u64) -> Option<(Place, Place, bool)> {
        self.rests_turn = !self.rests_turn;
        if self.rests_turn
            && let Some((from, to)) = self.rests.pop_front()
        {
            return Some((from, to, false));
        }
        if let Some(ino) = self.due(now)
            && let Some((from, to)) = self.begin(ino, now)
        {
            self.behind = ino;
            return Some((from, to, false));
        }
        if let Some((from, to)) = self.rests.pop_front() {
            return Some((from, to, false));
        }
        let walk = self.walk.as_ref().filter(|walk| now >= walk.from)?;
        Some((walk.at, Place::LAST, true))
    }

    fn is_quiet(&self, noted: &Noted, now: u64) -> bool {
        now >= noted.at + self.rule.quiet_us
    }

    /// The next file that is to be looked at, in turn.
    fn due(&self, now: u64) -> Option<Ino> {
        let is_much =
            |noted: &Noted| noted.bytes >= MUCH * self.rule.sizes.most && noted.bytes * DENSE >= noted.to - noted.from;
        let is_due = |(_, noted): &(&Ino, &Noted)| self.is_quiet(noted, now) || is_much(noted);
        let (before, behind) = (self.noted.range(..=self.behind), self.noted.range(Ino(self.behind.0 + 1)..));
        behind.chain(before).find(is_due).map(|(ino, _)| *ino)
    }

    /// What of this file is looked at now.
    fn begin(&mut self, ino: Ino, now: u64) -> Option<(Place, Place)> {
        let sizes = self.rule.sizes;
        let is_quiet = self.is_quiet(self.noted.get(&ino)?, now);
        let noted = self.noted.get_mut(&ino)?;
        // What was too little the last time may be enough together with this.
        let from = Place { ino, offset: noted.from.saturating_sub(sizes.least) };
        let mut to = noted.to;
        if is_quiet {
            self.noted.remove(&ino);
        } else {
            // The last bytes are about to be written, or to be more.
            to = noted.to.saturating_sub(sizes.most).max(noted.from);
            (noted.from, noted.bytes) = (to, 0);
        }
        Some((from, Place { ino, offset: to.saturating_add(1) }))
    }

    /// An order has come to an end: from where on there may be more of what it was about.
    fn goes_on(&mut self, order: &Order, next: Option<Place>, now: u64) {
        match (next, &mut self.walk) {
            (next, _) if !order.walks => self.rests.extend(next.map(|at| (at, order.to))),
            (Some(at), Some(walk)) => walk.at = at,
            (None, Some(Walk { again: true, .. })) => self.walk = Some(Walk::begins(now + self.rule.led_us())),
            (None, _) => self.walk = None,
            (Some(_), None) => {}
        }
    }
}

impl NodeMachine {
    /// Where inline bytes are put, there may be something to merge; a file that is shorter than what is merged stays as it is.
    pub(super) fn note_inline(&mut self, ino: Ino, end: u64, extent: &Extent) {
        let is_inline = matches!(extent.content, Content::Inline(_));
        if is_inline && end >= self.config.merge.sizes.least && self.is_leader() {
            self.lead.merging.note(ino, extent.start, end, self.now.mono);
        }
    }

    pub(super) fn tick_merging(&mut self) {
        let now = self.now.mono;
        let _lost = self.lead.merging.order.take_if(|order| now >= order.since + ANSWERED_US);
        let merging = &self.lead.merging;
        if merging.order.is_some() || now < merging.pause_until || !self.lead.settled() {
            return;
        }
        if self.lead.queue.own_waits() || self.shared.read().waiting() > STORE_AT {
            return;
        }
        if let Some((from, to, walks)) = self.lead.merging.next(now) {
            self.order_merge(from, to, walks);
        }
    }

    fn order_merge(&mut self, from: Place, to: Place, walks: bool) {
        let term = self.raw.raft.term;
        let merging = &mut self.lead.merging;
        merging.orders += 1;
        let slice = slice_of(term, merging.orders);
        merging.order = Some(Order { slice, from, to, since: self.now.mono, walks });
        self.out.push(Output::Merge(MergeOrder { slice, from, to, sizes: self.config.merge.sizes }));
    }

    /// What came of an order. One of an earlier lead is nobody's any more.
    pub(super) fn merge_looked(&mut self, slice: SliceId, merged: Merged) {
        let now = self.now.mono;
        let merging = &mut self.lead.merging;
        let Some(order) = merging.order.take_if(|order| order.slice == slice) else { return };
        merging.pause_until = now + (now - order.since);
        let next = match merged {
            Merged::Looked { merge, next } => {
                merging.failures = 0;
                merge.into_iter().for_each(|merge| self.lead.queue.push(Item::Own(merge.into())));
                next
            }
            Merged::Failed => {
                merging.pause_until = now + (AGAIN_US << merging.failures.min(AGAIN_TWICE));
                merging.failures += 1;
                Some(order.from)
            }
        };
        self.lead.merging.goes_on(&order, next, now);
    }

    /// Every node sees what came of a merge. If the bytes were not what they were when somebody looked, nobody needs the slice,
    /// unless it is there already; and what is there now may be merged later.
    pub(super) fn merge_was_applied(&mut self, merge: &Merge, reply: &Reply) {
        let id = merge.slice.id;
        if matches!(reply, Reply::Failed(_)) {
            self.note_again(merge);
            let there = self.shared.read().get(&Key::Slice(id));
            match there {
                Ok(None) => self.out.push(Output::DropSlices(vec![id])),
                Ok(Some(_)) => {}
                Err(_) => self.stop("the list of slices cannot be read"),
            }
        }
        self.shared.has_merged(id.number);
    }

    pub(super) fn note_again(&mut self, merge: &Merge) {
        if self.is_leader() {
            let end = merge.offset + u64::from(merge.slice.len);
            self.lead.merging.note(merge.ino, merge.offset, end, self.now.mono);
        }
    }
}

/// The slice of a term's leader's order.
fn slice_of(term: u64, order: u64) -> SliceId {
    SliceId { session: SessionId::CLUSTER, number: term << 32 | order }
}

/// Of a slice that belongs to no session: whether the merge that it is for was applied, or will never be, where an entry of this
/// term was applied, and a merge into the slice of this number.
pub(super) fn is_decided(id: SliceId, applied_term: u64, merged: u64) -> Option<bool> {
    let is_decided = || id.number >> 32 < applied_term || id.number <= merged;
    (id.session == SessionId::CLUSTER).then(is_decided)
}

impl Reader {
    /// Looks for the first run of small writes that an order is about.
    pub fn look_for_run(&self, order: &MergeOrder) -> Result<Looked, Fault> {
        let mut gather = Gather::new(order.sizes, order.from, order.to);
        for _ in 0..STEPS {
            match self.with_state(|state| gather.step(state))? {
                Gathered::Run(run) => return Ok(Looked { run: Some(run), next: gather.rest() }),
                Gathered::More => {}
                Gathered::End => return Ok(Looked { run: None, next: None }),
            }
        }
        Ok(Looked { run: None, next: gather.rest() })
    }
}
