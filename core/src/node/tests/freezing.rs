//! The state as it is behind one entry.

use super::*;

/// All of it, and what was told of each request.
fn whole(frozen: &Frozen) -> Vec<(Key, Value)> {
    let end = Key::Session(SessionId(u64::MAX));
    let mut all = frozen.range(&Key::Volume, &end, usize::MAX).unwrap();
    all.extend(frozen.get(&end).unwrap().map(|value| (end, value)));
    all
}

impl Cluster {
    fn freeze(&mut self, node: NodeId, request: u64, at: Option<u64>) {
        self.peers.get_mut(&node).unwrap().inbox.push(Input::Freeze { request, at });
        self.settle();
    }

    fn applied(&self, node: NodeId) -> u64 {
        self.machine(node).status().applied
    }
}

#[test]
fn every_node_has_the_same_state_behind_an_entry_though_all_go_on() {
    let mut cluster = Cluster::formed();
    let leader = cluster.leader();
    let session = cluster.greet(leader);
    cluster.pass(500_000);
    let at = cluster.applied(leader) + 3;
    for node in [1, 2, 3] {
        cluster.freeze(NodeId(node), node, Some(at));
    }
    assert!(cluster.frozen.is_empty(), "nobody is there yet");
    for number in 1..=9 {
        cluster
            .mount_says(leader, ToNode::Commands(vec![Cluster::mkdir_named(session, number, &format!("d{number}"))]));
        cluster.pass(100_000);
    }
    let frozen = std::mem::take(&mut cluster.frozen);
    let states: Vec<&Frozen> = frozen.iter().filter_map(|(_, _, state)| state.as_ref()).collect();
    assert!(states.len() == 3 && states.iter().all(|state| state.at == at), "{frozen:?}");
    let kept = whole(states[0]);
    assert!(states.iter().all(|state| whole(state) == kept));
    let entries = |all: &[(Key, Value)]| all.iter().filter(|(key, _)| matches!(key, Key::Entry(..))).count();
    assert!((1..9).contains(&entries(&kept)), "{kept:?}");

    cluster.freeze(leader, 7, None);
    let (_, _, now) = cluster.frozen.pop().unwrap();
    assert_eq!(entries(&whole(&now.unwrap())), 9);
    cluster.freeze(leader, 8, Some(at));
    assert!(matches!(cluster.frozen.pop(), Some((_, 8, None))), "it was passed");
}

#[test]
fn who_asks_for_what_never_comes_does_not_fill_a_nodes_memory() {
    let mut cluster = Cluster::formed();
    let leader = cluster.leader();
    for request in 0..1_000 {
        cluster.freeze(leader, request, Some(u64::MAX - request));
    }
    let refused = cluster.frozen.iter().filter(|(_, _, state)| state.is_none()).count();
    assert!((900..1_000).contains(&refused), "{refused}");
}
