//! What is wrong with the cluster, a line each, and how long what is being done about it still takes: for `baton status`.

use super::versions;
use crate::room::ROOM_MIN;
use crate::slices::Found;
use baton_core::limits::DISK_RESERVE;
use baton_core::node::{Fetching, Pace, Space, Status, copies_wanted, is_full_disk, to_go};
use baton_core::types::NodeId;
use baton_proto::v1::NodeStatus;
use std::time::Duration;

/// A follower this many entries behind is named.
const LAG_WORTH_TELLING: u64 = 10_000;
/// Below this the disk is told to be nearly full; at the reserve itself nothing more is taken.
const SPACE_WORTH_TELLING: u64 = 2 * DISK_RESERVE;

pub(super) fn health(status: &Status, nodes: &[NodeStatus], found: Option<&Found>) -> Vec<String> {
    let mut lines = whole(status);
    let stuck = found.and_then(|_| nowhere_to_copy(nodes));
    if let Some(Found { survey, making, .. }) = found.filter(|found| found.survey.short > 0) {
        let (short, all, outlook) = (survey.short, survey.slices, outlook(stuck, making.left()));
        lines.push(format!("{short} of {all} slices have fewer copies than they should; {outlook}"));
    }
    if let Some(Found { survey, moving, .. }) = found.filter(|found| found.survey.to_move > 0) {
        let (mib, outlook) = (survey.to_move.div_ceil(1 << 20), outlook(None, moving.left()));
        lines.push(format!("the disks are not equally full: {mib} MiB move to emptier ones; {outlook}"));
    }
    lines.extend(versions::not_raised_yet(status.in_force, nodes));
    for node in nodes {
        let leads = status.leader == Some(status.node);
        lines.extend(reached(leads, node));
        if node.leaves {
            let pace = found.and_then(|found| found.leaving.get(&NodeId(node.id)));
            lines.push(leaves(node, nodes, stuck, pace.and_then(Pace::left)));
        }
        let fetching = status.peers.iter().find(|peer| peer.node.0 == node.id).and_then(|peer| peer.fetching);
        lines.extend(fetching.and_then(|fetching| lacks(node, fetching)));
        if node.lag > LAG_WORTH_TELLING {
            lines.push(format!("node {} is {} entries behind", node.id, node.lag));
        }
        lines.extend(room(node));
    }
    lines
}

/// How long something that is under way still takes: one way of saying it for all.
fn outlook(waits: Option<&str>, left: Option<Duration>) -> String {
    match (waits, left) {
        (Some(why), _) => format!("waits: {why}"),
        (None, Some(left)) => to_go(left),
        (None, None) => "how long is not known yet".into(),
    }
}

fn whole(status: &Status) -> Vec<String> {
    let mut lines = Vec::new();
    if !status.waiting_for.is_empty() {
        let names: Vec<String> = status.waiting_for.iter().map(ToString::to_string).collect();
        lines.push(format!("waiting to hear from node {} to form the cluster", names.join(", ")));
    } else if status.disk_hangs {
        lines.push(format!(
            "node {} waits for its disk: it hangs, or is full. Nothing is carried out here until it goes on",
            status.node
        ));
    } else if status.leader.is_none() {
        lines
            .push("no leader: a majority of the voting nodes cannot be reached; nothing can be read or written".into());
    }
    if !status.member && status.waiting_for.is_empty() {
        lines.push(format!("node {} does not vote until it has caught up", status.node));
    }
    lines
}

/// Why copies that are missing cannot be made anywhere, if so.
fn nowhere_to_copy(nodes: &[NodeStatus]) -> Option<&'static str> {
    let staying = || nodes.iter().filter(|node| !node.leaves);
    let wanted = copies_wanted(staying().count());
    if staying().filter(|node| !node.away).count() < wanted {
        return Some("no node is left to make them on");
    }
    let with_room = staying().filter(|node| !node.away && !has_full_disk(node));
    (with_room.count() < wanted).then_some("no node has room")
}

fn has_full_disk(node: &NodeStatus) -> bool {
    is_full_disk(&Space { total: node.disk_total, free: node.disk_free })
}

fn reached(leads: bool, node: &NodeStatus) -> Option<String> {
    let NodeStatus { id, address, .. } = node;
    if leads && !node.reachable {
        let so = if node.away { ", and has not been for long: its copies do not count" } else { "" };
        return Some(format!("node {id} at {address} cannot be reached{so}"));
    }
    node.away.then(|| format!("node {id} was away for long: its copies do not count before it has caught up"))
}

fn leaves(node: &NodeStatus, nodes: &[NodeStatus], stuck: Option<&str>, left: Option<Duration>) -> String {
    let id = node.id;
    let unsure = |other: &&NodeStatus| !other.leaves && !other.away && other.lacks != Some(0);
    match node.still_needed {
        None => format!("node {id} leaves: not looked yet"),
        Some(0) => match nodes.iter().find(unsure) {
            Some(other) => {
                let why = format!("node {} has not found yet that it has all it should keep", other.id);
                format!("node {id} leaves: no slices still to be copied; {}", outlook(Some(&why), None))
            }
            None => format!("node {id} leaves: no slices still to be copied"),
        },
        Some(slices) => format!("node {id} leaves: {slices} slices still to be copied; {}", outlook(stuck, left)),
    }
}

