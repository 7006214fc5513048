//! Disks that lie or are full: damaged slices, a damaged log, a damaged state, no room.

use baton_node::storage::{LogWrite, RaftLog};
use baton_tests::harness::load::{Stops, assert_kept, longest_gap, under_load};
use baton_tests::harness::{Cluster, Mount, Process, SmallDisk, baton, eventually, folder, number_from_env, sh};
use raft::eraftpb::Entry;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes of which no two pieces are alike.
fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len.div_ceil(8)).flat_map(|_| next()).take(len).collect()
}

/// The files in a folder whose names end so.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.to_str().unwrap().ends_with(end)).collect();
    files.sort();
    assert!(!files.is_empty(), "no *{end} in {}", folder.display());
    files
}

/// Where a piece of a file's data stands in a node's segment files.
fn find(node: &Path, piece: &[u8]) -> Option<(PathBuf, u64)> {
    files(&node.join("slices"), ".slices").into_iter().find_map(|path| {
        let bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(piece.len()).position(|window| window == piece)?;
        Some((path, at as u64))
    })
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x55], at).unwrap();
}

/// Somebody other than the leader, and the leader.
fn follower(cluster: &Cluster) -> u64 {
    let leader = cluster.leader();
    cluster.ids().into_iter().find(|id| *id != leader).unwrap()
}

/// Six files of several slices, and pieces of them by which they are found on a disk.
struct Contents {
    files: Vec<Vec<u8>>,
}

impl Contents {
    fn write(mount: &Mount) -> Contents {
        let files: Vec<Vec<u8>> = (1..=6).map(|seed| random(seed, 700_000)).collect();
        for (number, bytes) in files.iter().enumerate() {
            std::fs::write(mount.path(&format!("file-{number}")), bytes).unwrap();
        }
        Contents { files }
    }

    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.files.iter().flat_map(|bytes| [0, 333_333, 699_000].map(|at| &bytes[at..at + 64]))
    }

    /// Flips a bit in each piece on this node's disk.
    fn damage(&self, node: &Path) {
        for piece in self.pieces() {
            let (path, at) = find(node, piece).expect("a replica on every node");
            flip(&path, at + 32);
        }
    }

    fn assert_read(&self, mount: &Mount) {
        for (number, bytes) in self.files.iter().enumerate() {
            let found = std::fs::read(mount.path(&format!("file-{number}"))).unwrap();
            assert!(found == *bytes, "file {number} has other bytes");
        }
    }

    fn wait_repaired(&self, node: &Path) {
        eventually("good copies of all damaged pieces are on the disk", Duration::from_secs(60), || {
            self.pieces().all(|piece| find(node, piece).is_some()).then_some(())
        });
    }
}

#[test]
fn slices_damaged_while_a_node_is_down_are_never_served_and_are_repaired() {
    let mut cluster = Cluster::start();
    let contents = Contents::write(&cluster.mount());
    let victim = follower(&cluster);
    cluster.kill(victim);
    contents.damage(cluster.data(victim));
    cluster.restart(victim);
    cluster.leader();
    // This mount begins at the damaged node, and nothing is cached anywhere.
    contents.assert_read(&Mount::start(cluster.address(victim)));
    let said = cluster.process(victim).said();
    assert!(said.contains("torn by a crash, or damaged"), "the damage was not told:\n{said}");
    contents.wait_repaired(cluster.data(victim));
    cluster.assert_sound();
}

#[test]
fn slices_damaged_under_a_running_node_are_never_served_and_are_repaired() {
    let mut cluster = Cluster::start();
    let contents = Contents::write(&cluster.mount());
    let victim = cluster.leader();
    contents.damage(cluster.data(victim));
    contents.assert_read(&Mount::start(cluster.address(victim)));
    let said = cluster.process(victim).said();
    assert!(said.contains("is damaged"), "the damage was not told:\n{said}");
    contents.wait_repaired(cluster.data(victim));
    eventually("the repair is told", Duration::from_secs(5), || {
        cluster.process(victim).said().contains("a damaged slice was replaced").then_some(())
    });
    cluster.assert_sound();
}

