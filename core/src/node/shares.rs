//! # Evening out: which copies move from fuller disks to emptier ones
//!
//! New slices go where the most room is. But a node that joins a cluster whose disks are nearly full is to take its share of
//! what is there already, and a larger disk more of it than a smaller one.
//!
//! * A node is as *full* as what it keeps is a part of what it could keep, with the room that is left on its disk.
//! * A slice moves from the fullest of those that keep it to the emptiest of those that do not, if more than a tenth lies
//!   between them, and if it does not turn them round. So every move leaves the disks more alike, and there is an end.
//! * Only slices move of which there are as many copies as there should be: what is missing comes first.
//!
//! Every node walks over all slices in the same order and counts each move as made ([`Shares::takeover`]). So all find nearly the
//! same moves, however many, and each makes those that are to it. A copy takes the other's place in the list by one entry
//! ([`Item::Copied`](super::Item)), when it is on the disk: at no time is there one less.

use super::messages::Space;
use super::placement::{copies_wanted, counted, enough_copies};
use crate::limits::DISK_RESERVE;
use crate::meta::SliceInfo;
use crate::types::{Members, NodeId};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// What lies between two nodes before something moves, in thousandths.
const GAP: u64 = 100;

/// What the nodes keep, as far as is counted, and what room they have.
#[derive(Clone, Debug, Default)]
pub struct Shares {
    nodes: BTreeMap<NodeId, Share>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Share {
    kept: u64,
    room: u64,
}

/// A node that is to keep a copy of a slice in the place of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takeover {
    pub from: NodeId,
    pub to: NodeId,
}

impl Share {
    fn fullness(self) -> u64 {
        let could_keep = u128::from(self.kept) + u128::from(self.room);
        (u128::from(self.kept) * 1000).checked_div(could_keep).map_or(1000, |full| full as u64)
    }

    fn with(self, len: u64) -> Share {
        Share { kept: self.kept + len, room: self.room.saturating_sub(len) }
    }

    fn without(self, len: u64) -> Share {
        Share { kept: self.kept.saturating_sub(len), room: self.room + len }
    }
}

impl Shares {
    /// Of those whose copies count; nothing is counted yet.
    pub fn new(members: &Members) -> Shares {
        Shares { nodes: members.keeping().into_iter().map(|node| (node, Share::default())).collect() }
    }

    /// All are counted, and this is the room beside what they keep. Of whom it is not known nothing moves, nor to it.
    pub fn with_room(mut self, spaces: &BTreeMap<NodeId, Space>) -> Shares {
        self.nodes.retain(|node, _| spaces.contains_key(node));
        for (node, share) in &mut self.nodes {
            share.room = for_data(spaces[node]).free;
        }
        self
    }

    pub fn count(&mut self, info: &SliceInfo) {
        for node in &info.nodes {
            self.change(*node, |share| share.kept += u64::from(info.len));
        }
    }

    /// Who should keep a copy of this slice in whose place, if anybody. It is counted as done.
    pub fn takeover(&mut self, members: &Members, info: &SliceInfo) -> Option<Takeover> {
        let (copies, wanted) = counted(members, info);
        if copies.len() != wanted {
            return None;
        }
        let kept_by = |node: &NodeId| copies.contains(node);
        let of = |(node, share): (&NodeId, &Share)| (share.fullness(), *node);
        let (_, from) = self.nodes.iter().filter(|(node, _)| kept_by(node)).map(of).max()?;
        let (_, to) = self.nodes.iter().filter(|(node, _)| !kept_by(node)).map(of).min()?;
        let (fuller, emptier, len) = (self.nodes[&from], self.nodes[&to], u64::from(info.len));
        let apart = fuller.fullness() > emptier.fullness() + GAP;
        if !apart || emptier.room < len || fuller.without(len).fullness() < emptier.with(len).fullness() {
            return None;
        }
        let takeover = Takeover { from, to };
        self.moves(takeover, info.len);
        Some(takeover)
    }

    pub fn moves(&mut self, takeover: Takeover, len: u32) {
        self.change(takeover.from, |share| *share = share.without(u64::from(len)));
        self.change(takeover.to, |share| *share = share.with(u64::from(len)));
    }

    fn change(&mut self, node: NodeId, change: impl FnOnce(&mut Share)) {
        if let Some(share) = self.nodes.get_mut(&node) {
            change(share);
        }
    }
}

/// Of a disk, what may hold file data.
fn for_data(space: Space) -> Space {
    Space { total: space.total.saturating_sub(DISK_RESERVE), free: space.free.saturating_sub(DISK_RESERVE) }
}

/// What can be stored on disks like these, each byte as many times as it should be; where that is nothing, as many times as it
/// has to be.
pub(super) fn room_for_all(disks: &[Space]) -> Space {
    let most =
        |copies, part: fn(Space) -> u64| most_of(copies, disks.iter().map(|disk| part(for_data(*disk))).collect());
    let all = |copies| Space { total: most(copies, |disk| disk.total), free: most(copies, |disk| disk.free) };
    let room = all(copies_wanted(disks.len()));
    if room.free > 0 { room } else { all(enough_copies(disks.len())) }
}