fn lacks(node: &NodeStatus, fetching: Fetching) -> Option<String> {
    let waits = match () {
        () if !node.reachable => Some("it cannot be reached"),
        () if has_full_disk(node) => Some("its disk is full"),
        () if fetching.in_vain => Some("no node that can be reached has a good copy"),
        () => None,
    };
    let outlook = outlook(waits, fetching.left_us.map(Duration::from_micros));
    let slices = fetching.lacks;
    (slices > 0).then(|| format!("node {} lacks {slices} slices that it should keep; {outlook}", node.id))
}

fn room(node: &NodeStatus) -> Option<String> {
    let what = match node.disk_free {
        free if free < ROOM_MIN => ": it writes nothing until there is room",
        free if free < DISK_RESERVE => ": it takes no file data until there is room",
        _ => "",
    };
    let tell = node.disk_total > 0 && node.disk_free < SPACE_WORTH_TELLING;
    tell.then(|| format!("node {} has {} MiB left on its disk{what}", node.id, node.disk_free >> 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> NodeStatus {
        let room = DISK_RESERVE + (1 << 30);
        NodeStatus {
            id,
            reachable: true,
            disk_total: 1 << 40,
            disk_free: room,
            lacks: Some(0),
            ..NodeStatus::default()
        }
    }

    fn full(id: u64) -> NodeStatus {
        NodeStatus { disk_free: DISK_RESERVE - 1, ..node(id) }
    }

    const MINUTES: Option<Duration> = Some(Duration::from_secs(200));

    #[test]
    fn how_long_is_said_alike_for_all() {
        assert_eq!(outlook(None, MINUTES), "about 3 min to go");
        assert_eq!(outlook(None, None), "how long is not known yet");
        assert_eq!(outlook(Some("no node has room"), MINUTES), "waits: no node has room");
    }

    #[test]
    fn copies_need_nodes_that_are_there_and_have_room() {
        let away = |id| NodeStatus { away: true, ..node(id) };
        assert_eq!(nowhere_to_copy(&[node(1), node(2), node(3)]), None);
        assert_eq!(nowhere_to_copy(&[node(1), node(2), away(3)]), Some("no node is left to make them on"));
        assert_eq!(nowhere_to_copy(&[node(1), node(2), full(3)]), Some("no node has room"));
        assert_eq!(nowhere_to_copy(&[node(1), node(2), away(3), full(4)]), Some("no node has room"));
        assert_eq!(nowhere_to_copy(&[node(1), node(2), away(3), node(4)]), None);
    }

    #[test]
    fn a_node_says_how_long_it_fetches_or_why_it_does_not() {
        let fetching = Fetching { lacks: 40, left_us: Some(200_000_000), in_vain: false };
        let line = |node: &NodeStatus, fetching| lacks(node, fetching).unwrap();
        let lacks_40 = |outlook: &str| format!("node 3 lacks 40 slices that it should keep; {outlook}");
        assert_eq!(line(&node(3), fetching), lacks_40("about 3 min to go"));
        assert_eq!(line(&node(3), Fetching { left_us: None, ..fetching }), lacks_40("how long is not known yet"));
        assert_eq!(line(&full(3), fetching), lacks_40("waits: its disk is full"));
        let gone = NodeStatus { reachable: false, ..full(3) };
        assert_eq!(line(&gone, fetching), lacks_40("waits: it cannot be reached"));
        let in_vain = Fetching { in_vain: true, ..fetching };
        assert_eq!(line(&node(3), in_vain), lacks_40("waits: no node that can be reached has a good copy"));
        assert_eq!(lacks(&node(3), Fetching::default()), None);
    }

    #[test]
    fn who_leaves_says_how_long_or_for_whom_it_waits() {
        let leaving = |still_needed| NodeStatus { leaves: true, still_needed, ..node(4) };
        let nodes = |lacks| [node(1), node(2), NodeStatus { lacks, ..node(3) }];
        let line = |still_needed, lacks, stuck| leaves(&leaving(still_needed), &nodes(lacks), stuck, MINUTES);
        assert_eq!(line(None, None, None), "node 4 leaves: not looked yet");
        assert_eq!(line(Some(7), None, None), "node 4 leaves: 7 slices still to be copied; about 3 min to go");
        let full = line(Some(7), Some(0), Some("no node has room"));
        assert_eq!(full, "node 4 leaves: 7 slices still to be copied; waits: no node has room");
        let unsure = line(Some(0), Some(2), None);
        assert!(unsure.ends_with("; waits: node 3 has not found yet that it has all it should keep"), "{unsure}");
        assert_eq!(line(Some(0), Some(0), None), "node 4 leaves: no slices still to be copied");
    }
}
