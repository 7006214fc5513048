//! A leader is cut off, together with mounts that work with it: nobody there is told what was so before, and the majority goes on.

use baton_tests::harness::load::{longest_gap, under_load, until_once_within};
use baton_tests::harness::{Cluster, Mount, Net, eventually, folder};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const NODES: usize = 3;
/// Places of the network behind those of the nodes.
const MINORITY: usize = NODES;
const MAJORITY: usize = NODES + 1;
/// Known to the caches of the mounts that are cut off, and not.
const FILES: [&str; 3] = ["read-again-and-again", "read-once", "never-read"];
const SOFT_TIMEOUT: Duration = Duration::from_secs(2);

/// A read: when it began and ended, and what it gave.
struct Read {
    file: &'static str,
    began: Instant,
    ended: Instant,
    got: io::Result<String>,
}

impl Read {
    fn of(path: PathBuf, file: &'static str) -> Read {
        let began = Instant::now();
        let got = std::fs::read_to_string(path);
        Read { file, began, ended: Instant::now(), got }
    }
}

/// In a thread of its own, because it may wait until all is healed.
fn read_later(mount: &Mount, file: &'static str) -> Receiver<Read> {
    let (path, (tell, told)) = (mount.path(file), channel());
    std::thread::spawn(move || tell.send(Read::of(path, file)));
    told
}

struct Ends<'n> {
    net: &'n Net,
    stop: &'n AtomicBool,
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.net.heal();
        self.stop.store(true, Ordering::SeqCst);
    }
}

struct Scene {
    net: Net,
    cluster: Cluster,
    /// Both at one place: one that gives up, one that waits.
    soft: Mount,
    hard: Mount,
    majority: Mount,
}

impl Scene {
    /// Cuts the leader and two mounts off, and heals it; what the majority's program waited at longest.
    fn cut_and_heal(&self, round: usize) -> Duration {
        let (old, new) = (format!("old {round}"), format!("new {round}"));
        let write_all =
            |text: &str| FILES.iter().for_each(|file| std::fs::write(self.majority.path(file), text).unwrap());
        write_all(&old);
        let cut_off = [&self.soft, &self.hard];
        for mount in cut_off {
            for file in &FILES[..2] {
                assert_eq!(std::fs::read_to_string(mount.path(file)).unwrap(), old);
            }
            assert_eq!(self.cluster.node_of(mount), self.cluster.leader());
        }
        let leader = self.cluster.leader();
        let stop = AtomicBool::new(false);
        let (reads, gap) = std::thread::scope(|scope| {
            let reading = cut_off.map(|mount| {
                let stop = &stop;
                scope.spawn(move || {
                    let mut reads = Vec::new();
                    while !stop.load(Ordering::SeqCst) {
                        reads.push(Read::of(mount.path(FILES[0]), FILES[0]));
                    }
                    reads
                })
            });
            let (mut reads, mut changed, mut healed) = (Vec::new(), Instant::now(), Instant::now());
            let promised = under_load(&[self.majority.path("load")], || {
                // However it ends, all is healed then and who reads stops: what waits would be waited for.
                let _ends = Ends { net: &self.net, stop: &stop };
                let here = leader as usize - 1;
                let there: Vec<usize> = (0..NODES).filter(|node| *node != here).collect();
                there.iter().for_each(|node| self.net.cut(here, *node));
                there.iter().for_each(|node| self.net.cut(MINORITY, *node));
                self.net.cut(here, MAJORITY);
                write_all(&new);
                changed = Instant::now();
                let late: Vec<Receiver<Read>> =
                    cut_off.iter().flat_map(|mount| FILES.map(|file| read_later(mount, file))).collect();
                let (of_soft, of_hard) = late.split_at(FILES.len());
                for read in of_soft {
                    let read = read.recv_timeout(3 * SOFT_TIMEOUT).expect("a soft mount gives up");
                    let errno = read.got.expect_err("nobody can know it there").raw_os_error();
                    assert_eq!(errno, Some(rustix::io::Errno::TIMEDOUT.raw_os_error()), "{}", read.file);
                }
                assert!(of_hard.iter().all(|read| read.try_recv().is_err()), "a hard mount waits");
                healed = Instant::now();
                self.net.heal();
                for read in of_hard {
                    reads.push(read.recv_timeout(Duration::from_secs(20)).expect("it goes on when all is healed"));
                }
            });
            reads.extend(reading.into_iter().flat_map(|reading| reading.join().unwrap()));
            // What began before the majority had answered for the change may give either; not if it waited until all was healed.
            reads.retain(|read| read.began > changed || read.ended > healed);
            (reads, longest_gap(&promised))
        });
        let mut given: BTreeMap<&str, usize> = BTreeMap::new();
        for read in &reads {
            match &read.got {
                Ok(text) => assert_eq!(*text, new, "{} {:?} before the end", read.file, read.ended - read.began),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::TIMEDOUT.raw_os_error()), "{error}")
                }
            }
            *given.entry(if read.got.is_ok() { "new" } else { "gave up" }).or_default() += 1;
        }
        println!("round {round}: reads after the change gave {given:?}; longest operation of the majority {gap:?}");
        for mount in cut_off {
            for file in FILES {
                let read = || std::fs::read_to_string(mount.path(file)).ok();
                assert_eq!(eventually("it reads again", Duration::from_secs(20), read), new);
            }
        }
        gap
    }
}

#[test]
fn who_is_cut_off_with_the_leader_reads_nothing_old_and_the_majority_goes_on() {
    let Some(net) = Net::start(NODES + 2) else { return };
    net.enter();
    let cluster = Cluster::start_on(&net, &[0; NODES].map(|_| folder("node")), &[]);
    let addresses = cluster.addresses();
    let soft = ["-o".to_owned(), format!("soft,timeout={}", SOFT_TIMEOUT.as_secs())];
    let scene = Scene {
        soft: Mount::start_at_with(&net, MINORITY, &addresses, &soft.each_ref().map(String::as_str)),
        hard: Mount::start_at(&net, MINORITY, &addresses),
        majority: Mount::start_at(&net, MAJORITY, &addresses),
        net,
        cluster,
    };
    scene.majority.folder("load");
    let gaps = until_once_within(Duration::from_secs(3), |round| {
        // The mounts have found the leader.
        let all_there = || {
            let leader = scene.cluster.leader();
            let mounts = [&scene.soft, &scene.hard];
            mounts.iter().all(|mount| scene.cluster.node_of(mount) == leader).then_some(())
        };
        eventually("all work with the leader", Duration::from_secs(30), all_there);
        scene.cut_and_heal(round)
    });
    assert!(gaps.iter().any(|gap| *gap < Duration::from_secs(6)), "{gaps:?}");
    scene.cluster.assert_sound();
}
