//! kill -9: of all nodes at once, of one in three, of a disk, of a mount. Programs on the mounts see nothing but a pause, and
//! what was answered for is there.

use baton_tests::harness::{Cluster, Mount, eventually, number_from_env, sh};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a program was promised: bytes that were answered for, under a name.
#[derive(Default)]
struct Promised {
    files: Vec<(PathBuf, Vec<u8>)>,
    gone: Vec<PathBuf>,
    /// Lines of the shared log, by writer.
    lines: Vec<String>,
    /// The longest time that one operation took.
    gap: Duration,
}

/// What every operation of a program goes through: it must succeed, however long it takes, and how long is kept.
struct Timed(Duration);

impl Timed {
    fn run<T>(&mut self, what: &Path, act: impl FnOnce() -> std::io::Result<T>) -> T {
        let started = Instant::now();
        let outcome = act().unwrap_or_else(|error| panic!("{}: {error}", what.display()));
        self.0 = self.0.max(started.elapsed());
        outcome
    }
}

/// Data of many sizes, some of them larger than what travels within a command.
fn data(writer: &str, number: usize) -> Vec<u8> {
    let size = [10, 3_000, 40_000, 150_000][number % 4] + number;
    format!("{writer} {number} ").into_bytes().into_iter().cycle().take(size).collect()
}

/// Creates with fsync, renames, removes and appends in `folder` until told to stop; everything it does succeeds.
fn program(folder: &Path, writer: &str, stop: &AtomicBool) -> Promised {
    let mut promised = Promised::default();
    let mut timed = Timed(Duration::ZERO);
    let log = folder.join("log");
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let (made, kept) = (folder.join(format!("{writer}-{number}.new")), folder.join(format!("{writer}-{number}")));
        let bytes = data(writer, number);
        let mut file = timed.run(&made, || File::create_new(&made));
        timed.run(&made, || file.write_all(&bytes));
        timed.run(&made, || file.sync_all());
        drop(file);
        timed.run(&kept, || std::fs::rename(&made, &kept));
        if number % 5 == 4 {
            timed.run(&kept, || std::fs::remove_file(&kept));
            promised.gone.push(kept);
        } else {
            promised.files.push((kept, bytes));
        }
        promised.gone.push(made);
        let line = format!("{writer} {number}");
        let mut log = timed.run(&log, || OpenOptions::new().append(true).create(true).open(&log));
        // In one write: `writeln!` would make two, and between them the other writer may come.
        timed.run(folder, || log.write_all(format!("{line}\n").as_bytes()));
        timed.run(folder, || log.sync_all());
        promised.lines.push(line);
    }
    promised.gap = timed.0;
    promised
}

/// Runs a program on each mount while `faults` happen; what they were promised.
fn under_load(folders: &[PathBuf], faults: impl FnOnce()) -> Vec<Promised> {
    let stop = AtomicBool::new(false);
    let promised = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (writer, folder) in folders.iter().enumerate() {
            let (stop, promised) = (&stop, &promised);
            scope.spawn(move || {
                let mine = program(folder, &format!("writer{writer}"), stop);
                promised.lock().unwrap().push(mine);
            });
        }
        std::thread::sleep(Duration::from_millis(700));
        // The programs end also when a fault panics: else the scope would wait for ever.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(faults));
        stop.store(true, Ordering::SeqCst);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    promised.into_inner().unwrap()
}

/// Every byte that was answered for, read through `folder` of whichever mount; the number of files.
fn assert_kept(promised: &[Promised], folder: &Path) -> usize {
    let there = |path: &Path| folder.join(path.file_name().unwrap());
    let mut files = 0;
    for (path, bytes) in promised.iter().flat_map(|promised| &promised.files) {
        let path = there(path);
        let found = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(found == *bytes, "{} has {} other bytes", path.display(), found.len());
        files += 1;
    }
    for path in promised.iter().flat_map(|promised| &promised.gone) {
        assert!(!there(path).exists(), "{} is back", there(path).display());
    }
    let log = std::fs::read_to_string(folder.join("log")).unwrap();
    for one in promised {
        let writer = one.lines[0].split(' ').next().unwrap();
        let found: Vec<&str> = log.lines().filter(|line| line.split(' ').next() == Some(writer)).collect();
        assert_eq!(found, one.lines, "lines of {writer}: each once, in order");
    }
    files
}

fn longest_gap(promised: &[Promised]) -> Duration {
    promised.iter().map(|promised| promised.gap).max().unwrap()
}

