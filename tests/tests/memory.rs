//! Where memory goes is bounded: processes that stop and go on leave no queue behind that grows.

use baton_tests::harness::load::{assert_kept, longest_gap, under_load};
use baton_tests::harness::{Cluster, Mount, number_from_env};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// A mount and the node it hangs on are frozen and thawed in turn, under load. Half a minute by default;
/// `BATON_FREEZE_SECONDS=3600` for an hour.
#[test]
fn a_mount_and_its_node_that_freeze_and_thaw_leave_memory_where_it_was() {
    let mut cluster = Cluster::start();
    let mut a = Mount::start(&cluster.addresses());
    let mut b = cluster.mount();
    let folders = [a.folder("load"), b.path("load")];
    let runs_for = Duration::from_secs(number_from_env("BATON_FREEZE_SECONDS", 30));
    let began = Instant::now();
    // After each round, of every process: nodes, then mounts.
    let mut seen: Vec<Vec<u64>> = Vec::new();
    let promised = under_load(&folders, || {
        while began.elapsed() < runs_for {
            a.process().signal(Signal::STOP);
            std::thread::sleep(Duration::from_millis(2_500));
            a.process().signal(Signal::CONT);
            let at = cluster.leader(); // mounts go where the leader is
            cluster.process(at).signal(Signal::STOP);
            std::thread::sleep(Duration::from_millis(2_500));
            cluster.process(at).signal(Signal::CONT);
            std::thread::sleep(Duration::from_millis(1_500));
            let nodes = cluster.ids().into_iter().map(|id| cluster.process(id).resident());
            seen.push(nodes.chain([a.process().resident(), b.process().resident()]).collect());
        }
    });
    assert_kept(&promised, &folders[0]);
    cluster.assert_sound();
    println!("{} rounds, longest operation {:?}", seen.len(), longest_gap(&promised));
    let third = seen.len().div_ceil(3);
    for process in 0..seen[0].len() {
        let most = |rounds: &[Vec<u64>]| rounds.iter().map(|round| round[process]).max().unwrap_or(0);
        let (first, middle, last) = (most(&seen[..third]), most(&seen[third..2 * third]), most(&seen[2 * third..]));
        let mib = |bytes: u64| bytes >> 20;
        println!("process {process}: at most {} MiB, then {}, then {}", mib(first), mib(middle), mib(last));
        assert!(last < middle + middle / 4 + (32 << 20), "process {process} grows");
    }
}
