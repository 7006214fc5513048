//! The tree along which tokens travel: whose neighbour is who.
//!
//! Either somebody said so (edges, as in a `tree.txt`), or it follows from the regions: the root, below it one hub a region,
//! below each hub the other nodes of its region. The root is the leader of the moment. Nodes that are not there are left
//! out, and what hung on them hangs on the next one towards the root.

use crate::types::NodeId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What is known of the machines' places: nothing, regions, or whole edges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Neighbours. Where there are any they are the tree, and regions say nothing about it.
    pub edges: Vec<(NodeId, NodeId)>,
    pub regions: BTreeMap<NodeId, String>,
}

/// Why edges are no tree of these nodes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTree {
    #[error("node {0} is not one of the cluster's nodes")]
    Unknown(NodeId),
    #[error("node {0} cannot be its own neighbour")]
    Itself(NodeId),
    #[error("the edge {0} {1} closes a circle: there is a way between them already")]
    Circle(NodeId, NodeId),
    #[error("no way leads from node {0} to node {1}")]
    Apart(NodeId, NodeId),
}

impl Topology {
    /// Whether the edges, if there are any, join all these nodes without a circle.
    pub fn check(&self, nodes: &[NodeId]) -> Result<(), NoTree> {
        let Some(&first) = nodes.first() else { return Ok(()) };
        if self.edges.is_empty() {
            return Ok(());
        }
        // Each node, and one that stands for all it is joined with.
        let mut joined: BTreeMap<NodeId, NodeId> = nodes.iter().map(|node| (*node, *node)).collect();
        for &(a, b) in &self.edges {
            let of = |node| joined.get(&node).copied().ok_or(NoTree::Unknown(node));
            let (with_a, with_b) = (of(a)?, of(b)?);
            if a == b {
                return Err(NoTree::Itself(a));
            }
            if with_a == with_b {
                return Err(NoTree::Circle(a, b));
            }
            joined.values_mut().filter(|with| **with == with_b).for_each(|with| *with = with_a);
        }
        match joined.iter().find(|(_, with)| joined.get(&first) != Some(with)) {
            Some((apart, _)) => Err(NoTree::Apart(first, *apart)),
            None => Ok(()),
        }
    }

    /// For each of these nodes but the root the next one towards it.
    pub fn parents(&self, root: NodeId, there: &BTreeSet<NodeId>) -> BTreeMap<NodeId, NodeId> {
        if self.edges.is_empty() { self.by_region(root, there) } else { self.by_edges(root, there) }
    }

    fn by_region(&self, root: NodeId, there: &BTreeSet<NodeId>) -> BTreeMap<NodeId, NodeId> {
        let region = |node: &NodeId| self.regions.get(node).map_or("", String::as_str);
        let mut hubs: BTreeMap<&str, NodeId> = BTreeMap::from([(region(&root), root)]);
        for node in there {
            hubs.entry(region(node)).or_insert(*node);
        }
        let towards = |node: &NodeId| match hubs.get(region(node)) {
            Some(hub) if hub != node => *hub,
            _ => root,
        };
        there.iter().filter(|node| **node != root).map(|node| (*node, towards(node))).collect()
    }

