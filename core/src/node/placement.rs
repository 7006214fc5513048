//! Which nodes keep a slice.

use crate::limits::REPLICAS;
use crate::meta::SliceInfo;
use crate::types::{NodeId, SliceId};

/// How many copies a cluster of this size keeps.
pub fn copies_wanted(nodes: usize) -> usize {
    REPLICAS.min(nodes)
}

/// Where a new slice goes: the node that received it, if it keeps data at all, then the others with the most room.
pub fn place(me: NodeId, reachable: &[(NodeId, u64)], nodes: usize) -> Vec<NodeId> {
    let mut others: Vec<(NodeId, u64)> = reachable.iter().filter(|(node, _)| *node != me).copied().collect();
    others.sort_by_key(|(node, free)| (std::cmp::Reverse(*free), *node));
    let here = reachable.iter().map(|(node, _)| *node).find(|node| *node == me);
    here.into_iter().chain(others.into_iter().map(|(node, _)| node)).take(copies_wanted(nodes)).collect()
}

/// Copies that a slice has too few, where these nodes are to keep it.
pub fn missing(nodes: &[NodeId], info: &SliceInfo) -> usize {
    let there = info.nodes.iter().filter(|node| nodes.contains(node)).count();
    copies_wanted(nodes.len()).saturating_sub(there)
}

/// Whether this node should make a copy of a slice that has too few. Those without one stand in an order that every node
/// finds alike for this slice, and the first few take it.
pub fn wants_copy(me: NodeId, nodes: &[NodeId], id: SliceId, info: &SliceInfo) -> bool {
    let missing = missing(nodes, info);
    if missing == 0 || info.nodes.contains(&me) || !nodes.contains(&me) {
        return false;
    }
    let mut others: Vec<NodeId> = nodes.iter().filter(|n| !info.nodes.contains(n)).copied().collect();
    others.sort_by_key(|n| (n.0.wrapping_add(id.number).wrapping_mul(0x9E37_79B9_7F4A_7C15), n.0));
    others.into_iter().take(missing).any(|n| n == me)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SessionId;

    #[test]
    fn the_receiver_comes_first_then_those_with_room() {
        let reachable = [(NodeId(1), 10), (NodeId(2), 30), (NodeId(3), 20), (NodeId(4), 40)];
        assert_eq!(place(NodeId(1), &reachable, 4), [NodeId(1), NodeId(4), NodeId(2)]);
        assert_eq!(place(NodeId(1), &reachable[..1], 3), [NodeId(1)]);
        assert_eq!(place(NodeId(9), &reachable, 4), [NodeId(4), NodeId(2), NodeId(3)], "it is to leave");
    }

    #[test]
    fn exactly_as_many_take_a_missing_copy_as_are_missing() {
        let nodes: Vec<NodeId> = (1..=5).map(NodeId).collect();
        for number in 0..100 {
            let id = SliceId { session: SessionId(1), number };
            let info = SliceInfo { len: 1, nodes: vec![NodeId(2)], refs: 1 };
            assert_eq!(nodes.iter().filter(|n| wants_copy(**n, &nodes, id, &info)).count(), 2);
        }
    }
}