#[test]
fn damage_that_nobody_reads_is_found_and_repaired() {
    let mut cluster = Cluster::start();
    let contents = Contents::write(&cluster.mount());
    let victim = follower(&cluster);
    contents.damage(cluster.data(victim));
    contents.wait_repaired(cluster.data(victim));
    let said = cluster.process(victim).said();
    assert!(said.contains("is damaged") && said.contains("a damaged slice was replaced"), "it was not told:\n{said}");
    cluster.assert_sound();
}

/// When nothing happens, a node brings its state to the disk within this time.
const CHECKPOINT: Duration = Duration::from_secs(7);

/// Damages what a node keeps beside slices while it is down; it must say so, come back with everything, and serve.
fn damaged_while_down(damage: impl FnOnce(&Path), must_say: &str) {
    let mut cluster = Cluster::start();
    let lines = "for n in $(seq 60); do echo $n > $n; done; mkdir d; mv 7 d; rm 8; head -c 200000 /dev/zero > large";
    let all = "ls | sort | md5sum; cat $(ls -p | grep -v /) d/7 | md5sum";
    let mount = cluster.mount();
    sh(mount.dir(), lines);
    sh(mount.dir(), "echo back > back");
    let before = sh(mount.dir(), all);
    let victim = follower(&cluster);
    // Until it has made a checkpoint of its state: only then can it know how far the log went.
    std::thread::sleep(CHECKPOINT);
    cluster.kill(victim);
    damage(cluster.data(victim));
    cluster.restart(victim);
    cluster.wait_caught_up(victim, Duration::from_secs(30));
    let said = cluster.process(victim).said();
    assert!(said.contains(must_say), "the damage was not told:\n{said}");
    assert!(cluster.process(victim).is_running());
    cluster.assert_sound();
    let other = cluster.ids().into_iter().find(|id| *id != victim).unwrap();
    cluster.kill(other);
    cluster.leader();
    let through = Mount::start(cluster.address(victim));
    assert_eq!(sh(through.dir(), all), before);
    sh(mount.dir(), "echo on > on");
    assert_eq!(sh(through.dir(), "cat on"), "on\n");
}

/// Where the written part of the last log file ends: the rest is zeros, made in advance.
fn log_end(node: &Path) -> (PathBuf, u64) {
    let path = files(&node.join("log"), ".raftlog").pop().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("a log that was written to");
    (path, end as u64 + 1)
}

#[test]
fn a_damaged_tail_of_the_log_is_told_and_filled_again() {
    let damage = |node: &Path| {
        let (path, end) = log_end(node);
        (1..40).for_each(|step| flip(&path, end - 50 * step));
    };
    damaged_while_down(damage, "votes again when it has caught up");
}

#[test]
fn a_log_that_was_cut_short_is_told_and_filled_again() {
    let damage = |node: &Path| {
        let (path, end) = log_end(node);
        File::options().write(true).open(path).unwrap().set_len(end / 2).unwrap();
    };
    damaged_while_down(damage, "votes again when it has caught up");
}

/// Nobody was told that what was torn is there, so nobody has to do anything about it. Of more that is missing the node speaks
/// itself, as above.
#[test]
fn a_write_to_the_log_that_was_torn_by_a_kill_is_no_news() {
    let mut cluster = Cluster::start_in(&[folder("one").join("node")]);
    cluster.kill(1);
    let start = |log: Option<&str>| {
        let (path, end) = log_end(cluster.data(1));
        let torn = [&[0; 6][..], &[5, 1], &[0xEE; 400]].concat();
        File::options().write(true).open(path).unwrap().write_all_at(&torn, end + 8).unwrap();
        let mut command = baton();
        command.args(["node", "--id", "1", "--listen", cluster.address(1), "--peers", &cluster.peers()]);
        command.args(["--metrics", "none", "--data"]).arg(cluster.data(1)).env("NO_COLOR", "1").env_remove("BATON_LOG");
        command.envs(log.map(|log| ("BATON_LOG", log)));
        let mut node = Process::start("node-1", command);
        node.wait_for_line("node 1 listens", Duration::from_secs(20));
        node.kill();
        node.said()
    };
    for (log, is_news) in [(None, false), (Some("warn"), true)] {
        let said = start(log);
        assert_eq!(said.contains("Truncating log file"), is_news, "with BATON_LOG {log:?}:\n{said}");
    }
}

