//! The cluster as plain files: `iplist.txt`, who is where, and `tree.txt`, who is whose neighbour.
//!
//! Both are lists of lines. Words are separated by blanks, tabs, commas or colons; what follows a `#` is a remark.
//!
//! ```text
//!   iplist.txt   # node  address   port  region (if there are several)
//!                1       10.0.0.1  7400  us-west
//!                2       10.0.0.2  7400  us-west
//!                3       10.1.0.1  7400  ireland
//!
//!   tree.txt     # node, and its neighbours; an edge may be named from both its ends
//!                1: 2 3
//!                3: 1
//! ```

use baton_core::node::Topology;
use baton_core::types::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// What an `iplist.txt` says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct IpList {
    pub peers: BTreeMap<NodeId, String>,
    pub regions: BTreeMap<NodeId, String>,
}

impl IpList {
    /// Refuses with the line that is not right.
    pub fn parse(text: &str) -> Result<IpList, String> {
        let mut list = IpList::default();
        // An address may be in brackets, with colons of its own.
        for (number, words) in lines(text, |c: char| c.is_whitespace() || c == ',') {
            let at = |why: String| format!("line {number}: {why}");
            let (id, address, port, region) = match words[..] {
                [id, address, port] => (id, address, port, None),
                [id, address, port, region] => (id, address, port, Some(region)),
                _ => return Err(at("expected NODE ADDRESS PORT [REGION]".into())),
            };
            let id = node(id.trim_end_matches(':')).map_err(at)?;
            let port: u16 = port.parse().map_err(|_| at(format!("{port:?} is no port")))?;
            if list.peers.insert(id, format!("{address}:{port}")).is_some() {
                return Err(at(format!("node {id} is named twice")));
            }
            list.regions.extend(region.map(|region| (id, region.to_owned())));
        }
        Ok(list)
    }
}

/// The edges of a `tree.txt`. Whether they are a tree of the cluster's nodes is for [`Topology::check`] to say.
pub fn parse_tree(text: &str) -> Result<Vec<(NodeId, NodeId)>, String> {
    let mut edges = BTreeSet::new();
    for (number, words) in lines(text, |c: char| c.is_whitespace() || c == ',' || c == ':') {
        let nodes: Result<Vec<NodeId>, String> = words.into_iter().map(node).collect();
        let nodes = nodes.map_err(|why| format!("line {number}: {why}"))?;
        for other in &nodes[1..] {
            edges.insert((nodes[0].min(*other), nodes[0].max(*other)));
        }
    }
    Ok(edges.into_iter().collect())
}

/// Regions on a command line: `1=us-west,2=us-west,3=ireland`.
pub fn parse_regions(text: &str) -> Result<BTreeMap<NodeId, String>, String> {
    let mut regions = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (id, region) = part.split_once('=').ok_or(format!("{part:?}: expected NODE=REGION, as in 1=us-west"))?;
        regions.insert(node(id)?, region.trim().to_owned());
    }
    Ok(regions)
}

/// Whether it is about nodes of this cluster, and the edges are a tree.
pub(crate) fn check(topology: &Topology, peers: &BTreeMap<NodeId, String>) -> Result<(), String> {
    if let Some(unknown) = topology.regions.keys().find(|node| !peers.contains_key(node)) {
        return Err(format!("node {unknown}, whose region is given, is not one of the cluster's nodes"));
    }
    let nodes: Vec<NodeId> = peers.keys().copied().collect();
    topology.check(&nodes).map_err(|why| why.to_string())
}

/// The lines that say something, with their numbers.
fn lines(text: &str, between: impl Fn(char) -> bool + Copy) -> impl Iterator<Item = (usize, Vec<&str>)> {
    let said = text.lines().map(|line| line.split('#').next().unwrap_or(""));
    let words = said.map(move |said| said.split(between).filter(|word| !word.is_empty()).collect());
    (1..).zip(words).filter(|(_, words): &(usize, Vec<&str>)| !words.is_empty())
}

fn node(text: &str) -> Result<NodeId, String> {
    match text.trim().parse() {
        Ok(0) => Err("nodes count from 1".into()),
        Ok(id) => Ok(NodeId(id)),
        Err(_) => Err(format!("{text:?} is no node: expected a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(text: &str) -> Vec<(u64, u64)> {
        parse_tree(text).unwrap().into_iter().map(|(a, b)| (a.0, b.0)).collect()
    }

    #[test]
    fn a_list_of_addresses_is_read() {
        let list = IpList::parse(
            "# who is where\n1 10.0.0.1 7400 us-west\n\n2, 10.0.0.1, 7410\n3: [::1] 7400 ireland # far\n",
        );
        let list = list.unwrap();
        let peers: Vec<&str> = list.peers.values().map(String::as_str).collect();
        assert_eq!(peers, ["10.0.0.1:7400", "10.0.0.1:7410", "[::1]:7400"]);
        assert_eq!(list.regions, BTreeMap::from([(NodeId(1), "us-west".into()), (NodeId(3), "ireland".into())]));
    }

    #[test]
    fn a_tree_is_read_however_its_edges_are_named() {
        assert_eq!(edges("1: 2 3\n2: 1\n3 1\n"), [(1, 2), (1, 3)]);
        assert_eq!(edges("1 2 # near\n2,3\n"), [(1, 2), (2, 3)]);
        assert_eq!(edges("1\n"), []);
    }

    #[test]
    fn what_is_not_right_is_refused_with_its_line() {
        let list = |text| IpList::parse(text).unwrap_err();
        assert!(list("1 a 7400\n2 b\n").starts_with("line 2: expected"));
        assert!(list("1 a 99999\n").contains("\"99999\" is no port"));
        assert!(list("1 a 1\n1 b 2\n").contains("line 2: node 1 is named twice"));
        assert!(parse_tree("1 2\n2 x\n").unwrap_err().starts_with("line 2: \"x\" is no node"));
        assert!(parse_regions("1:us").is_err());
    }
}
