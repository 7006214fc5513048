//! Which nodes keep a slice.

use super::messages::Space;
use crate::limits::{DISK_RESERVE, REPLICAS};
use crate::meta::SliceInfo;
use crate::types::{Members, NodeId, SliceId};
use std::collections::BTreeMap;

/// How many copies a cluster of this size keeps.
pub fn copies_wanted(nodes: usize) -> usize {
    REPLICAS.min(nodes)
}

/// How many have to have a slice before it is answered for: two copies outlive the loss of one node; a cluster of one has no
/// choice.
pub fn enough_copies(nodes: usize) -> usize {
    copies_wanted(nodes).min(2)
}

/// Whether a slice that got too few copies never gets enough, if so many of the nodes said that they were full. As long as the
/// others would be enough, they only have to be reached.
pub fn is_full(nodes: usize, full: usize) -> bool {
    nodes.saturating_sub(full) < enough_copies(nodes)
}

/// What is left of this disk is for the log, the state and deletions.
pub fn is_full_disk(space: &Space) -> bool {
    space.total > 0 && space.free < DISK_RESERVE
}

/// Who is asked to keep a new slice.
#[derive(Debug)]
pub struct Asking {
    /// The first of them at once, and one of the others for each that does not take it.
    pub order: Vec<NodeId>,
    pub at_once: usize,
}

impl Asking {
    /// The node that received it, if it keeps data at all, then those with the most room; at last those that are slow, or away.
    /// Where there are too few others, slow ones are asked at once too.
    pub fn of(
        me: NodeId,
        members: &Members,
        is_slow: impl Fn(NodeId) -> bool,
        mut room: impl FnMut(NodeId) -> u64,
    ) -> Asking {
        let (staying, away) = (members.staying(), members.away());
        let waits = |node: &NodeId| *node != me && away.contains(node) || is_slow(*node);
        let (slow, quick): (Vec<NodeId>, Vec<NodeId>) = staying.iter().partition(|node| waits(node));
        let quick: Vec<(NodeId, u64)> = quick.into_iter().map(|node| (node, room(node))).collect();
        let (wanted, enough) = (copies_wanted(staying.len()), enough_copies(staying.len()));
        let at_once = if quick.len() >= enough { wanted.min(quick.len()) } else { enough };
        Asking { order: place(me, &quick, wanted).into_iter().chain(slow).collect(), at_once }
    }
}

/// This node, the others with the most room, as many as a slice needs; then the rest, as they are, for the case that one fails.
fn place(me: NodeId, reachable: &[(NodeId, u64)], wanted: usize) -> Vec<NodeId> {
    let mut order = reachable.to_vec();
    order.sort_by_key(|(node, free)| (*node != me, std::cmp::Reverse(*free), *node));
    order.truncate(wanted);
    let rest = reachable.iter().filter(|pair| !order.contains(pair)).copied().collect::<Vec<_>>();
    order.into_iter().chain(rest).map(|(node, _)| node).collect()
}

/// Those of a slice's copies that count, and how many there should be.
pub(super) fn counted(members: &Members, info: &SliceInfo) -> (Vec<NodeId>, usize) {
    let keeping = members.keeping();
    let copies = info.nodes.iter().copied().filter(|node| keeping.contains(node)).collect();
    (copies, copies_wanted(members.staying().len()))
}

/// Copies that a slice has too few.
pub(super) fn missing(members: &Members, info: &SliceInfo) -> usize {
    let (copies, wanted) = counted(members, info);
    wanted.saturating_sub(copies.len())
}

/// Whether this node should make a copy of a slice that has too few. Those without one stand in an order that every node
/// finds alike for this slice, those last whose disks are known to be full, and the first few take it. Who knows of another disk
/// may make a copy too many.
pub(super) fn wants_copy(
    me: NodeId,
    members: &Members,
    spaces: &BTreeMap<NodeId, Space>,
    id: SliceId,
    info: &SliceInfo,
) -> bool {
    let missing = missing(members, info);
    let mut others = members.keeping();
    if missing == 0 || info.nodes.contains(&me) || !others.contains(&me) {
        return false;
    }
    others.retain(|node| !info.nodes.contains(node));
    others.sort_by_key(|node| (spaces.get(node).is_some_and(is_full_disk), turn(id, *node)));
    others.into_iter().take(missing).any(|node| node == me)
}

/// Whose copy of a slice nobody needs, if there are more than there should be: somebody was away and came back, or was to
/// leave and stays.
pub fn spare_copy(members: &Members, id: SliceId, info: &SliceInfo) -> Option<NodeId> {
    let (copies, wanted) = counted(members, info);
    (copies.len() > wanted).then(|| copies.into_iter().max_by_key(|node| turn(id, *node)))?
}

/// A node has made a copy, in the place of another's if one is named. Where there are too few it is one more, whatever it was to
/// be. Else it takes that place, if that one is listed still and the node keeps data still. Answers whose copy nobody needs then.
pub(super) fn list_copy(
    members: &Members,
    info: &mut SliceInfo,
    node: NodeId,
    instead_of: Option<NodeId>,
) -> Option<NodeId> {
    info.nodes.retain(|listed| members.nodes.contains_key(listed));
    if info.nodes.contains(&node) {
        return None;
    }
    let one_more = instead_of.is_none() || missing(members, info) > 0;
    if one_more && members.nodes.contains_key(&node) {
        info.nodes.push(node);
        return None;
    }
    let place = instead_of.and_then(|other| info.nodes.iter().position(|listed| *listed == other));
    match place.filter(|_| members.keeping().contains(&node)) {
        Some(place) => Some(std::mem::replace(&mut info.nodes[place], node)),
        None => Some(node),
    }
}