#[test]
fn a_damaged_state_is_told_and_fetched_again() {
    let damage = |node: &Path| {
        let path = node.join("state.redb");
        let size = path.metadata().unwrap().len();
        (0..size / 512).for_each(|step| flip(&path, step * 512 + 17));
    };
    damaged_while_down(damage, "fetches everything from the others");
}

#[test]
fn a_state_that_was_cut_short_is_told_and_fetched_again() {
    let damage = |node: &Path| {
        let path = node.join("state.redb");
        let size = path.metadata().unwrap().len();
        File::options().write(true).open(path).unwrap().set_len(size / 3).unwrap();
    };
    damaged_while_down(damage, "fetches everything from the others");
}

#[test]
fn a_full_disk_is_enospc_until_something_is_deleted_and_reading_goes_on() {
    let Some(disk) = SmallDisk::new(560) else { return };
    let cluster = Cluster::start_in(&[1, 2, 3].map(|id| disk.path().join(format!("node-{id}"))));
    let mount = cluster.mount();
    let dir = mount.folder("full");
    let mut kept = Vec::new();
    let refused = (0..500).find_map(|number| {
        let (path, bytes) = (dir.join(format!("{number}")), random(number, 1 << 20));
        match std::fs::write(&path, &bytes) {
            Ok(()) => kept.push((path, bytes)),
            Err(error) => return Some(error),
        }
        None
    });
    let refused = refused.expect("a disk of 560 MiB takes three times 500 MiB");
    assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::NOSPC.raw_os_error()), "{refused}");
    println!("full after {} MiB", kept.len());
    assert!(kept.len() >= 5, "full after {} MiB already", kept.len());
    // What is left is for small things, while there is any of that.
    disk.fill_up_to(200);
    eventually("small files are refused too", Duration::from_secs(10), || {
        std::fs::write(dir.join("small"), "small").err().filter(|error| error.kind() == std::io::ErrorKind::StorageFull)
    });
    for (path, bytes) in &kept {
        assert!(std::fs::read(path).unwrap() == *bytes, "{}", path.display());
    }
    sh(&dir, "mv 0 zero; chmod 600 zero; ls | wc -l");
    sh(&dir, "rm -f [1-9]*");
    disk.make_room();
    eventually("what was deleted made room", Duration::from_secs(60), || {
        let again = std::fs::write(dir.join("again"), random(7, 3 << 20));
        again.inspect_err(|error| assert_eq!(error.kind(), std::io::ErrorKind::StorageFull)).ok()
    });
    assert!(std::fs::read(dir.join("again")).unwrap() == random(7, 3 << 20));
    assert!(std::fs::read(dir.join("zero")).unwrap() == kept[0].1);
    cluster.assert_sound();
}

/// What is written in small pieces lies in the state of every node, in a file that does not get smaller by itself.
#[test]
fn small_files_that_are_deleted_make_room() {
    let disks = [(); 3].map(|()| SmallDisk::new(700));
    let [Some(_), Some(_), Some(_)] = &disks else { return };
    let cluster = Cluster::start_in(&disks.iter().flatten().map(|disk| disk.path().join("node")).collect::<Vec<_>>());
    let mount = cluster.mount();
    for number in 0..1200 {
        std::fs::write(mount.path(&format!("small-{number}")), random(number, 60_000)).unwrap();
    }
    // As if something else were there too: the state's own file is what fills these disks then.
    disks.iter().flatten().for_each(|disk| disk.fill_up_to(240));
    let refused = eventually("no disk takes more", Duration::from_secs(10), || {
        std::fs::write(mount.path("more"), random(1, 60_000)).err()
    });
    assert_eq!(refused.kind(), std::io::ErrorKind::StorageFull);
    // What was written last stays, at the end of the state's file.
    sh(mount.dir(), "rm -f small-? small-?? small-??? more");
    eventually("there is room again", Duration::from_secs(60), || {
        std::fs::write(mount.path("more"), random(2, 60_000)).ok()
    });
    assert!(std::fs::read(mount.path("more")).unwrap() == random(2, 60_000));
    for number in 1000..1200 {
        assert!(std::fs::read(mount.path(&format!("small-{number}"))).unwrap() == random(number, 60_000));
    }
    cluster.assert_sound();
}