    fn by_edges(&self, root: NodeId, there: &BTreeSet<NodeId>) -> BTreeMap<NodeId, NodeId> {
        let mut parents = BTreeMap::new();
        let mut seen = BTreeSet::from([root]);
        // From the root outwards: each node, and the last one before it that is there.
        let mut next = VecDeque::from([(root, root)]);
        while let Some((node, last)) = next.pop_front() {
            for &(a, b) in &self.edges {
                let beyond = if a == node { b } else { a };
                if (a != node && b != node) || !seen.insert(beyond) {
                    continue;
                }
                let is_there = there.contains(&beyond);
                if is_there {
                    parents.insert(beyond, last);
                }
                next.push_back((beyond, if is_there { beyond } else { last }));
            }
        }
        // Whoever the edges do not name.
        for node in there.iter().filter(|node| **node != root) {
            parents.entry(*node).or_insert(root);
        }
        parents
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn edges(edges: &[(u64, u64)]) -> Topology {
        Topology { edges: edges.iter().map(|(a, b)| (NodeId(*a), NodeId(*b))).collect(), ..Topology::default() }
    }

    fn parents(topology: &Topology, root: u64, there: &[u64]) -> Vec<(u64, u64)> {
        topology.parents(NodeId(root), &ids(there)).into_iter().map(|(node, parent)| (node.0, parent.0)).collect()
    }

    #[test]
    fn without_a_word_about_it_all_hang_on_the_root() {
        assert_eq!(parents(&Topology::default(), 2, &[1, 2, 3]), [(1, 2), (3, 2)]);
    }

    #[test]
    fn each_region_hangs_on_its_hub_and_the_hubs_on_the_root() {
        let region = |node: u64| ["us", "us", "eu", "eu", "asia"][node as usize - 1].to_owned();
        let regions = (1..=5).map(|node| (NodeId(node), region(node))).collect();
        let topology = Topology { regions, ..Topology::default() };
        assert_eq!(parents(&topology, 2, &[1, 2, 3, 4, 5]), [(1, 2), (3, 2), (4, 3), (5, 2)]);
        assert_eq!(parents(&topology, 2, &[1, 2, 4, 5]), [(1, 2), (4, 2), (5, 2)], "a hub is gone: another one is");
    }

    #[test]
    fn edges_are_followed_from_the_root_and_past_those_who_are_gone() {
        let chain = edges(&[(1, 2), (2, 3), (3, 4), (3, 5)]);
        assert_eq!(parents(&chain, 1, &[1, 2, 3, 4, 5]), [(2, 1), (3, 2), (4, 3), (5, 3)]);
        assert_eq!(parents(&chain, 4, &[1, 2, 3, 4, 5]), [(1, 2), (2, 3), (3, 4), (5, 3)]);
        assert_eq!(parents(&chain, 1, &[1, 2, 4, 5]), [(2, 1), (4, 2), (5, 2)]);
    }

    #[test]
    fn what_is_no_tree_is_refused_with_the_reason() {
        let nodes: Vec<NodeId> = (1..=4).map(NodeId).collect();
        let said = |topology: Topology| topology.check(&nodes).unwrap_err().to_string();
        assert_eq!(edges(&[(1, 2), (2, 3), (3, 4)]).check(&nodes), Ok(()));
        assert_eq!(said(edges(&[(1, 2), (2, 9)])), "node 9 is not one of the cluster's nodes");
        assert_eq!(said(edges(&[(1, 1)])), "node 1 cannot be its own neighbour");
        assert!(said(edges(&[(1, 2), (2, 3), (3, 1)])).contains("closes a circle"));
        assert_eq!(said(edges(&[(1, 2), (3, 4)])), "no way leads from node 1 to node 3");
    }

    proptest! {
        /// Whoever is there hangs, over others that are there, on the root.
        #[test]
        fn every_way_leads_to_the_root(
            joins in prop::collection::vec(any::<prop::sample::Index>(), 1..30),
            gone in prop::collection::btree_set(2_u64..30, 0..12),
            root in any::<prop::sample::Index>(),
        ) {
            let all: Vec<u64> = (1..=joins.len() as u64 + 1).collect();
            let tree: Vec<(u64, u64)> = joins.iter().zip(2..).map(|(to, node)| (1 + to.index(node as usize - 1) as u64, node)).collect();
            let topology = edges(&tree);
            prop_assert_eq!(topology.check(&all.iter().copied().map(NodeId).collect::<Vec<_>>()), Ok(()));
            let there: Vec<u64> = all.into_iter().filter(|node| !gone.contains(node)).collect();
            let root = there[root.index(there.len())];
            let parents: BTreeMap<u64, u64> = parents(&topology, root, &there).into_iter().collect();
            for node in there {
                let (mut at, mut steps) = (node, 0);
                while at != root {
                    at = parents[&at];
                    steps += 1;
                    prop_assert!(steps <= parents.len());
                }
            }
        }
    }
}