#[test]
fn all_nodes_killed_at_once_lose_nothing_that_was_answered_for() {
    let mut cluster = Cluster::start();
    let (a, b) = (cluster.mount(), cluster.mount());
    for round in 1..=number_from_env("BATON_KILL_ROUNDS", 3) {
        let name = format!("round-{round}");
        let folders = [a.folder(&name), b.path(&name)];
        let promised = under_load(&folders, || {
            cluster.kill_all();
            // Longer than a blink, so that both mounts meet a cluster that is not there at all.
            std::thread::sleep(Duration::from_millis(500));
            cluster.ids().into_iter().for_each(|id| cluster.restart(id));
            cluster.leader();
            std::thread::sleep(Duration::from_millis(1500));
        });
        let files = assert_kept(&promised, &folders[1]);
        println!("all killed, round {round}: {files} files kept, longest operation {:?}", longest_gap(&promised));
        let fresh = cluster.mount();
        assert_kept(&promised, &fresh.path(&name));
        cluster.assert_sound();
    }
}

/// One of three, on which the mounts hang, is killed under load; its disk is lost; it is rebuilt; then another one goes.
fn one_of_three(which: &str, pick: impl Fn(&Cluster) -> u64) {
    let mut cluster = Cluster::start();
    let victim = pick(&cluster);
    // A mount begins at the first address it is given.
    let others = cluster.ids().into_iter().filter(|id| *id != victim);
    let order: Vec<&str> = std::iter::once(victim).chain(others).map(|id| cluster.address(id)).collect();
    let (a, b) = (Mount::start(&order.join(",")), Mount::start(&order.join(",")));
    let folders = [a.folder("load"), b.path("load")];
    let started = Instant::now();
    let promised = under_load(&folders, || {
        let hang_on_it = cluster.status(victim).mounts.into_iter().filter(|mount| mount.node == victim);
        assert!(hang_on_it.count() > 0, "no mount hangs on the {which} any more");
        cluster.kill(victim);
        std::thread::sleep(Duration::from_secs(4));
    });
    let (gap, ran) = (longest_gap(&promised), started.elapsed());
    println!("the {which} killed: longest operation {gap:?} in {ran:?}");
    assert!(gap < Duration::from_secs(10), "the others served again only after {gap:?}");
    assert_kept(&promised, &folders[0]);

    cluster.wipe(victim);
    cluster.restart(victim);
    let started = Instant::now();
    cluster.wait_caught_up(victim, Duration::from_secs(60));
    println!("the {which}, its disk lost, was full again after {:?}", started.elapsed());
    cluster.assert_sound();

    let other = cluster.ids().into_iter().find(|id| *id != victim).unwrap();
    cluster.kill(other);
    // A mount that knows only the rebuilt node: nothing comes from another's cache.
    let through = Mount::start(cluster.address(victim));
    assert_kept(&promised, &through.path("load"));
    std::fs::write(through.path("load/after"), "written").unwrap();
    assert_eq!(std::fs::read(a.path("load/after")).unwrap(), b"written");
}

#[test]
fn a_killed_leader_is_replaced_and_rebuilt_from_nothing() {
    one_of_three("leader", Cluster::leader);
}

#[test]
fn a_killed_follower_is_left_by_its_mounts_and_rebuilt_from_nothing() {
    one_of_three("follower", |cluster| {
        let leader = cluster.leader();
        cluster.ids().into_iter().find(|id| *id != leader).unwrap()
    });
}

#[test]
fn a_killed_mount_ends_after_its_lease_and_what_it_held_open_is_reaped() {
    let cluster = Cluster::start();
    let (a, b) = (cluster.mount(), cluster.mount());
    let names: Vec<String> = (0..20).map(|n| format!("held-{n}")).collect();
    let held: Vec<File> = names
        .iter()
        .map(|name| {
            std::fs::write(a.path(name), data(name, 3)).unwrap();
            File::open(a.path(name)).unwrap()
        })
        .collect();
    for name in &names {
        std::fs::remove_file(b.path(name)).unwrap();
    }
    std::thread::sleep(Duration::from_secs(3));
    let inodes = || cluster.status(cluster.leader()).inodes;
    let with_held = inodes();
    assert_eq!(std::io::read_to_string(&held[0]).unwrap().into_bytes(), data(&names[0], 3), "open files stay readable");
    a.kill();
    drop(held);
    let started = Instant::now();
    eventually("the killed mount's session ends", Duration::from_secs(30), || {
        (cluster.status(cluster.leader()).mounts.len() == 1).then_some(())
    });
    println!("the killed mount's session ended after {:?}", started.elapsed());
    eventually("what it held open is reaped", Duration::from_secs(20), || {
        (inodes() + names.len() as u64 <= with_held).then_some(())
    });
    cluster.assert_sound();
    sh(b.dir(), "echo on > f; [ $(cat f) = on ]; rm f");
}