/// One node has no room and one is away: that passes, and nobody is told that the file system is full.
#[test]
fn a_full_disk_beside_a_dead_node_is_waiting_and_no_enospc() {
    let Some(disk) = SmallDisk::new(600) else { return };
    let mut cluster = Cluster::start_in(&[folder("node"), folder("node"), disk.path().join("node")]);
    cluster.lead_from(&[1, 2]);
    let leader = cluster.leader();
    let other = 3 - leader;
    let mount = Mount::start(cluster.address(leader));
    disk.fill_up_to(150);
    std::fs::write(mount.path("two-have-room"), random(1, 300_000)).unwrap();
    cluster.kill(other);
    std::thread::scope(|scope| {
        let write = scope.spawn(|| std::fs::write(mount.path("one-has-room"), random(2, 300_000)));
        std::thread::sleep(Duration::from_secs(4));
        assert!(!write.is_finished(), "one copy is not enough: {:?}", write.join());
        cluster.restart(other);
        write.join().unwrap().unwrap();
    });
    assert!(std::fs::read(mount.path("one-has-room")).unwrap() == random(2, 300_000));
}

/// One bit of one file, or everything behind one place of it; which, follows from the seed.
fn spoil(node: &Path, seed: u64, runs: bool) -> String {
    let draw = |salt: u64, n: u64| u64::from_le_bytes(random(seed * 31 + salt, 8).try_into().unwrap()) % n;
    let all = ["log", "slices", "."].iter().flat_map(|folder| std::fs::read_dir(node.join(folder)).unwrap());
    let all = all.map(|entry| entry.unwrap().path());
    // Under a running node what it wrote once and for all; that it holds open, and will write to, is no file any more.
    let fits = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let kept = ["lock", "LOCK"].iter().all(|lock| name != *lock);
        path.is_file() && kept && (!runs || name.ends_with(".slices") || name.ends_with(".redb"))
    };
    let mut files: Vec<PathBuf> = all.filter(fits).filter(|path| path.metadata().unwrap().len() > 0).collect();
    files.sort();
    let path = files[draw(1, files.len() as u64) as usize].clone();
    let at = draw(2, path.metadata().unwrap().len());
    if !runs && draw(3, 8) == 0 {
        File::options().write(true).open(&path).unwrap().set_len(at).unwrap();
        return format!("{} cut at {at}", path.display());
    }
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1 << draw(4, 8)], at).unwrap();
    format!("a bit of {} at {at}", path.display())
}

/// Starts a node that does not run; whether it caught up. `false`: it has ended instead.
fn comes_back(cluster: &mut Cluster, id: u64) -> bool {
    if !cluster.is_running(id) && !cluster.try_restart(id) {
        return false;
    }
    let applied = cluster.state(cluster.leader()).map_or(0, |state| state.applied);
    eventually("it has caught up, or ended", Duration::from_secs(60), || {
        let caught_up = cluster.state(id).is_some_and(|state| state.votes && state.applied >= applied);
        (caught_up || !cluster.is_running(id)).then_some(caught_up)
    })
}

