//! The cluster changes while programs work on it: nodes join, leave, are replaced, and are started anew one after the other.
//! No program sees an error, and what was answered for is there.

use baton_tests::harness::load::{Stops, assert_kept, longest_gap, repeats, under_load};
use baton_tests::harness::{Cluster, Mount, SmallDisk, eventually, eventually_ok, folder, program, sh};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// As many copies of every slice as there should be, as the leader's last walk found.
fn wait_for_all_copies(cluster: &Cluster) {
    let short = || cluster.status(cluster.leader()).slices_short.filter(|short| *short == 0);
    eventually("every slice has its copies", Duration::from_secs(60), short);
}

fn slices(cluster: &Cluster, id: u64) -> u64 {
    cluster.state(id).map_or(0, |state| state.slices)
}

/// A few copies more may be there that nobody knows of: of slices that were given up on a node that was slow, and had them after
/// all, or that were stored again under another name.
fn wait_kept_thrice(cluster: &Cluster, all: u64) {
    let few = all.div_ceil(20);
    eventually_ok(Duration::from_secs(60), || {
        let kept: Vec<u64> = cluster.ids().into_iter().map(|id| slices(cluster, id)).collect();
        let thrice = (3 * all..=3 * all + few).contains(&kept.iter().sum());
        thrice.then_some(()).ok_or_else(|| format!("each of {all} slices is kept three times, and not {kept:?}"))
    });
}

fn voters(cluster: &Cluster) -> usize {
    let nodes = cluster.status(cluster.leader()).nodes;
    nodes.iter().filter(|node| node.role() != baton_proto::v1::Role::Learner).count()
}

#[test]
fn a_node_joins_under_load_takes_its_share_and_the_leader_leaves_for_good() {
    let mut cluster = Cluster::start();
    let (a, b) = (cluster.mount(), cluster.mount());
    let folders = [a.folder("load"), b.path("load")];
    let (mut new, mut left) = (0, 0);
    let promised = under_load(&folders, || {
        new = cluster.join();
        cluster.wait_caught_up_in_log(new, Duration::from_secs(60));
        eventually("the new node is given slices", Duration::from_secs(60), || {
            (slices(&cluster, new) >= 5).then_some(())
        });
        left = cluster.leader();
        cluster.remove(left, Duration::from_secs(120));
        std::thread::sleep(Duration::from_secs(1));
    });
    let gap = longest_gap(&promised);
    println!("node {new} joined, node {left} (the leader) left: longest operation {gap:?}");
    assert!(gap < Duration::from_secs(10), "{gap:?}");
    assert_kept(&promised, &folders[0]);
    assert_eq!(voters(&cluster), 3, "the new node votes in the other's place");
    wait_for_all_copies(&cluster);
    cluster.assert_sound();
    // The new node and one more have everything.
    let gone = cluster.ids().into_iter().find(|id| *id != new).unwrap();
    cluster.kill(gone);
    let through = Mount::start(cluster.address(new));
    assert_kept(&promised, &through.path("load"));
}

/// Three disks of which the next megabyte would be too much, and one that is empty.
#[test]
fn a_node_that_joins_full_disks_makes_room_on_them() {
    let disks = [(); 3].map(|()| SmallDisk::new(700));
    let [Some(_), Some(_), Some(_)] = &disks else { return };
    let folders: Vec<_> = disks.iter().flatten().map(|disk| disk.path().join("node")).collect();
    let mut cluster = Cluster::start_in(&folders);
    let mount = cluster.mount();
    let file = |number: u8| (mount.path(&format!("file-{number}")), vec![number; 4_000_000]);
    for number in 0..40 {
        let (path, bytes) = file(number);
        std::fs::write(path, bytes).unwrap();
    }
    disks.iter().flatten().for_each(|disk| disk.fill_up_to(240));
    let (more, bytes) = file(40);
    eventually("no disk takes more", Duration::from_secs(10), || {
        let refused = std::fs::write(&more, &bytes).err()?;
        assert_eq!(refused.kind(), std::io::ErrorKind::StorageFull);
        Some(())
    });
    let new = cluster.join();
    eventually("there is room again", Duration::from_secs(60), || std::fs::write(&more, &bytes).ok());
    let all = cluster.counted("slices");
    assert!(all >= 41, "{all}");
    // Its disk is so much larger that it is to have one of all copies.
    eventually("the new node has its share", Duration::from_secs(60), || (slices(&cluster, new) >= all).then_some(()));
    wait_for_all_copies(&cluster);
    cluster.assert_sound();
    cluster.deep_check(&[]).expect("nothing wrong");
    let through = Mount::start(cluster.address(new));
    for number in 0..=40 {
        let (path, bytes) = file(number);
        let path = through.path(path.file_name().unwrap().to_str().unwrap());
        assert!(std::fs::read(path).unwrap() == bytes, "file {number} has other bytes");
    }
    // What was stored in vain goes with the mount, what moved is not where it was.
    drop(mount);
    wait_kept_thrice(&cluster, all);
}

