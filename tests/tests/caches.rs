//! What mounts and kernels keep is true: two mounts of one cluster, one of which asks again and again while the other changes
//! what it asks for.

use baton_tests::harness::load::Stops;
use baton_tests::harness::{Cluster, Mount, baton, folder, number_from_env, sh, sh_within};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

fn two(cluster: &Cluster) -> (Mount, Mount) {
    (Mount::start(&cluster.addresses()), Mount::start(&cluster.addresses()))
}

/// Asks so often that everything of it is kept.
fn get_to_know(dir: &Path) {
    for _ in 0..8 {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let is_file = fs::symlink_metadata(&path).unwrap().is_file();
            let _content = if is_file { fs::read(&path).unwrap() } else { Vec::new() };
            let _nothing = fs::symlink_metadata(dir.join("nothing")).unwrap_err();
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Every kind of change, each seen by the other mount as soon as it is done.
#[test]
fn what_one_mount_changes_the_other_sees_though_it_knew() {
    let cluster = Cluster::start();
    let (a, b) = two(&cluster);
    let (here, there) = (a.folder("d"), b.path("d"));
    for i in 0..5 {
        fs::write(here.join(format!("f{i}")), format!("first {i}")).unwrap();
    }
    let rounds = number_from_env("BATON_CACHE_ROUNDS", 3);
    for round in 0..rounds {
        let (f, g) = (here.join("f0"), there.join("f0"));
        get_to_know(&there);
        fs::write(&f, format!("round {round}, longer than before")).unwrap();
        assert_eq!(fs::read_to_string(&g).unwrap(), format!("round {round}, longer than before"));

        get_to_know(&there);
        let open = File::open(&g).unwrap();
        let mut before = [0; 5];
        open.read_exact_at(&mut before, 0).unwrap();
        OpenOptions::new().write(true).open(&f).unwrap().write_all_at(b"ROUND", 0).unwrap();
        let mut after = [0; 5];
        open.read_exact_at(&mut after, 0).unwrap();
        assert_eq!((&before, &after), (b"round", b"ROUND"), "through a file that was open");

        get_to_know(&there);
        // The same length and the same times as before: only the content tells.
        let times = fs::metadata(&f).unwrap().modified().unwrap();
        let file = OpenOptions::new().write(true).open(&f).unwrap();
        file.write_all_at(b"Round", 0).unwrap();
        file.set_modified(times).unwrap();
        assert!(fs::read_to_string(&g).unwrap().starts_with("Round"));
        let mut last = [0; 5];
        open.read_exact_at(&mut last, 0).unwrap();
        assert_eq!(&last, b"Round");

        get_to_know(&there);
        fs::set_permissions(&f, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(fs::metadata(&g).unwrap().mode() & 0o777, 0o640);
        fs::set_permissions(&f, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(fs::metadata(&g).unwrap().mode() & 0o777, 0o644);

        get_to_know(&there);
        fs::rename(here.join("f1"), here.join("moved")).unwrap();
        assert_eq!(fs::metadata(there.join("f1")).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(fs::read_to_string(there.join("moved")).unwrap(), "first 1");
        fs::rename(here.join("moved"), here.join("f1")).unwrap();
        assert_eq!(names(&there), names(&here));

        get_to_know(&there);
        fs::write(here.join("nothing"), "something").unwrap();
        assert_eq!(fs::read_to_string(there.join("nothing")).unwrap(), "something");
        assert!(names(&there).contains("nothing"));
        fs::remove_file(here.join("nothing")).unwrap();
        assert_eq!(fs::metadata(there.join("nothing")).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(!names(&there).contains("nothing"));

        get_to_know(&there);
        let links = |path: &Path| fs::metadata(path).map(|m: Metadata| m.nlink()).unwrap();
        fs::hard_link(here.join("f2"), here.join("second name")).unwrap();
        assert_eq!(links(&there.join("f2")), 2);
        fs::remove_file(here.join("second name")).unwrap();
        assert_eq!(links(&there.join("f2")), 1);

        // And the other way round.
        get_to_know(&here);
        fs::write(there.join("f3"), format!("from there, {round}")).unwrap();
        assert_eq!(fs::read_to_string(here.join("f3")).unwrap(), format!("from there, {round}"));
        fs::create_dir(there.join("sub")).unwrap();
        assert!(fs::metadata(here.join("sub")).unwrap().is_dir());
        fs::remove_dir(there.join("sub")).unwrap();
        assert_eq!(fs::metadata(here.join("sub")).unwrap_err().kind(), ErrorKind::NotFound);
    }
    cluster.assert_sound();
}

/// Who may pass through a directory counts on the other mount as soon as it is changed.
#[test]
fn a_door_that_is_closed_stays_closed_for_who_went_through() {
    if !baton_tests::harness::is_root() {
        eprintln!("SKIPPED: only root can be somebody else");
        return;
    }
    let cluster = Cluster::start();
    let (a, b) = two(&cluster);
    let door = a.folder("door");
    fs::write(door.join("f"), "x").unwrap();
    fs::set_permissions(&door, fs::Permissions::from_mode(0o755)).unwrap();
    let pass = |mount: &Mount| {
        let line = "setpriv --reuid 1234 --regid 1234 --clear-groups cat door/f >/dev/null 2>&1 && echo in || echo out";
        sh(mount.dir(), line).trim().to_owned()
    };
    for _ in 0..3 {
        for _ in 0..6 {
            assert_eq!((pass(&a), pass(&b)), ("in".into(), "in".into()));
        }
        fs::set_permissions(&door, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!((pass(&b), pass(&a)), ("out".into(), "out".into()));
        fs::set_permissions(&door, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// One mount replaces a file by rename, over and over; everybody else always finds one whole version, and never an older one
/// than before.
/// The kernel would remove them in the name of the writer, who may not; and another mount knew them.
#[test]
fn a_program_that_is_changed_or_given_away_has_no_capabilities_any_more_on_any_mount() {
    use rustix::fs::{XattrFlags, getxattr, setxattr};
    if !baton_tests::harness::is_root() {
        return eprintln!("SKIPPED: only root gives capabilities");
    }
    let cluster = Cluster::start();
    let (a, b) = two(&cluster);
    let as_user = "setpriv --reuid 1234 --regid 1234 --clear-groups";
    // CAP_NET_RAW, permitted: what `setcap` would write.
    let capability: Vec<u8> = [0x0200_0000_u32, 1 << 13, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
    let writes = ["printf abc | dd of=f conv=notrunc status=none", "truncate -s 10 f", ": > f", "fallocate -l 5000 f"];
    let users = writes.map(|line| format!("{as_user} sh -ec '{line}'"));
    let roots = writes.map(str::to_owned).into_iter().chain(["chown 5:5 f".to_owned()]);
    for line in users.into_iter().chain(roots) {
        let (f, there) = (a.path("f"), b.path("f"));
        fs::write(&f, vec![1; 100]).unwrap();
        fs::set_permissions(&f, fs::Permissions::from_mode(0o777)).unwrap();
        let has = |path: &Path| getxattr(path, "security.capability", &mut [0; 64][..]);
        setxattr(&f, "security.capability", &capability, XattrFlags::empty()).unwrap();
        for _ in 0..8 {
            assert_eq!((has(&f), has(&there)), (Ok(20), Ok(20)), "before {line}");
        }
        sh(a.dir(), &line);
        let gone = Err(rustix::io::Errno::NODATA);
        assert_eq!((has(&f), has(&there)), (gone, gone), "{line}");
        fs::remove_file(&f).unwrap();
    }
    // Who may not write takes nothing away.
    let f = a.path("closed");
    fs::write(&f, "closed").unwrap();
    fs::set_permissions(&f, fs::Permissions::from_mode(0o755)).unwrap();
    setxattr(&f, "security.capability", &capability, XattrFlags::empty()).unwrap();
    sh(a.dir(), &format!("! {as_user} truncate -s 10 closed 2>/dev/null"));
    assert_eq!(getxattr(&f, "security.capability", &mut [0; 64][..]), Ok(20));
    cluster.assert_sound();
}

#[test]
fn a_file_that_is_replaced_is_always_there_and_whole() {
    let cluster = Cluster::start();
    let (a, b) = two(&cluster);
    let (file, spare) = (a.path("f"), a.path("f.new"));
    let version = |n: u64| format!("{n:010}\n").repeat(500);
    fs::write(&file, version(0)).unwrap();
    let (written, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let look = |path: PathBuf| {
        let mut newest = 0;
        let mut times = 0u64;
        while !over.load(Ordering::SeqCst) {
            let at_least = written.load(Ordering::SeqCst);
            let mut text = String::new();
            File::open(&path).and_then(|mut f| f.read_to_string(&mut text)).unwrap();
            let lines: BTreeSet<&str> = text.lines().collect();
            assert_eq!((lines.len(), text.len()), (1, 5_500), "a mixture: {lines:?}");
            let seen: u64 = lines.first().unwrap().parse().unwrap();
            assert!(seen >= at_least.max(newest), "saw {seen} after {}", at_least.max(newest));
            newest = seen;
            times += 1;
        }
        times
    };
    thread::scope(|scope| {
        let lookers: Vec<_> =
            [&a, &b, &b].map(|mount| mount.path("f")).into_iter().map(|path| scope.spawn(|| look(path))).collect();
        let stops = Stops(&over);
        for n in 1..=number_from_env("BATON_CACHE_RENAMES", 200) {
            fs::write(&spare, version(n)).unwrap();
            fs::rename(&spare, &file).unwrap();
            written.store(n, Ordering::SeqCst);
            if n % 50 == 0 {
                thread::sleep(Duration::from_millis(300)); // long enough for everybody to keep it
            }
        }
        drop(stops);
        for looker in lookers {
            assert!(looker.join().unwrap() > 10);
        }
    });
}

/// Each name is made by exactly one of all who try.
#[test]
fn of_all_who_make_a_name_one_makes_it() {
    let cluster = Cluster::start();
    let (a, b) = two(&cluster);
    let dir = a.folder("race");
    let rounds = number_from_env("BATON_CACHE_RACES", 100);
    let dirs = [dir.clone(), b.path("race"), dir, b.path("race")];
    let won: u64 = thread::scope(|scope| {
        let racers = dirs.map(|dir| {
            scope.spawn(move || {
                let make = |n: &u64| OpenOptions::new().write(true).create_new(true).open(dir.join(format!("{n}")));
                (0..rounds).filter(|n| make(n).is_ok()).count() as u64
            })
        });
        racers.into_iter().map(|racer| racer.join().unwrap()).sum()
    });
    assert_eq!(won, rounds);
}

/// Two mounts that change one directory while each knows the other's names wait for each other a moment at most.
#[test]
fn mounts_that_work_in_one_directory_do_not_lock_each_other_up() {
    let cluster = Cluster::start();
    let (a, b) = two(&cluster);
    let dir = a.folder("both");
    let dirs = [dir, b.path("both")];
    let rounds = number_from_env("BATON_CACHE_ROUNDS", 3);
    for round in 0..rounds {
        for i in 0..20 {
            fs::write(dirs[i % 2].join(format!("{round}-{i}")), "x").unwrap();
        }
        dirs.iter().for_each(|dir| get_to_know(dir));
        let longest = thread::scope(|scope| {
            let workers = [0, 1].map(|me: usize| {
                let dir = &dirs[me];
                scope.spawn(move || {
                    let mut longest = Duration::ZERO;
                    for i in (0..20).filter(|i| i % 2 != me) {
                        let began = Instant::now();
                        fs::rename(dir.join(format!("{round}-{i}")), dir.join(format!("{round}-{i}-moved"))).unwrap();
                        longest = longest.max(began.elapsed());
                    }
                    longest
                })
            });
            workers.into_iter().map(|worker| worker.join().unwrap()).max().unwrap()
        });
        println!("the longest rename took {longest:?}");
        assert!(longest < Duration::from_secs(5), "a rename took {longest:?}");
        let moved = |dir: &PathBuf| names(dir).iter().filter(|name| name.ends_with("-moved")).count() as u64;
        assert_eq!(dirs.each_ref().map(moved), [20 * (round + 1); 2]);
    }
}

/// Eight writers on two mounts append to one file.
#[test]
fn appended_lines_are_all_there_whole_and_in_order() {
    let cluster = Cluster::start();
    let (a, b) = two(&cluster);
    let times = number_from_env("BATON_CACHE_APPENDS", 200);
    let append = |mount: &Mount, who: usize| {
        let path = mount.path("log");
        move || {
            for n in 0..times {
                let mut file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
                file.write_all(format!("writer {who} line {n:06}\n").as_bytes()).unwrap();
            }
        }
    };
    thread::scope(|scope| {
        for who in 0..8 {
            scope.spawn(append(if who % 2 == 0 { &a } else { &b }, who));
        }
    });
    for mount in [&a, &b] {
        let text = fs::read_to_string(mount.path("log")).unwrap();
        for who in 0..8 {
            let prefix = format!("writer {who} line ");
            let lines: Vec<u64> = text.lines().filter_map(|l| l.strip_prefix(&prefix)?.parse().ok()).collect();
            assert_eq!(lines, (0..times).collect::<Vec<_>>(), "writer {who} on {}", mount.dir().display());
        }
        assert_eq!(text.lines().count() as u64, 8 * times);
    }
}

/// A mount is stopped while it has copies. The others wait until these are over and no longer; when it goes on, it and its
/// kernel know nothing old.
#[test]
fn a_mount_that_slept_knows_nothing_old() {
    let cluster = Cluster::start();
    let (mut a, b) = two(&cluster);
    let (here, there) = (a.folder("d"), b.path("d"));
    fs::write(here.join("f"), "old").unwrap();
    for round in 0..number_from_env("BATON_CACHE_ROUNDS", 3) {
        get_to_know(&here);
        let kept = File::open(here.join("f")).unwrap();
        a.process().signal(Signal::STOP);
        let began = Instant::now();
        fs::write(there.join("f"), format!("new {round}")).unwrap();
        fs::write(there.join(format!("made {round}")), "").unwrap();
        let took = began.elapsed();
        assert!(took < Duration::from_secs(3), "writing took {took:?}");
        // What its kernel answers by itself now, if anything: nothing that was overwritten.
        let asked = {
            let path = here.join("f");
            thread::spawn(move || fs::read_to_string(path))
        };
        thread::sleep(Duration::from_millis(300));
        a.process().signal(Signal::CONT);
        assert_eq!(asked.join().unwrap().unwrap(), format!("new {round}"));
        let mut text = String::new();
        (&kept).read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("new {round}"));
        assert!(here.join(format!("made {round}")).exists());
    }
}

/// The leader dies while both mounts have copies; what the next one lets anybody change, everybody sees.
#[test]
fn copies_end_with_the_leader_who_gave_them_out() {
    let mut cluster = Cluster::start();
    let (a, b) = two(&cluster);
    let (here, there) = (a.folder("d"), b.path("d"));
    fs::write(here.join("f"), "0").unwrap();
    for round in 1..=number_from_env("BATON_CACHE_KILLS", 2) {
        get_to_know(&here);
        get_to_know(&there);
        let leader = cluster.leader();
        cluster.kill(leader);
        fs::write(there.join("f"), round.to_string()).unwrap();
        assert_eq!(fs::read_to_string(here.join("f")).unwrap(), round.to_string());
        assert_eq!(fs::metadata(here.join("f")).unwrap().len(), round.to_string().len() as u64);
        cluster.restart(leader);
        cluster.wait_caught_up(leader, Duration::from_secs(30));
    }
    cluster.assert_sound();
}

/// Programs that people use, on two mounts in turn.
#[test]
fn a_tree_that_is_copied_here_is_the_same_there() {
    let cluster = Cluster::start();
    let (a, b) = two(&cluster);
    let from = folder("tree");
    sh(
        &from,
        "mkdir -p x/y/z; for i in $(seq 40); do echo $i > x/y/f$i; ln -s ../f$i x/y/z/l$i; done; chmod 700 x/y/z",
    );
    for round in 0..3 {
        let (one, other) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let line = format!(
            "rm -rf {one}/t; cp -a {from} {one}/t; diff -r --no-dereference {from} {other}/t; (cd {other} && find t | sort) > {from}.o; \
             (cd {one} && find t | sort) > {from}.a; diff {from}.o {from}.a; ls -lR {other}/t > /dev/null",
            one = one.dir().display(),
            other = other.dir().display(),
            from = from.display()
        );
        sh_within(Duration::from_secs(60), Path::new("/"), &line);
    }
}

/// The sum of the lines of a figure that have none of these kinds.
fn sum_without(page: &str, figure: &str, kinds: &[&str]) -> u64 {
    let lines = page.lines().filter(|line| line.starts_with(&format!("{figure}{{")));
    let counted = lines.filter(|line| !kinds.iter().any(|kind| line.contains(&format!("kind=\"{kind}\""))));
    counted.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Not a word to any node for what is known: only, from time to time, for how long it may be known.
#[test]
fn what_is_kept_costs_no_message() {
    let cluster = Cluster::start();
    let a = Mount::start_with(&cluster.addresses(), &["--metrics", "127.0.0.1:0"]);
    let dir = a.folder("d");
    for i in 0..20 {
        fs::write(dir.join(format!("f{i}")), "some content").unwrap();
    }
    // What was just changed is not kept for a while.
    thread::sleep(Duration::from_millis(1_200));
    let sent = || sum_without(&a.figures(), "baton_mount_messages_sent_total", &["renew", "alive"]);
    let look_for_a_while = || -> u64 {
        let began = Instant::now();
        let look = || {
            let mut rounds = 0;
            while began.elapsed() < Duration::from_secs(2) {
                for name in names(&dir) {
                    assert_eq!(fs::read(dir.join(&name)).unwrap(), b"some content");
                    assert!(fs::metadata(dir.join(&name)).unwrap().is_file());
                    fs::metadata(dir.join("nothing")).unwrap_err();
                }
                rounds += 1;
            }
            rounds
        };
        thread::scope(|scope| [(); 3].map(|()| scope.spawn(look)).map(|looks| looks.join().unwrap()).iter().sum())
    };
    // Where the machine is so busy that the mount is late to say for how long it may know, it asks again.
    let mut costs = Vec::new();
    let costs_nothing = (0..4).any(|_| {
        get_to_know(&dir);
        let before = sent();
        assert!(before > 20, "{}", a.figures());
        let (rounds, sent) = (look_for_a_while(), sent() - before);
        costs.push((rounds, sent));
        rounds > 30 && sent == 0
    });
    assert!(costs_nothing, "rounds and messages: {costs:?}\n{}", a.figures());
}

/// A soft mount gives up when its time is over, a hard one says that it waits, and everything goes on when the nodes do.
#[test]
fn without_nodes_a_soft_mount_gives_up_and_a_hard_one_waits() {
    let mut cluster = Cluster::start();
    let mut soft = Mount::start_with(&cluster.addresses(), &["-o", "soft,timeout=1"]);
    let mut hard = Mount::start_with(&cluster.addresses(), &["-o", "timeout=60"]);
    fs::write(soft.path("f"), "x").unwrap();
    for id in cluster.ids() {
        cluster.process(id).signal(Signal::STOP);
    }
    let began = Instant::now();
    let refused = fs::write(soft.path("g"), "y").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TimedOut, "{refused}");
    let took = began.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(4), "after {took:?}");
    let patient = {
        let path = hard.path("h");
        thread::spawn(move || fs::write(path, "z"))
    };
    let waits = |mount: &mut Mount, words: &str| {
        let patience = Duration::from_secs(10);
        let said = || mount.process().said().contains(words).then_some(());
        baton_tests::harness::eventually(words, patience, said);
    };
    waits(&mut hard, "waiting for ");
    waits(&mut soft, "gave up waiting for ");
    for id in cluster.ids() {
        cluster.process(id).signal(Signal::CONT);
    }
    patient.join().unwrap().unwrap();
    assert_eq!(fs::read_to_string(hard.path("h")).unwrap(), "z");
    let again = || fs::read_to_string(soft.path("f")).ok();
    assert_eq!(baton_tests::harness::eventually("the soft mount", Duration::from_secs(20), again), "x");
}

/// The figures of a whole cluster in one process: every line has a name, a value, and a description before it.
#[test]
fn figures_are_served_as_prometheus_reads_them() {
    let up = baton_tests::harness::Up::start(&folder("up"), 1);
    fs::write(up.dir(0).join("f"), "x").unwrap();
    let page = up.figures();
    let mut described = BTreeSet::new();
    for line in page.lines() {
        if let Some(about) = line.strip_prefix("# HELP ") {
            assert!(described.insert(about.split(' ').next().unwrap()), "twice: {line}");
        } else if !line.starts_with("# TYPE ") {
            let name = line.split(['{', ' ']).next().unwrap();
            let figure = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(described.contains(figure) || described.contains(name), "{line}");
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        }
    }
    let leaders = page.lines().filter(|line| line.starts_with("baton_raft_leads{") && line.ends_with(" 1")).count();
    assert_eq!(leaders, 1, "{page}");
    assert!(page.contains("op=\"Create\"") && page.contains("call=\"Create\""), "{page}");
}

/// Two regions with a tenth of a second between them: what is known costs nobody a way there and back.
#[test]
fn what_is_kept_is_near_however_far_the_nodes_are() {
    let way = Duration::from_millis(50);
    let (cluster, far) = Cluster::start_apart(way);
    let metrics = ["--metrics", "127.0.0.1:0"];
    let here = Mount::start_with(&[cluster.address(1), cluster.address(2)].join(","), &metrics);
    let there = Mount::start_with(&[cluster.address(3), &far].join(","), &metrics);
    let dir = here.folder("d");
    for i in 0..10 {
        fs::write(dir.join(format!("f{i}")), "content").unwrap();
    }
    // Each has found the leader, wherever it is, and what was just changed may be kept again.
    thread::sleep(Duration::from_secs(5));
    for mount in [&here, &there] {
        let dir = mount.path("d");
        get_to_know(&dir);
        let sent = || sum_without(&mount.figures(), "baton_mount_messages_sent_total", &["renew", "alive"]);
        let (began, before) = (Instant::now(), sent());
        for _ in 0..20 {
            assert_eq!(names(&dir).len(), 10);
            for name in names(&dir) {
                assert_eq!(fs::read(dir.join(&name)).unwrap(), b"content");
                assert!(fs::metadata(dir.join(&name)).unwrap().is_file());
            }
        }
        let asked = sent() - before;
        println!("20 rounds over 10 files took {:?}", began.elapsed());
        assert!(
            asked < 5,
            "{asked} of 440 questions went to a node; each takes a fifth of a second if that is far away"
        );
    }
    // And what one side changes the other sees.
    fs::write(there.path("d/f0"), "changed").unwrap();
    assert_eq!(fs::read_to_string(dir.join("f0")).unwrap(), "changed");
    fs::write(dir.join("f0"), "changed back").unwrap();
    assert_eq!(fs::read_to_string(there.path("d/f0")).unwrap(), "changed back");
}

/// What mounts of one region share costs nobody a way to the other: the node there holds it. A change costs the one way there
/// and back that Raft needs, whoever near it has copies.
#[test]
fn what_one_mount_of_a_region_knows_costs_the_next_one_no_way() {
    let way = Duration::from_millis(50);
    let (mut cluster, far) = Cluster::start_apart(way);
    cluster.lead_from(&[1, 2]);
    let (one, other) = (Mount::start(cluster.address(3)), Mount::start(cluster.address(3)));
    drop(far);
    let dir = one.folder("d");
    for i in 0..10 {
        fs::write(dir.join(format!("f{i}")), "content").unwrap();
    }
    thread::sleep(Duration::from_secs(5));
    get_to_know(&dir);
    let look = |mount: &Mount| {
        let began = Instant::now();
        for i in 0..10 {
            let path = mount.path(&format!("d/f{i}"));
            assert_eq!(fs::read(&path).unwrap(), b"content");
            assert!(fs::metadata(&path).unwrap().is_file());
        }
        began.elapsed()
    };
    let took = look(&other);
    println!("10 files that only the other mount of the region had asked for took {took:?}");
    assert!(took < 8 * way, "{took:?}: each would be a tenth of a second or more if it was asked far away");
    // Each writes, the other one reads.
    get_to_know(&other.path("d"));
    let rounds = 10;
    for warm in [true, false] {
        let began = Instant::now();
        for round in 0..rounds {
            let (writer, reader) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
            let text = format!("round {round:09}");
            let file = OpenOptions::new().write(true).open(writer.path("d/f0")).unwrap();
            file.write_all_at(text.as_bytes(), 0).unwrap();
            drop(file);
            assert_eq!(fs::read_to_string(reader.path("d/f0")).unwrap(), text);
        }
        let took = began.elapsed() / rounds;
        println!("a round of writing here and reading there took {took:?}");
        assert!(warm || took < 4 * way, "{took:?} a round: one way there and back is {:?}", 2 * way);
    }
    let said = baton().args(["token", "ls", cluster.address(3)]).arg(one.path("d/f0")).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.lines().any(|line| line.contains("exclusive") && line.contains("here")), "{said}");
}

/// Another mount moves a directory that this one knew where it was. It is found where it is now, whatever is going on where it
/// was, and a program here moves it on.
#[test]
fn a_directory_that_another_mount_moved_is_found_and_moved_on() {
    let cluster = Cluster::start();
    let (a, b) = two(&cluster);
    let (here, there) = (a.folder("d"), b.path("d"));
    for dir in ["x", "y", "z"] {
        fs::create_dir(here.join(dir)).unwrap();
    }
    let rounds = number_from_env("BATON_CACHE_MOVES", 20);
    let moves = |kind: &str| {
        for round in 0..rounds {
            let [x, y, z] = ["x", "y", "z"].map(|dir| format!("{dir}/{kind}{round}"));
            fs::create_dir(here.join(&x)).unwrap();
            fs::write(here.join(&x).join("f"), "inside").unwrap();
            // By name, in a listing with attributes, and with what is in it.
            match round % 3 {
                0 => drop(fs::metadata(there.join(&x)).unwrap()),
                // What comes and goes there meanwhile it may not find any more.
                1 => drop(sh(&there, "ls -l x 2>&1 || true")),
                _ => drop(fs::read(there.join(&x).join("f")).unwrap()),
            }
            fs::rename(here.join(&x), here.join(&y)).unwrap();
            if round % 2 == 0 {
                assert!(fs::metadata(there.join(&y)).unwrap().is_dir(), "{kind}");
                fs::create_dir(there.join(&y).join("sub")).unwrap();
            } else {
                fs::rename(there.join(&y), there.join(&z)).unwrap_or_else(|error| panic!("{kind} {round}: {error}"));
                assert_eq!(fs::read_to_string(there.join(&z).join("f")).unwrap(), "inside");
            }
        }
    };
    moves("calm");
    // From where it was to where it is: the program that looks has both directories locked.
    fs::create_dir(here.join("x/from")).unwrap();
    fs::metadata(there.join("x/from")).unwrap();
    fs::rename(here.join("x/from"), here.join("y/from")).unwrap();
    fs::create_dir(here.join("x/other")).unwrap();
    fs::rename(there.join("x/other"), there.join("y/from")).unwrap();
    assert_eq!(fs::read_dir(here.join("y/from")).unwrap().count(), 0);
    let over = AtomicBool::new(false);
    let made = thread::scope(|scope| {
        let makers = [0, 1].map(|who| {
            let file = there.join(format!("x/file{who}"));
            let over = &over;
            scope.spawn(move || {
                let mut made = 0;
                while !over.load(Ordering::SeqCst) {
                    fs::write(&file, "").unwrap();
                    fs::remove_file(&file).unwrap();
                    made += 1;
                }
                made
            })
        });
        let stops = Stops(&over);
        moves("busy");
        drop(stops);
        makers.into_iter().map(|maker| maker.join().unwrap()).sum::<u64>()
    });
    assert!(made > 10, "{made}: it was not busy");
}

/// `sendfile`, `splice` and mappings go through the kernel's pages, also of files that are open for direct I/O.
#[test]
fn what_goes_through_the_kernels_pages_is_what_the_other_mount_wrote() {
    const PAGE: usize = 4096;
    let cluster = Cluster::start();
    let (a, b) = two(&cluster);
    fs::write(a.path("f"), vec![b'0'; 16 * PAGE]).unwrap();
    let open = |mount: &Mount| OpenOptions::new().read(true).write(true).open(mount.path("f")).unwrap();
    let (here, there) = (open(&a), open(&b));
    let (folder, rounds) = (folder("sent"), number_from_env("BATON_CACHE_SENDS", 100));
    for round in 0..rounds {
        let (byte, at) = (b'a' + (round % 26) as u8, round % 3 * PAGE as u64);
        there.write_all_at(&[byte; PAGE], at).unwrap();
        let sent = folder.join("sent");
        let to = File::create(&sent).unwrap();
        let mut from = at;
        assert_eq!(rustix::fs::sendfile(&to, &here, Some(&mut from), PAGE).unwrap(), PAGE);
        let sent = fs::read(&sent).unwrap();
        assert!(sent.iter().all(|got| *got == byte), "round {round}: sent {} for {}", sent[0] as char, byte as char);
        if round == rounds / 2 {
            thread::sleep(Duration::from_millis(1_500)); // from then on there are copies
        }
    }
}
