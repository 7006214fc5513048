//! # Repair: bringing the slices on a node's disk in line with what the state says
//!
//! Every node walks over all slices of its state, again and again. What is to be done about each is decided here; the shell fetches
//! and deletes, at a pace that leaves the disk to the programs.
//!
//! ```text
//!   begin ── step ── step ── … ── end        a walk; each step answers which copies to make, each of which was `made` or not
//!   to_drop                                  between: copies that need not be here
//! ```
//!
//! * A copy that is listed here and is not on the disk is made. So is one that is missing and that it is this node's turn to make
//!   ([`super::placement`]), and one that it takes over from a fuller disk ([`super::shares`]).
//! * Copies only move after a walk that found everything here, and while no node leaves: what is missing comes first. What the
//!   walk before counted is what the moves are worked out from.
//! * A copy that may be listed here soon is no spare one. If it is not listed after a while, nobody heard of it, and it is.
//! * At its end a walk says what the leader must know before it lets a node or a copy go ([`super::drain`]).

use super::drain::Walk;
use super::fetching::{Fetching, Lacking, Tally};
use super::io::Input;
use super::members::listed;
use super::placement::{copies_wanted, is_full_disk, missing, spare_copy, wants_copy};
use super::shares::Shares;
use super::view::Reader;
use crate::meta::{Fault, Key, SliceInfo, Value};
use crate::types::{Members, NodeId, SessionId, SliceId};
use std::collections::{BTreeMap, BTreeSet};

/// Copies too many that one walk says.
const SPARE_MAX: usize = 50_000;

/// What a node remembers from walk to walk.
#[derive(Debug)]
pub struct Repair {
    me: NodeId,
    listed_within_us: u64,
    /// Slices of which this node was to have a copy, listed nowhere yet, and when it began to make it.
    begun: BTreeMap<SliceId, u64>,
    /// Copies that need not be here, as far as is known.
    spare: BTreeSet<SliceId>,
    /// What the nodes kept when the walk before looked, if copies may move.
    shares: Option<Shares>,
    lacking: Lacking,
}

/// A walk over all slices, under way.
#[derive(Debug)]
pub struct Walking {
    from: SliceId,
    members: Members,
    shares: Option<Shares>,
    now_kept: Shares,
    walk: Walk,
    survey: Survey,
    took: bool,
    ahead: Option<Tally>,
}

/// A copy that is to be made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copying {
    pub id: SliceId,
    pub len: u32,
    /// Who should have one.
    pub nodes: Vec<NodeId>,
    /// The others believe that it is here.
    pub listed: bool,
    pub instead_of: Option<NodeId>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    Copy,
    /// It was here already.
    Known,
    Nothing,
}

/// What a walk found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    pub slices: u64,
    /// Those with fewer copies than they should have.
    pub short: u64,
    /// Bytes that are to move from fuller disks to emptier ones.
    pub to_move: u64,
    /// By node that leaves, those of which it keeps a copy that somebody else should have first.
    pub needed: BTreeMap<NodeId, u64>,
}

/// What a walk came to.
#[derive(Debug)]
pub struct Ended {
    pub walk: Walk,
    pub survey: Survey,
    pub fetching: Fetching,
    /// There is nothing more to do that somebody can do.
    pub all_is_well: bool,
}

impl Copying {
    /// What the cluster must hear when the copy is here.
    pub fn news(&self) -> Option<Input> {
        (!self.listed).then_some(Input::Copied { slice: self.id, instead_of: self.instead_of })
    }
}

impl Walking {
    pub fn made(&mut self, copying: &Copying, made: Made) {
        self.walk.lacks += u64::from(copying.listed && made == Made::Nothing);
        self.took |= copying.instead_of.is_some() && made == Made::Copy;
        if let Some(ahead) = self.ahead.as_mut().filter(|_| copying.listed && made != Made::Nothing) {
            ahead.fetched();
        }
    }
}

impl Survey {
    fn count(&mut self, members: &Members, info: &SliceInfo) {
        self.slices += 1;
        if missing(members, info) > 0 {
            self.short += 1;
            for (_, left) in self.needed.iter_mut().filter(|(node, _)| info.nodes.contains(node)) {
                *left += 1;
            }
        }
    }
}

impl Repair {
    /// `listed_within_us`: what becomes of a copy that was made here is known after so long.
    pub fn new(me: NodeId, listed_within_us: u64) -> Repair {
        Repair {
            me,
            listed_within_us,
            begun: BTreeMap::new(),
            spare: BTreeSet::new(),
            shares: None,
            lacking: Lacking::default(),
        }
    }

    /// This copy need not be here any more, as far as is known.
    pub fn note_spare(&mut self, id: SliceId) {
        self.spare.insert(id);
    }