/// The most that so many copies can be kept of where no disk keeps two of the same: a disk larger than that is of no more use
/// than one as large, so the largest ones may each only count for one copy.
fn most_of(copies: usize, mut disks: Vec<u64>) -> u64 {
    disks.sort_by_key(|disk| Reverse(*disk));
    let sum = |from: usize| disks[from..].iter().map(|disk| u128::from(*disk)).sum::<u128>();
    let each = (0..copies).map(|large| sum(large) / (copies - large) as u128).min();
    each.map_or(0, |most| u64::try_from(most).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::MemberChange;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    fn members(nodes: u64) -> Members {
        Members::founding((1..=nodes).map(|id| (NodeId(id), format!("host:{id}"))))
    }

    fn disk(free: u64) -> Space {
        Space { total: 100 * GIB, free: free + DISK_RESERVE }
    }

    fn disks(free: &[u64]) -> BTreeMap<NodeId, Space> {
        (1..).map(NodeId).zip(free.iter().map(|free| disk(*free))).collect()
    }

    fn kept_by(nodes: &[u64], len: u32) -> SliceInfo {
        SliceInfo { len, nodes: nodes.iter().copied().map(NodeId).collect(), refs: 1 }
    }

    fn counted_shares(members: &Members, free: &[u64], slices: &[SliceInfo]) -> Shares {
        let mut shares = Shares::new(members);
        slices.iter().for_each(|info| shares.count(info));
        shares.with_room(&disks(free))
    }

    /// Walks until nothing moves; how much did.
    fn evened(members: &Members, free: &mut [u64], slices: &mut [SliceInfo]) -> usize {
        let mut moved = 0;
        for _walk in 0..100 {
            let mut shares = counted_shares(members, free, slices);
            let before = moved;
            for info in &mut *slices {
                if let Some(Takeover { from, to }) = shares.takeover(members, info) {
                    info.nodes.iter_mut().filter(|node| **node == from).for_each(|node| *node = to);
                    free[from.0 as usize - 1] += u64::from(info.len);
                    free[to.0 as usize - 1] -= u64::from(info.len);
                    moved += 1;
                }
            }
            if moved == before {
                return moved;
            }
        }
        panic!("it does not end");
    }

    #[test]
    fn one_that_joins_full_disks_takes_its_share_and_no_more() {
        let mut free = [10 << 20, 10 << 20, 10 << 20, 400 << 20];
        let mut slices = vec![kept_by(&[1, 2, 3], 1 << 20); 400];
        evened(&members(4), &mut free, &mut slices);
        let kept = |node: u64| slices.iter().filter(|info| info.nodes.contains(&NodeId(node))).count();
        assert!((230..=300).contains(&kept(4)), "{}", kept(4));
        assert!((1..=3).all(|node| kept(node) >= 290), "{:?}", [1, 2, 3].map(kept));
    }

    #[test]
    fn nearly_empty_disks_are_left_alone() {
        let mut free = [50 * GIB; 4];
        let mut slices = vec![kept_by(&[1, 2, 3], 1 << 20); 1000];
        assert_eq!(evened(&members(4), &mut free, &mut slices), 0);
    }

    #[test]
    fn nobody_takes_what_is_missing_elsewhere_or_from_one_who_leaves() {
        let full = kept_by(&[1, 2, 3], 1 << 20);
        let takeover = |members: &Members, info: &SliceInfo| {
            counted_shares(members, &[0, 0, 0, GIB, GIB], std::slice::from_ref(&full)).takeover(members, info)
        };
        let five = members(5);
        assert_eq!(takeover(&five, &full), Some(Takeover { from: NodeId(3), to: NodeId(4) }));
        assert_eq!(takeover(&five, &kept_by(&[1, 2], 1 << 20)), None);
        assert_eq!(takeover(&five, &kept_by(&[1, 2, 3, 4], 1 << 20)), None);
        let (leaves, _) = five.after(&MemberChange::Leave(NodeId(3))).unwrap();
        assert_eq!(takeover(&leaves, &full), None, "a copy is missing");
        let (away, _) = five.after(&MemberChange::Away(NodeId(4))).unwrap();
        assert_eq!(takeover(&away, &full), Some(Takeover { from: NodeId(3), to: NodeId(5) }));
    }

    #[test]
    fn room_is_what_can_be_kept_on_different_disks() {
        let room = |free: &[u64]| room_for_all(&free.iter().map(|free| disk(*free)).collect::<Vec<_>>()).free;
        assert_eq!(room(&[]), 0);
        assert_eq!(room(&[7]), 7);
        assert_eq!(room(&[9, 5]), 5);
        assert_eq!(room(&[9, 6, 3]), 3);
        assert_eq!(room(&[9, 6, 0]), 6, "two copies have to do");
        assert_eq!(room(&[9, 0, 0]), 0);
        assert_eq!(room(&[6, 6, 6, 6]), 8);
        assert_eq!(room(&[90, 6, 6, 6]), 9, "two of three copies are on the smaller ones");
    }

    proptest! {
        #[test]
        fn no_more_is_free_than_there_is(disks in prop::collection::vec((0_u64..9 << 30, 0_u64..9 << 30), 0..6)) {
            let space = |(one, other): (u64, u64)| Space { total: one.max(other), free: one.min(other) };
            let room = room_for_all(&disks.into_iter().map(space).collect::<Vec<_>>());
            prop_assert!(room.free <= room.total, "{:?}", room);
        }

        #[test]
        fn it_ends_and_no_node_keeps_a_slice_twice(
            free in prop::collection::vec(1_u64..2_000, 4..7),
            placed in prop::collection::vec((0_usize..1_000, 1_u32..50), 0..200),
        ) {
            let nodes = free.len() as u64;
            let mut free = free;
            let mut slices: Vec<SliceInfo> = placed
                .iter()
                .map(|(first, len)| kept_by(&[0, 1, 2].map(|next| (*first as u64 + next) % nodes + 1), *len))
                .collect();
            let moved = evened(&members(nodes), &mut free, &mut slices);
            prop_assert!(moved <= slices.len() * 20, "{} moves", moved);
            for info in &slices {
                let mut nodes = info.nodes.clone();
                nodes.sort();
                nodes.dedup();
                prop_assert_eq!(nodes.len(), 3);
            }
        }
    }
}
