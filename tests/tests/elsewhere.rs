//! The node that a mount works with is lost: what programs have open stays theirs, and the mount goes to another node, soon.

use baton_tests::harness::load::{Stops, contents, until_once_within};
use baton_tests::harness::{Cluster, Mount, eventually, eventually_ok};
use rustix::process::Signal;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

fn read_all(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn a_removed_file_that_is_open_outlives_its_mounts_node_and_leaves_nothing_behind() {
    let mut cluster = Cluster::start();
    let b = cluster.mount();
    let inodes = cluster.status(cluster.leader()).inodes;
    for its_own_mount_removes_it in [true, false] {
        // Once the leader, once another one, if it gets that far before it goes to the leader.
        let leader = cluster.leader();
        let mut order = cluster.ids();
        order.sort_by_key(|id| (*id == leader) != its_own_mount_removes_it);
        let a = cluster.mount_by(&order);
        let mut bytes = contents(1, 9 * MIB);
        std::fs::write(b.path("held"), &bytes).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(a.path("held")).unwrap();
        let by = if its_own_mount_removes_it { &a } else { &b };
        std::fs::remove_file(by.path("held")).unwrap();

        let lost = cluster.node_of(&a);
        cluster.kill(lost);
        assert!(read_all(&file) == bytes, "other bytes after node {lost} was killed");
        let more = contents(2, 2 * MIB);
        file.write_all_at(&more, bytes.len() as u64).unwrap();
        file.write_all_at(b"little", 5 * MIB as u64 - 3).unwrap();
        bytes.extend(more);
        bytes[5 * MIB - 3..5 * MIB + 3].copy_from_slice(b"little");
        assert!(read_all(&file) == bytes, "not what was written");
        let there = file.metadata().unwrap();
        assert_eq!((there.nlink(), there.len()), (0, bytes.len() as u64));
        println!("node {lost} was killed, node {leader} led, node {} has the mount now", cluster.node_of(&a));

        cluster.restart(lost);
        cluster.wait_caught_up_in_log(lost, Duration::from_secs(60));
        assert!(read_all(&file) == bytes, "not what was written, now that node {lost} is back");
        assert!(cluster.counted("slices") >= 10);
        drop(file);
        eventually_ok(Duration::from_secs(30), || {
            let left: Vec<u64> = cluster.ids().into_iter().map(|id| cluster.status(id).inodes).collect();
            let nothing = left.iter().all(|left| *left == inodes);
            nothing.then_some(()).ok_or_else(|| format!("{inodes} inodes everywhere, and not {left:?}"))
        });
        eventually_ok(Duration::from_secs(30), || {
            let left: Vec<_> =
                cluster.ids().into_iter().map(|id| cluster.state(id).map(|state| state.slices)).collect();
            let nothing = left.iter().all(|left| *left == Some(0));
            nothing.then_some(()).ok_or_else(|| format!("no slices anywhere, and not {left:?}"))
        });
        cluster.assert_sound();
        cluster.deep_check(&[]).unwrap_or_else(|said| panic!("{said}"));
    }
}

/// The longest that a program waits that writes and looks on a mount whose node, not the leader, is lost.
fn gap(cluster: &mut Cluster, signal: Signal) -> Duration {
    let leader = cluster.leader();
    let mut order = cluster.ids();
    order.sort_by_key(|id| *id == leader);
    // A few seconds later it has gone to the leader by itself.
    let (mount, victim) = eventually("a mount works with a follower", Duration::from_secs(60), || {
        let mount = cluster.mount_by(&order);
        (cluster.node_of(&mount) == order[0]).then_some((mount, order[0]))
    });
    let stop = AtomicBool::new(false);
    let (operations, longest) = std::thread::scope(|scope| {
        let works = scope.spawn(|| {
            let (mut operations, mut longest) = (0, Duration::ZERO);
            while !stop.load(Ordering::SeqCst) {
                let began = Instant::now();
                std::fs::write(mount.path("written"), operations.to_string()).unwrap();
                assert_eq!(
                    std::fs::metadata(mount.path("written")).unwrap().len(),
                    operations.to_string().len() as u64
                );
                longest = longest.max(began.elapsed());
                operations += 1;
            }
            (operations, longest)
        });
        let stops = Stops(&stop);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(cluster.leader(), leader);
        cluster.process(victim).signal(signal);
        std::thread::sleep(Duration::from_millis(4_500));
        drop(stops);
        works.join().unwrap()
    });
    assert!(operations > 50, "{operations} operations is no program");
    if signal == Signal::KILL {
        cluster.kill(victim);
        cluster.restart(victim);
    } else {
        cluster.process(victim).signal(Signal::CONT);
    }
    cluster.wait_caught_up_in_log(victim, Duration::from_secs(60));
    assert_ne!(cluster.node_of(&mount), victim);
    longest
}

fn shortest_gap_within(limit: Duration, signal: Signal) {
    let mut cluster = Cluster::start();
    let gaps = until_once_within(limit, |_| gap(&mut cluster, signal));
    println!("a mount whose node got {signal:?} waited {gaps:?}");
    assert!(gaps.iter().any(|gap| *gap < limit), "{gaps:?}");
    cluster.assert_sound();
}

#[test]
fn a_mount_whose_node_is_killed_is_elsewhere_within_a_second() {
    shortest_gap_within(Duration::from_secs(1), Signal::KILL);
}

#[test]
fn a_mount_whose_node_is_frozen_is_elsewhere_within_three_seconds() {
    shortest_gap_within(Duration::from_secs(3), Signal::STOP);
}

/// The leader is far away. That is where the mount goes first, by the order in which it was told of the nodes; and then to the
/// one that is near.
#[test]
fn a_mount_that_loses_its_node_ends_with_one_of_its_region() {
    let mut cluster = Cluster::start_with_one_far(Duration::from_millis(50));
    cluster.lead_from(&[3]);
    let (lost, near) = (1, 2);
    let told = [cluster.address(lost).to_owned(), cluster.way(lost, 3), cluster.address(near).to_owned()];
    let mount = Mount::start(&told.join(","));
    std::fs::write(mount.path("f"), "before").unwrap();
    assert_eq!(cluster.node_of(&mount), lost);
    cluster.kill(lost);
    let began = Instant::now();
    std::fs::write(mount.path("f"), "after").unwrap();
    println!("it waited {:?}", began.elapsed());
    eventually("it is near", Duration::from_secs(20), || (cluster.node_of(&mount) == near).then_some(()));
    println!("it works with node {near} after {:?}", began.elapsed());
    assert_eq!(cluster.leader(), 3, "nobody had to look for another leader");
    assert_eq!(std::fs::read(mount.path("f")).unwrap(), b"after");
}