    /// Looks at so many of the copies that need not be here: those of them that may go, or nothing where none is left to look at.
    pub fn to_drop(&mut self, reader: &Reader, most: usize) -> Option<Vec<SliceId>> {
        let begun = |id: &SliceId| self.begun.contains_key(id);
        let looked: Vec<SliceId> = self.spare.iter().copied().filter(|id| !begun(id)).take(most).collect();
        looked.iter().for_each(|id| _ = self.spare.remove(id));
        let may_go = |id: &SliceId| match reader.with_state(|state| state.get(&Key::Slice(*id))) {
            Ok(Some(Value::Slice(info))) => !info.nodes.contains(&self.me),
            Ok(None) => true,
            _ => false,
        };
        (!looked.is_empty()).then(|| looked.into_iter().filter(may_go).collect())
    }

    /// Begins a walk, if there is a cluster.
    pub fn begin(&mut self, reader: &Reader, now: u64) -> Result<Option<Walking>, Fault> {
        let (young, unheard): (BTreeMap<_, _>, _) =
            std::mem::take(&mut self.begun).into_iter().partition(|(_, at)| at + self.listed_within_us >= now);
        self.begun = young;
        self.spare.extend(unheard.into_keys());
        let began = reader.applied();
        let Some(members) = reader.with_state(|state| listed(state))? else { return Ok(None) };
        let needed = members.leaving().into_iter().map(|node| (node, 0)).collect();
        Ok(Some(Walking {
            from: SliceId { session: SessionId(0), number: 0 },
            now_kept: Shares::new(&members),
            members,
            shares: self.shares.take(),
            walk: Walk { began, ..Walk::default() },
            survey: Survey { needed, ..Survey::default() },
            took: false,
            ahead: None,
        }))
    }

    /// Looks at so many slices more: the copies that are to be made here, or nothing where there are no more slices.
    pub fn step(
        &mut self,
        walking: &mut Walking,
        reader: &Reader,
        now: u64,
        most: usize,
        may_take: bool,
        is_here: impl Fn(SliceId) -> bool,
    ) -> Result<Option<Vec<Copying>>, Fault> {
        let end = Key::Session(SessionId(0));
        let step = reader.with_state(|state| state.range(&Key::Slice(walking.from), &end, most))?;
        let Some((Key::Slice(last), _)) = step.last() else { return Ok(None) };
        walking.from = SliceId { session: last.session, number: last.number + 1 };
        let spaces = reader.spaces();
        let mut orders = Vec::new();
        for (key, value) in step {
            let (Key::Slice(id), Value::Slice(info)) = (key, value) else { continue };
            let instead_of = self.look(walking, id, &info, may_take);
            let listed = info.nodes.contains(&self.me);
            let needed = if listed { !is_here(id) } else { wants_copy(self.me, &walking.members, &spaces, id, &info) };
            if !needed && instead_of.is_none() {
                continue;
            }
            if !listed {
                self.begun.insert(id, now);
            }
            let mut nodes = info.nodes;
            nodes.retain(|node| walking.members.nodes.contains_key(node));
            orders.push(Copying { id, len: info.len, nodes, listed, instead_of });
        }
        let lacked = orders.iter().filter(|copying| copying.listed).count() as u64;
        if walking.ahead.is_none() && lacked > 0 {
            walking.ahead = Some(Tally::new(walking.from, lacked));
        }
        if let Some(ahead) = &mut walking.ahead {
            ahead.look(self.me, reader, most, is_here)?;
        }
        Ok(Some(orders))
    }

    /// How far it is with what is lacked here.
    pub fn fetching(&mut self, walking: &Walking, now: u64) -> Fetching {
        self.lacking.walks(now, walking.ahead.as_ref())
    }

    /// Counts a slice; in whose place this node takes it over.
    fn look(&mut self, walking: &mut Walking, id: SliceId, info: &SliceInfo, may_take: bool) -> Option<NodeId> {
        let Walking { members, shares, now_kept, walk, survey, .. } = walking;
        if info.nodes.contains(&self.me) {
            self.begun.remove(&id);
        }
        survey.count(members, info);
        now_kept.count(info);
        if walk.spare.len() < SPARE_MAX && spare_copy(members, id, info).is_some() {
            walk.spare.push(id);
        }
        let takeover = shares.as_mut()?.takeover(members, info)?;
        survey.to_move += u64::from(info.len);
        if takeover.to != self.me || self.begun.contains_key(&id) || !may_take {
            return None;
        }
        now_kept.moves(takeover, info.len);
        Some(takeover.from)
    }