/// Over every kind of file of one node, while it is down and while it runs: nothing that is wrong is ever served, and in the
/// end everything is right. `BATON_FLIPS=1000` for a campaign.
#[test]
fn bits_flipped_all_over_one_nodes_disk_are_never_served_and_are_repaired() {
    let mut cluster = Cluster::start();
    let mount = cluster.mount();
    let contents = Contents::write(&mount);
    let all = "for n in $(seq 40); do cat small/$n; done | md5sum; ls -lR --time-style=full-iso small | md5sum";
    sh(mount.dir(), "mkdir small; for n in $(seq 40); do echo $n > small/$n; done");
    let before = sh(mount.dir(), all);
    let victim = follower(&cluster);
    let flips = number_from_env("BATON_FLIPS", 16);
    let (mut rebuilt, mut refused) = (0, 0);
    for flip in 1..=flips {
        let runs = flip % 3 == 0;
        if !runs {
            cluster.kill(victim);
        }
        let what = spoil(cluster.data(victim), flip, runs);
        if cluster.is_running(victim) && runs {
            std::thread::sleep(Duration::from_millis(200));
        }
        // One that found damage while it ran has ended, and rebuilds what is damaged when it is started again.
        if !comes_back(&mut cluster, victim) && !comes_back(&mut cluster, victim) {
            // Its own name was damaged, say, or its cluster's: it must not run, and says why. Its operator gives it an empty
            // folder.
            refused += 1;
            cluster.kill(victim);
            cluster.wipe(victim);
            cluster.restart(victim);
            cluster.wait_caught_up_in_log(victim, Duration::from_secs(60));
        }
        sh(mount.dir(), &format!("echo {flip} > last; [ $(cat last) = {flip} ]"));
        if flip % 4 == 0 {
            let through = Mount::start(cluster.address(victim));
            contents.assert_read(&through);
            assert_eq!(sh(through.dir(), all), before, "after {flip} flips, the last {what}");
            rebuilt += usize::from(cluster.data(victim).join("damaged-1").exists());
        }
    }
    println!("{flips} flips: {rebuilt} times it had been rebuilt when looked at, {refused} times it would not start");
    cluster.kill(victim);
    assert!(cluster.try_restart(victim));
    cluster.wait_caught_up_in_log(victim, Duration::from_secs(60));
    // What a check finds is repaired without being told to.
    eventually("a deep check finds nothing", Duration::from_secs(60), || cluster.deep_check(&[]).ok());
    contents.assert_read(&mount);
    assert_eq!(sh(mount.dir(), all), before);
}

#[test]
fn a_deep_check_finds_a_damaged_copy_and_mends_it() {
    let cluster = Cluster::start();
    let contents = Contents::write(&cluster.mount());
    eventually("a deep check finds nothing", Duration::from_secs(30), || cluster.deep_check(&[]).ok());
    let victim = follower(&cluster);
    contents.damage(cluster.data(victim));
    let said = cluster.deep_check(&[]).expect_err("18 pieces are damaged");
    assert!(said.contains(&format!("node {victim}'s copy of slice")) && said.contains("is damaged"), "{said}");
    let said = cluster.deep_check(&["--mend"]).unwrap_or_else(|said| panic!("{said}"));
    assert!(said.contains(" mended"), "{said}");
    eventually("a deep check finds nothing", Duration::from_secs(10), || cluster.deep_check(&[]).ok());
    contents.wait_repaired(cluster.data(victim));
}

#[test]
fn a_deep_check_compares_states_that_go_on_and_takes_the_lead_from_nobody() {
    let cluster = Cluster::start();
    let mount = cluster.mount();
    let term = |cluster: &Cluster| cluster.status(1).term;
    let (before, stop) = (term(&cluster), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let write = scope.spawn(|| {
            let until_stopped = (0..).take_while(|_| !stop.load(Ordering::SeqCst));
            until_stopped.map(|number| std::fs::write(mount.path(&format!("f{number}")), b"x").unwrap()).count()
        });
        let stops = Stops(&stop);
        let checks: Vec<Result<String, String>> = (0..5).map(|_| cluster.deep_check(&[])).collect();
        drop(stops);
        let written = write.join().unwrap();
        assert!(checks.iter().all(Result::is_ok), "{checks:?}");
        assert!(written > 20, "{written} files is no load");
    });
    assert_eq!(term(&cluster), before);
}

/// It names an entry by the pace of a moment ago, and that is not come to.
#[test]
fn a_deep_check_of_a_cluster_that_falls_silent_looks_again() {
    let cluster = Cluster::start();
    let mount = cluster.mount();
    std::thread::scope(|scope| {
        let check = scope.spawn(|| cluster.deep_check(&[]));
        let began = Instant::now();
        for number in (0..).take_while(|_| began.elapsed() < Duration::from_millis(250)) {
            std::fs::write(mount.path(&format!("f{number}")), b"x").unwrap();
        }
        check.join().unwrap().unwrap();
    });
}

