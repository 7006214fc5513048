//! Who floods gets pressure back, and not the others.

use baton_tests::harness::flood::{Sends, beside, heedless, rounds_during};
use baton_tests::harness::{Cluster, Mount};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// On a mount of its own, at another node, or at the same.
#[test]
fn a_program_goes_on_beside_a_mount_that_floods() {
    let mut cluster = Cluster::start();
    let (one, flood) = (cluster.mount(), cluster.mount());
    let before = memory(&mut cluster);
    let (alone, beside, bytes) = beside(&one.folder("one"), &flood.folder("flood"), 64, Duration::from_secs(6));
    println!(
        "alone {} rounds, longest {:?}; beside {} MB {} rounds, longest {:?}",
        alone.count(),
        alone.longest(),
        bytes >> 20,
        beside.count(),
        beside.longest()
    );
    assert!(beside.count() > 0 && beside.longest() < Duration::from_secs(3), "longest {:?}", beside.longest());
    let after = memory(&mut cluster);
    assert_bounded(&before, &after);
    cluster.assert_sound();
}

/// Not one of ours: a client of the wire that sends on and on and reads no answer.
#[test]
fn a_client_that_waits_for_no_answer_is_not_read_and_fills_nobodys_memory() {
    let mut cluster = Cluster::start();
    let one = cluster.mount();
    let (folder, object) = (one.folder("one"), one.folder("flood").metadata().unwrap().ino());
    let value = "x".repeat(60_000);
    rustix::fs::setxattr(one.path("flood"), "user.flood", value.as_bytes(), rustix::fs::XattrFlags::empty()).unwrap();
    let leader = cluster.leader();
    let follower = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    for (node, sends) in
        [(leader, Sends::Changes), (follower, Sends::Changes), (leader, Sends::Questions), (follower, Sends::Questions)]
    {
        let before = memory(&mut cluster);
        let address = cluster.address(node).to_owned();
        let (rounds, taken) = rounds_during(&folder, || heedless(&address, object, sends, Duration::from_secs(4)));
        let after = memory(&mut cluster);
        println!(
            "{sends:?} at node {node} of which {leader} leads: {} MB taken; {} rounds beside it, longest {:?}; memory {after:?} MiB",
            taken >> 20,
            rounds.count(),
            rounds.longest()
        );
        assert!(taken > 0 && rounds.count() > 0);
        assert!(rounds.longest() < Duration::from_secs(3), "{sends:?}: longest {:?}", rounds.longest());
        assert_bounded(&before, &after);
    }
    cluster.assert_sound();
    assert!(goes_on(&one));
}

fn goes_on(mount: &Mount) -> bool {
    std::fs::write(mount.path("afterwards"), "well").is_ok()
}

/// Resident MiB of every node.
fn memory(cluster: &mut Cluster) -> Vec<u64> {
    cluster.ids().into_iter().map(|id| cluster.process(id).resident() >> 20).collect()
}

/// A flood of gigabytes leaves some hundred MiB at most: what is in the log's tail, and in the queues by name.
fn assert_bounded(before: &[u64], after: &[u64]) {
    let most = |all: &[u64]| all.iter().max().copied().unwrap_or(0);
    assert!(most(after) < most(before) + 400, "from {before:?} to {after:?} MiB");
}
