//! The tree of the nodes: from plain files, as it is drawn, and when nodes in it die and come back.

use baton_tests::harness::{Cluster, Mount, baton, eventually, folder};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// The tree as the leader says it is: of each node but the root the next one towards it.
fn tree(cluster: &Cluster) -> BTreeMap<u64, u64> {
    let status = cluster.status(cluster.leader());
    status.nodes.iter().filter_map(|node| Some((node.id, node.parent?))).collect()
}

fn tree_of(cluster: &Cluster, nodes: usize) -> BTreeMap<u64, u64> {
    let whole = || Some(tree(cluster)).filter(|tree| tree.len() == nodes - 1);
    eventually(&format!("a tree of {nodes} nodes"), Duration::from_secs(30), whole)
}

/// A chain of nodes from `tree.txt` and `iplist.txt`: neighbours are neighbours whoever leads, and past a node that is gone the
/// next ones are. What nobody of the dead held goes on, and what they held does when their leases are over.
#[test]
fn plain_files_say_who_is_whose_neighbour() {
    let folder = folder("chain");
    let folders: Vec<_> = (1..=5).map(|id| folder.join(format!("node-{id}"))).collect();
    let mut cluster = Cluster::plan(&folders);
    let mut list = String::from("# node address port region\n");
    for id in cluster.ids() {
        let (host, port) = cluster.address(id).rsplit_once(':').unwrap();
        list += &format!("{id} {host} {port} {}\n", if id < 3 { "west" } else { "east" });
    }
    let (iplist, edges) = (folder.join("iplist.txt"), folder.join("tree.txt"));
    fs::write(&iplist, list).unwrap();
    fs::write(&edges, "1: 2\n2: 1 3\n3: 4 # and so on\n4 5\n").unwrap();
    cluster.start_from(&iplist, &edges);
    let leader = cluster.leader();
    let towards = |node: u64| if node < leader { node + 1 } else { node - 1 };
    let chain: BTreeMap<u64, u64> = (1..=5).filter(|node| *node != leader).map(|node| (node, towards(node))).collect();
    assert_eq!(tree_of(&cluster, 5), chain);
    let drawn = baton().args(["status", cluster.address(1)]).output().unwrap();
    let drawn = String::from_utf8_lossy(&drawn.stdout).into_owned();
    let end = if leader == 5 { 1 } else { 5 };
    let leaf = format!("└─ node {end} ({})", if end == 1 { "west" } else { "east" });
    assert!(drawn.contains(&leaf), "{drawn}");

    let mount = Mount::start(&cluster.addresses());
    fs::write(mount.path("f"), "one").unwrap();
    // A node between the leader and the farther end.
    let between = if leader <= 3 { 4 } else { 2 };
    cluster.kill(between);
    let shorter = tree_of(&cluster, 4);
    assert!(!shorter.contains_key(&between) && !shorter.values().any(|parent| *parent == between), "{shorter:?}");
    assert!(cluster.leader() != leader || shorter[&end] == 3, "the end is below the middle now: {shorter:?}");
    fs::write(mount.path("f"), "two").unwrap();
    assert_eq!(fs::read_to_string(mount.path("f")).unwrap(), "two");
    cluster.restart(between);
    tree_of(&cluster, 5);
}