/// What somebody else fills, to the brim: of one node, which is the leader, then of two. The others go on without the one; with
/// the two nothing can be decided, but everything read; and all goes on when there is room.
#[test]
fn disks_filled_to_the_brim_stop_no_program_while_a_majority_has_room_and_reading_goes_on() {
    let [Some(one), Some(two), Some(three)] = [(); 3].map(|()| SmallDisk::new(1000)) else { return };
    let disks = [one, two, three];
    let cluster = Cluster::start_in(&[0, 1, 2].map(|at| disks[at].path().join("node")));
    let (a, b) = (cluster.mount(), cluster.mount());
    let disk = |id: u64| &disks[id as usize - 1];
    let says = |what: &str| {
        eventually(what, Duration::from_secs(15), || {
            let status = cluster.ids().into_iter().map(|id| cluster.status(id).health).collect::<Vec<_>>().concat();
            status.iter().any(|line| line.contains(what)).then_some(())
        });
    };
    let full = cluster.leader();
    let folders = [a.folder("load"), b.path("load")];
    let promised = under_load(&folders, || {
        disk(full).fill_up_to(0);
        says("it writes nothing until there is room");
        std::thread::sleep(Duration::from_secs(6));
        disk(full).make_room();
        std::thread::sleep(Duration::from_secs(2));
    });
    let gap = longest_gap(&promised);
    println!("the leader's disk full to the brim: longest operation {gap:?}");
    assert!(gap < Duration::from_secs(10), "{gap:?}");
    assert_kept(&promised, &folders[1]);

    // Two of three take no more, but what makes room.
    let two = [1, 2];
    two.iter().for_each(|id| disk(*id).fill_up_to(150));
    let dir = a.folder("full");
    let refused = || std::fs::write(dir.join("small"), "x").err().and_then(|error| error.raw_os_error());
    eventually("ENOSPC", Duration::from_secs(15), || {
        (refused() == Some(rustix::io::Errno::NOSPC.raw_os_error())).then_some(())
    });
    assert_kept(&promised, &folders[1]);
    std::fs::rename(a.path("full"), a.path("renamed")).unwrap();
    std::fs::rename(a.path("renamed"), a.path("full")).unwrap();

    // To the brim: who writes waits, who reads does not.
    two.iter().for_each(|id| disk(*id).fill_up_to(0));
    says("it writes nothing until there is room");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| std::fs::rename(b.path("full"), b.path("moved")));
        std::thread::sleep(Duration::from_secs(5));
        assert_kept(&promised, &folders[0]);
        assert!(!waits.is_finished(), "nobody can have decided it");
        two.iter().for_each(|id| disk(*id).make_room());
        waits.join().unwrap().unwrap();
    });
    eventually("room again", Duration::from_secs(15), || std::fs::write(a.path("moved/small"), "x").ok());
    let caught_up = |id: &u64| cluster.wait_caught_up_in_log(*id, Duration::from_secs(60));
    cluster.ids().iter().for_each(caught_up);
    assert_kept(&promised, &folders[0]);
    cluster.assert_sound();
    eventually("a deep check finds nothing", Duration::from_secs(60), || cluster.deep_check(&[]).ok());
}

/// Where there is no room the log takes nothing, loses nothing, and goes on when there is some.
#[test]
fn a_log_without_room_is_the_log_it_was() {
    let Some(disk) = SmallDisk::new(120) else { return };
    let dir = disk.path().join("log");
    let write = |index: u64| {
        let data = random(index, 1 << 20).into();
        LogWrite { entries: vec![Entry { index, term: 1, data, ..Entry::default() }], ..LogWrite::default() }
    };
    let (log, _) = RaftLog::open(&dir).unwrap();
    let mut next = 1;
    for size in [200, 300] {
        let refused = loop {
            match log.append(&write(next), true) {
                Ok(()) => next += 1,
                Err(error) => break error,
            }
        };
        assert!(refused.is_full(), "{refused}");
        assert!(log.append(&write(next), true).unwrap_err().is_full(), "and again");
        disk.resize(size);
    }
    log.append(&write(next), true).unwrap();
    drop(log);
    let (_log, found) = RaftLog::open(&dir).unwrap();
    assert!(next > 100, "{next} entries");
    assert_eq!(found.entries.len() as u64, next);
    assert!(found.entries.iter().zip(1..).all(|(entry, index)| *entry == write(index).entries[0]));
}