#[test]
fn a_dead_node_is_replaced_by_a_new_one() {
    let mut cluster = Cluster::start();
    let leader = cluster.leader();
    let dead = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    let mount = Mount::start(cluster.address(leader));
    let folders = [mount.folder("load")];
    let promised = under_load(&folders, || {
        cluster.kill(dead);
        std::thread::sleep(Duration::from_secs(2));
        cluster.remove(dead, Duration::from_secs(60));
        let new = cluster.join();
        cluster.wait_caught_up_in_log(new, Duration::from_secs(60));
    });
    assert_kept(&promised, &folders[0]);
    eventually("three vote again", Duration::from_secs(20), || (voters(&cluster) == 3).then_some(()));
    wait_for_all_copies(&cluster);
    cluster.assert_sound();
    // A new start finds in its folder whose it is, and the mount found the new node by itself.
    let new = *cluster.ids().last().unwrap();
    cluster.kill(new);
    cluster.restart(new);
    cluster.wait_caught_up(new, Duration::from_secs(60));
    for id in cluster.ids().into_iter().filter(|id| *id != new).collect::<Vec<_>>() {
        cluster.restart_in_good_order(id);
        cluster.wait_caught_up(id, Duration::from_secs(60));
    }
    assert_kept(&promised, &folders[0]);
}

/// A machine burns out at night, and nobody is there to say so.
#[test]
fn what_a_node_kept_is_made_elsewhere_when_it_is_away_for_long_and_goes_when_it_is_back() {
    let folders = [folder("node"), folder("node"), folder("node")];
    let mut cluster = Cluster::start_told(&folders, &["--away-after", "3"]);
    let fourth = cluster.join();
    let leader = cluster.leader();
    let dead = cluster.ids().into_iter().find(|id| ![leader, fourth].contains(id)).unwrap();
    let live: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != dead).collect();
    cluster.wait_caught_up_in_log(fourth, Duration::from_secs(60));
    let mount = Mount::start(cluster.address(leader));
    let load = [mount.folder("load")];
    let promised = under_load(&load, || {
        std::thread::sleep(Duration::from_secs(2));
        cluster.kill(dead);
        std::thread::sleep(Duration::from_secs(2));
    });
    let is_away =
        |cluster: &Cluster| cluster.status(cluster.leader()).nodes.iter().any(|node| node.id == dead && node.away);
    eventually("it is away", Duration::from_secs(20), || is_away(&cluster).then_some(()));
    let counts = |cluster: &Cluster, of: &[u64]| of.iter().map(|id| slices(cluster, *id)).collect::<Vec<u64>>();
    let all = cluster.counted("slices");
    assert!(all > 10, "{all}");
    eventually_ok(Duration::from_secs(60), || {
        let status = cluster.status(cluster.leader());
        let lack = |id: &u64| status.nodes.iter().any(|node| node.id == *id && node.lacks != Some(0));
        let held = counts(&cluster, &live);
        let have_all = status.slices_short == Some(0) && !live.iter().any(lack) && held.iter().all(|each| *each >= all);
        have_all.then_some(()).ok_or_else(|| format!("three have all {all} slices, and not {held:?}: {status:#?}"))
    });
    assert_kept(&promised, &load[0]);
    cluster.restart(dead);
    eventually("it is back", Duration::from_secs(20), || (!is_away(&cluster)).then_some(()));
    wait_kept_thrice(&cluster, all);
    wait_for_all_copies(&cluster);
    cluster.assert_sound();
    cluster.deep_check(&[]).expect("nothing wrong");
    assert_kept(&promised, &load[0]);
}

/// What stands in the list of copies is not what is on a disk that was lost a moment ago.
#[test]
fn nobody_leaves_while_another_lacks_what_it_should_keep() {
    let Some(disk) = SmallDisk::new(1200) else { return };
    let mut cluster = Cluster::start_in(&[folder("node"), folder("node"), disk.path().join("node")]);
    cluster.lead_from(&[1, 2]);
    let leader = cluster.leader();
    let (lost, leaves) = (3, 3 - leader);
    let mount = Mount::start(cluster.address(leaves));
    for file in 0..100_u8 {
        std::fs::write(mount.path(&format!("f{file}")), vec![file; 1 << 20]).unwrap();
    }
    wait_for_all_copies(&cluster);
    let all = slices(&cluster, leader);
    assert!(all >= 100, "{all} slices");
    // On its new disk there is no room for all of them.
    cluster.kill(lost);
    cluster.wipe(lost);
    disk.resize(120);
    cluster.restart(lost);
    cluster.wait_caught_up_in_log(lost, Duration::from_secs(60));
    let leaving = cluster.begin_removal(leaves);
    let says = |begin: &str, end: &str| {
        let health = cluster.status(cluster.leader()).health;
        health.iter().any(|line| line.starts_with(begin) && line.ends_with(end)).then_some(())
    };
    let lacks = format!("node {lost} lacks ");
    eventually("the leader knows what it lacks, and why it does not get it", Duration::from_secs(30), || {
        says(&lacks, " slices that it should keep; waits: its disk is full")
    });
    eventually("it is said for what the one that leaves waits", Duration::from_secs(30), || {
        let why = format!("; waits: node {lost} has not found yet that it has all it should keep");
        says(&format!("node {leaves} leaves: no slices still to be copied"), &why)
    });
    std::thread::sleep(Duration::from_secs(8)); // walks enough for everybody
    assert!(cluster.status(cluster.leader()).nodes.iter().any(|node| node.id == leaves), "it went");
    disk.resize(1200);
    cluster.removed(leaves, leaving, Duration::from_secs(60));
    assert_eq!(slices(&cluster, lost), all);
    cluster.assert_sound();
    for file in 0..100_u8 {
        assert!(std::fs::read(mount.path(&format!("f{file}"))).unwrap() == vec![file; 1 << 20]);
    }
}