    /// What the nodes kept when the last walk looked, if copies may move.
    pub fn shares(&self) -> Option<&Shares> {
        self.shares.as_ref()
    }

    pub fn end(&mut self, walking: Walking, reader: &Reader, now: u64) -> Ended {
        let Walking { members, now_kept, mut walk, survey, took, ahead, .. } = walking;
        let fetching = self.lacking.walked(now, ahead.as_ref(), walk.lacks);
        let spaces = reader.spaces();
        // Where too few nodes are left, nobody can make what is missing.
        let has_room = |node: &&NodeId| !spaces.get(*node).is_some_and(is_full_disk);
        let can_be_made = members.keeping().iter().filter(has_room).count() >= copies_wanted(members.staying().len());
        let is_short = survey.short > 0 && can_be_made;
        let may_move = survey.needed.is_empty() && walk.lacks == 0;
        let all_is_well = may_move && !is_short && walk.spare.is_empty() && !took;
        self.shares = may_move.then(|| now_kept.with_room(&spaces));
        walk.drained = survey.needed.iter().filter(|(_, left)| **left == 0).map(|(node, _)| *node).collect();
        Ended { walk, survey, fetching, all_is_well }
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages::Space;
    use super::super::view::Shared;
    use super::*;
    use crate::meta::Memory;
    use crate::types::MemberChange;
    use std::sync::Arc;

    const ME: NodeId = NodeId(4);
    const LISTED_WITHIN_US: u64 = 100;
    const MIB: u32 = 1 << 20;

    fn four() -> Members {
        Members::founding((1..=4).map(|id| (NodeId(id), format!("host:{id}"))))
    }

    fn slice(number: u64) -> SliceId {
        SliceId { session: SessionId(1), number }
    }

    /// A state with these slices, each kept by these nodes, on disks with so many MiB of room.
    fn state(members: &Members, slices: &[&[u64]], room: &[u64]) -> Reader {
        let mut state = Memory::default();
        state.0.insert(Key::Members, Value::Members(members.clone()));
        for (number, nodes) in slices.iter().enumerate() {
            let info = SliceInfo { len: MIB, nodes: nodes.iter().copied().map(NodeId).collect(), refs: 1 };
            state.0.insert(Key::Slice(slice(number as u64)), Value::Slice(info));
        }
        let shared = Shared::new(Arc::new(state), (7, 1));
        let space = |mib| Space { total: 1 << 40, free: crate::limits::DISK_RESERVE + mib * u64::from(MIB) };
        shared.write().spaces = (1..).map(NodeId).zip(room.iter().copied().map(space)).collect();
        Reader(shared)
    }

    /// A walk at this moment in which every order comes to this; what was ordered, and what it came to.
    fn walk(repair: &mut Repair, reader: &Reader, now: u64, here: &[u64], made: Made) -> (Vec<Copying>, Ended) {
        let mut walking = repair.begin(reader, now).unwrap().unwrap();
        let mut ordered = Vec::new();
        let is_here = |id: SliceId| here.contains(&id.number);
        while let Some(orders) = repair.step(&mut walking, reader, now, 2, true, is_here).unwrap() {
            orders.iter().for_each(|copying| walking.made(copying, made));
            ordered.extend(orders);
        }
        (ordered, repair.end(walking, reader, now))
    }

    fn numbers(orders: &[Copying]) -> Vec<u64> {
        orders.iter().map(|copying| copying.id.number).collect()
    }

    #[test]
    fn what_is_listed_here_and_is_not_here_is_lacked_until_it_is_made() {
        let reader = state(&four(), &[&[1, 2, 4], &[1, 2, 3], &[2, 3, 4]], &[]);
        let mut repair = Repair::new(ME, LISTED_WITHIN_US);
        let (orders, ended) = walk(&mut repair, &reader, 0, &[0], Made::Nothing);
        assert_eq!((numbers(&orders), ended.walk.lacks, ended.all_is_well), (vec![2], 1, false));
        assert!(orders[0].listed && orders[0].news().is_none(), "the others think it is here: {orders:?}");
        let (_, ended) = walk(&mut repair, &reader, 1, &[0], Made::Copy);
        assert_eq!((ended.walk.lacks, ended.all_is_well, ended.survey.slices, ended.walk.began), (0, true, 3, 7));
    }

    #[test]
    fn what_is_still_lacked_is_counted_ahead_and_how_long_it_takes_is_known_while_it_is_made() {
        const SECOND: u64 = 1_000_000;
        let listed: Vec<&[u64]> = vec![&[1, 2, 4]; 400];
        let reader = state(&four(), &listed, &[]);
        let mut repair = Repair::new(ME, LISTED_WITHIN_US);
        let mut walking = repair.begin(&reader, 0).unwrap().unwrap();
        let (mut now, mut said) = (0, Vec::new());
        while let Some(orders) = repair.step(&mut walking, &reader, now, 10, true, |_| false).unwrap() {
            now += SECOND;
            orders.iter().for_each(|copying| walking.made(copying, Made::Copy));
            let Fetching { lacks, left_us, in_vain } = repair.fetching(&walking, now);
            said.push((lacks, left_us.map(|us| us / SECOND), in_vain));
        }
        assert_eq!(said[0], (160, None, false), "counting goes on: {said:?}");
        assert_eq!(said[2..5], [(370, None, false), (360, Some(36), false), (350, Some(35), false)], "{said:?}");
        assert_eq!(said.last(), Some(&(0, None, false)));
        let ended = repair.end(walking, &reader, now);
        assert_eq!((ended.fetching, ended.walk.lacks), (Fetching::default(), 0));
        let (_, ended) = walk(&mut repair, &reader, now, &[0], Made::Nothing);
        assert_eq!(ended.fetching, Fetching { lacks: 399, left_us: None, in_vain: true });
        let here: Vec<u64> = (0..400).collect();
        let (_, ended) = walk(&mut repair, &reader, now, &here, Made::Nothing);
        assert_eq!(ended.fetching, Fetching::default());
    }

    #[test]
    fn what_may_be_listed_soon_is_no_spare_copy_and_what_nobody_lists_is() {
        let short = state(&four(), &[&[1, 2]], &[0, 0, 0, 9]);
        let (away, _) = four().after(&MemberChange::Away(NodeId(3))).unwrap();
        let reader = state(&away, &[&[1, 2]], &[0, 0, 0, 9]);
        let mut repair = Repair::new(ME, LISTED_WITHIN_US);
        let (orders, ended) = walk(&mut repair, &reader, 1000, &[], Made::Copy);
        assert_eq!((numbers(&orders), ended.survey.short, ended.all_is_well), (vec![0], 1, false));
        assert!(matches!(orders[0].news(), Some(Input::Copied { instead_of: None, .. })));
        repair.note_spare(slice(0));
        assert_eq!(repair.to_drop(&reader, 9), None, "it was made a moment ago");
        repair.begin(&short, 1000 + LISTED_WITHIN_US).unwrap();
        assert_eq!(repair.to_drop(&reader, 9), None);
        repair.begin(&short, 1001 + LISTED_WITHIN_US).unwrap();
        assert_eq!(repair.to_drop(&reader, 9), Some(vec![slice(0)]));
        assert_eq!(repair.to_drop(&reader, 9), None, "it is said once");
    }

    #[test]
    fn what_is_listed_here_again_is_not_dropped() {
        let mut repair = Repair::new(ME, LISTED_WITHIN_US);
        (0..3).for_each(|number| repair.note_spare(slice(number)));
        let reader = state(&four(), &[&[1, 2, 4], &[1, 2, 3]], &[]);
        assert_eq!(repair.to_drop(&reader, 2), Some(vec![slice(1)]));
        assert_eq!(repair.to_drop(&reader, 2), Some(vec![slice(2)]), "the state does not know it any more");
    }

    #[test]
    fn copies_move_here_after_a_walk_that_found_everything_and_while_nobody_leaves() {
        let full: Vec<&[u64]> = vec![&[1, 2, 3]; 40];
        let room = [1, 1, 1, 40];
        let reader = state(&four(), &full, &room);
        let mut repair = Repair::new(ME, LISTED_WITHIN_US);
        let (first, ended) = walk(&mut repair, &reader, 0, &[], Made::Copy);
        assert_eq!((first, ended.survey.to_move), (vec![], 0), "it has not looked yet who keeps what");
        let (second, ended) = walk(&mut repair, &reader, 1, &[], Made::Copy);
        assert!(second.len() > 5 && second.iter().all(|copying| copying.instead_of.is_some()), "{second:?}");
        assert_eq!((ended.survey.to_move, ended.all_is_well), (second.len() as u64 * u64::from(MIB), false));
        let (third, _) = walk(&mut repair, &reader, 2, &[], Made::Copy);
        assert_eq!(third, vec![], "these are made, and not listed yet");

        let (leaves, _) = four().after(&MemberChange::Leave(NodeId(1))).unwrap();
        let reader = state(&leaves, &full, &room);
        let mut repair = Repair::new(ME, LISTED_WITHIN_US);
        let (_, ended) = walk(&mut repair, &reader, 0, &[], Made::Copy);
        assert_eq!((ended.survey.needed[&NodeId(1)], repair.shares().is_some()), (40, false));
        assert!(ended.walk.drained.is_empty());
    }
}