/// In which order the nodes stand for this slice.
fn turn(id: SliceId, node: NodeId) -> (u64, u64) {
    (node.0.wrapping_add(id.number).wrapping_mul(0x9E37_79B9_7F4A_7C15), node.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{MemberChange, SessionId};

    #[test]
    fn the_receiver_comes_first_then_those_with_room() {
        let reachable = [(NodeId(1), 10), (NodeId(2), 30), (NodeId(3), 20), (NodeId(4), 40)];
        assert_eq!(place(NodeId(1), &reachable, 3), [1, 4, 2, 3].map(NodeId));
        assert_eq!(place(NodeId(1), &reachable[..1], 3), [NodeId(1)]);
        assert_eq!(place(NodeId(9), &reachable, 3), [4, 2, 3, 1].map(NodeId), "it is to leave");
    }

    #[test]
    fn who_is_slow_or_away_is_asked_last_and_at_once_only_where_there_are_too_few_others() {
        let asked = |members: &Members, slow: &[u64]| {
            let Asking { order, at_once } =
                Asking::of(NodeId(1), members, |node| slow.contains(&node.0), |node| node.0);
            (order.into_iter().map(|node| node.0).collect::<Vec<_>>(), at_once)
        };
        assert_eq!(asked(&five(), &[]), (vec![1, 5, 4, 2, 3], 3));
        assert_eq!(asked(&five(), &[1, 5]), (vec![4, 3, 2, 1, 5], 3));
        assert_eq!(asked(&five(), &[2, 3, 4]), (vec![1, 5, 2, 3, 4], 2), "two are enough");
        assert_eq!(asked(&five(), &[2, 3, 4, 5]), (vec![1, 2, 3, 4, 5], 2));
        let (away, _) = five().after(&MemberChange::Away(NodeId(5))).unwrap();
        assert_eq!(asked(&away, &[]), (vec![1, 4, 3, 2, 5], 3));
    }

    fn five() -> Members {
        Members::founding((1..=5).map(|id| (NodeId(id), format!("host:{id}"))))
    }

    fn kept_by(nodes: impl IntoIterator<Item = u64>) -> SliceInfo {
        SliceInfo { len: 1, nodes: nodes.into_iter().map(NodeId).collect(), refs: 1 }
    }

    fn slice(number: u64) -> SliceId {
        SliceId { session: SessionId(1), number }
    }

    fn takers(members: &Members, number: u64, info: &SliceInfo) -> Vec<NodeId> {
        takers_with(&BTreeMap::new(), members, number, info)
    }

    fn takers_with(spaces: &BTreeMap<NodeId, Space>, members: &Members, number: u64, info: &SliceInfo) -> Vec<NodeId> {
        (1..=5).map(NodeId).filter(|node| wants_copy(*node, members, spaces, slice(number), info)).collect()
    }

    #[test]
    fn one_full_disk_of_three_fills_nothing_and_two_do() {
        assert_eq!([0, 1, 2, 3].map(|full| is_full(3, full)), [false, false, true, true]);
        assert_eq!(
            [(1, 0), (1, 1), (2, 1), (5, 3), (5, 4)].map(|(n, full)| is_full(n, full)),
            [false, true, true, false, true]
        );
    }

    #[test]
    fn exactly_as_many_take_a_missing_copy_as_are_missing() {
        for number in 0..100 {
            assert_eq!(takers(&five(), number, &kept_by([2])).len(), 2);
        }
    }

    #[test]
    fn a_full_disk_takes_a_missing_copy_only_where_there_is_no_other() {
        let full = BTreeMap::from([3, 4].map(|node| (NodeId(node), Space { total: 1 << 40, free: 1 })));
        for number in 0..100 {
            assert_eq!(takers_with(&full, &five(), number, &kept_by([1, 2])), [NodeId(5)]);
            assert_eq!(takers_with(&full, &five(), number, &kept_by([1])).len(), 2);
        }
    }

    #[test]
    fn the_copy_of_one_who_is_away_is_made_elsewhere_and_is_one_too_many_when_it_is_back() {
        let (away, _) = five().after(&MemberChange::Away(NodeId(3))).unwrap();
        for number in 0..100 {
            let taker = takers(&away, number, &kept_by([1, 2, 3]));
            assert!(matches!(taker[..], [NodeId(4 | 5)]), "{taker:?}");
            let with_it = kept_by([1, 2, 3, taker[0].0]);
            assert_eq!((missing(&away, &with_it), spare_copy(&away, slice(number), &with_it)), (0, None));
            let (back, _) = away.after(&MemberChange::Back(NodeId(3))).unwrap();
            let spare = spare_copy(&back, slice(number), &with_it).expect("four copies");
            let rest = kept_by(with_it.nodes.iter().filter(|node| **node != spare).map(|node| node.0));
            assert_eq!((missing(&back, &rest), spare_copy(&back, slice(number), &rest)), (0, None));
        }
    }

    #[test]
    fn what_nobody_can_make_up_for_is_missing_all_the_same() {
        let three = Members::founding((1..=3).map(|id| (NodeId(id), format!("host:{id}"))));
        let (away, _) = three.after(&MemberChange::Away(NodeId(3))).unwrap();
        assert_eq!((missing(&three, &kept_by(1..=3)), missing(&away, &kept_by(1..=3))), (0, 1));
        assert_eq!(takers(&away, 1, &kept_by(1..=3)), []);
    }
}