const GIT: &str = "set -e; n=$(cat n); cd one; mkdir d$n; for j in 1 2 3 4 5 6 7 8; do echo $n $j > d$n/f$j; done; \
                   git add .; git -c gc.auto=0 commit -qm c$n; git push -q origin HEAD:main; cd ..; \
                   rm -rf two; git clone -q -b main origin.git two; [ $(ls -d two/d* | wc -l) = $n ]; echo $((n + 1)) > n";
const SQLITE: &str = "sqlite3 -cmd '.timeout 60000' t.db 'insert into t select count(*) from t'";

/// Programs that are at work before the first of them, between each two, and behind the last.
#[test]
fn nodes_started_anew_one_after_the_other_disturb_no_program() {
    let mut cluster = Cluster::start();
    let (a, b) = (cluster.mount(), cluster.mount());
    let folders = [a.folder("load"), b.path("load")];
    let (git, db) = (a.folder("git"), b.folder("db"));
    let (has_git, has_sqlite) = (program("git").is_some(), program("sqlite3").is_some());
    if has_git {
        let one = "git init -q --bare origin.git; git clone -q origin.git one; echo 1 > n; cd one; \
                   git config user.email a@b; git config user.name n";
        sh(&git, one);
    }
    if has_sqlite {
        sh(&db, "sqlite3 t.db 'create table t(i integer)'");
    }
    let stop = AtomicBool::new(false);
    let (committed, inserted) = (AtomicU64::new(0), AtomicU64::new(0));
    let done = || {
        let log = std::fs::read_to_string(folders[0].join("log")).unwrap_or_default();
        let lines = |writer: &str| log.lines().filter(|line| line.starts_with(writer)).count() as u64;
        let mut done = vec![("writer 0", lines("writer0 ")), ("writer 1", lines("writer1 "))];
        done.extend(has_git.then(|| ("git", committed.load(Ordering::SeqCst))));
        done.extend(has_sqlite.then(|| ("sqlite", inserted.load(Ordering::SeqCst))));
        done
    };
    let all_went_on = |before: &[(&str, u64)]| {
        eventually_ok(Duration::from_secs(30), || {
            let now = done();
            let all = now.iter().zip(before).all(|((_, now), (_, before))| now > before);
            all.then_some(()).ok_or_else(|| format!("every program gets on: {before:?}, and now {now:?}"))
        });
    };
    let promised = std::thread::scope(|scope| {
        if has_git {
            scope.spawn(|| repeats(&git, GIT, &stop, &committed));
        }
        if has_sqlite {
            scope.spawn(|| repeats(&db, SQLITE, &stop, &inserted));
        }
        let _stops = Stops(&stop);
        under_load(&folders, || {
            all_went_on(&done());
            for id in cluster.ids() {
                cluster.restart_in_good_order(id);
                cluster.wait_caught_up_in_log(id, Duration::from_secs(60));
                all_went_on(&done());
            }
        })
    });
    println!("all nodes started anew: {:?}, longest operation {:?}", done(), longest_gap(&promised));
    assert_kept(&promised, &folders[0]);
    let (committed, inserted) = (committed.load(Ordering::SeqCst), inserted.load(Ordering::SeqCst));
    let fresh = cluster.mount();
    if has_git {
        let count = "cd two; git fsck --strict --no-progress; git rev-list --count HEAD";
        assert_eq!(sh(&fresh.path("git"), count).trim(), committed.to_string());
    }
    if has_sqlite {
        let found = sh(&fresh.path("db"), "sqlite3 t.db 'select count(*), sum(i) from t; pragma integrity_check'");
        assert_eq!(found, format!("{inserted}|{}\nok\n", inserted * (inserted - 1) / 2));
    }
    cluster.assert_sound();
}
