//! A node whose own disk does not answer: its mounts read what they want from others, and nobody writes more slowly for it.

use baton_tests::harness::load::{assert_kept, contents, longest_gap, under_load};
use baton_tests::harness::{Cluster, HangingDisk, Mount, eventually, folder};
use std::time::{Duration, Instant};

const SIZE: usize = 32 << 20;

fn read_within(limit: Duration, path: &std::path::Path, of: u8) -> Duration {
    let started = Instant::now();
    let path = path.to_owned();
    // A read that hangs is to be told, not waited for.
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(std::fs::read(path)));
    let read = told.recv_timeout(limit).unwrap_or_else(|_| panic!("not read within {limit:?}"));
    assert!(read.unwrap() == contents(of, SIZE), "other bytes");
    started.elapsed()
}

#[test]
fn what_a_nodes_own_disk_does_not_give_is_read_from_others() {
    let disk = HangingDisk::new();
    let mut cluster = Cluster::start_in(&[folder("node"), folder("node"), disk.path().join("node")]);
    cluster.lead_from(&[1, 2]);
    let writer = Mount::start(cluster.address(1));
    // Told of this node alone, and with nothing in its caches. It finds the leader after some 3 s: so the reading begins at once.
    let reader = || Mount::start(cluster.address(3));
    for of in 0..3 {
        std::fs::write(writer.path(&format!("file-{of}")), contents(of, SIZE)).unwrap();
    }
    cluster.wait_has_its_slices(3, Duration::from_secs(30));
    let through = {
        let _held = disk.hold();
        let through = reader();
        eventually("its mount works with it", Duration::from_secs(2), || {
            cluster.status(3).mounts.iter().any(|mount| mount.node == 3).then_some(())
        });
        let took = read_within(Duration::from_secs(5), &through.path("file-0"), 0);
        // Many at once, and more than there are threads: none is lost to the disk for good.
        let many: Vec<Mount> = (0..4).map(|_| reader()).collect();
        std::thread::scope(|scope| {
            let read = |of: u8| {
                let many = &many;
                move || {
                    read_within(Duration::from_secs(20), &many[of as usize].path(&format!("file-{}", of % 3)), of % 3)
                }
            };
            let each: Vec<_> = (0..4).map(|of| scope.spawn(read(of))).collect();
            each.into_iter().for_each(|each| assert!(each.join().unwrap() < Duration::from_secs(20)));
        });
        let folders = [through.folder("load"), writer.path("load")];
        let promised = under_load(&folders, || std::thread::sleep(Duration::from_secs(3)));
        let gap = longest_gap(&promised);
        println!("32 MiB that its node could not read: {took:?}; longest operation of programs beside it {gap:?}");
        assert!(gap < Duration::from_secs(3), "{gap:?}");
        assert_kept(&promised, &folders[0]);
        through
    };
    read_within(Duration::from_secs(10), &through.path("file-1"), 1);
    cluster.wait_has_its_slices(3, Duration::from_secs(60));
    cluster.assert_sound();
    // Which reads every node's own copies.
    eventually("a deep check finds nothing", Duration::from_secs(30), || cluster.deep_check(&[]).ok());
}
