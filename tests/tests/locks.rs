//! `flock` and `fcntl` locks on two mounts of one cluster: they exclude, they wait, they end with their owner, and they live
//! on when a node dies.

use baton_tests::harness::{
    Cluster, Mount, Process, baton, eventually, folder, number_from_env, program, sh, sh_within, try_sh,
};
use rustix::process::Signal;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(240);

fn two(cluster: &Cluster) -> (Mount, Mount) {
    let addresses: Vec<&str> = cluster.ids().into_iter().map(|id| cluster.address(id)).collect();
    (Mount::start(&addresses.join(",")), Mount::start(&[addresses[1], addresses[2]].join(",")))
}

/// A program that holds an `flock` until it is killed.
fn holder(file: &Path) -> Process {
    let mut command = Command::new("flock");
    // Not a child: who is killed is who holds it.
    command.arg("-F").arg(file).args(["sh", "-c", "echo held; exec sleep 600"]);
    let mut holder = Process::start("holder", command);
    holder.wait_for_line("held", Duration::from_secs(30));
    holder
}

fn is_free(file: &Path) -> bool {
    let outcome = try_sh(Path::new("/"), &format!("flock -n {} true", file.display()));
    assert!(matches!(outcome.code, Some(0 | 1)), "{outcome:?}");
    outcome.is_ok()
}

#[test]
fn a_counter_under_flock_is_exact_from_two_mounts() {
    let cluster = Cluster::start();
    let (a, b) = two(&cluster);
    let times = number_from_env("BATON_LOCK_TIMES", 40);
    let (one, other) = (a.dir().display(), b.dir().display());
    let line = format!(
        "echo 0 > {one}/count
         for m in {one} {other} {one} {other}; do
           (cd $m; for i in $(seq {times}); do flock lock -c 'read n < count; echo $((n + 1)) > count'; done) &
         done; wait; cat {other}/count"
    );
    assert_eq!(sh_within(PATIENCE, Path::new("/"), &line).trim(), (4 * times).to_string());
    cluster.assert_sound();
}

#[test]
fn a_database_takes_transactions_from_two_mounts_at_once() {
    if program("sqlite3").is_none() {
        return;
    }
    let cluster = Cluster::start();
    let (a, b) = two(&cluster);
    let times = number_from_env("BATON_LOCK_TIMES", 40);
    let write = |mount: &Mount, who: &str| {
        format!(
            "(cd {}; for i in $(seq {times}); do \
               sqlite3 -cmd '.timeout 60000' db \"begin immediate; insert into t values ('{who}', $i); \
               update c set n = n + 1; commit;\"; done)",
            mount.dir().display()
        )
    };
    let lines = format!(
        "cd {}; sqlite3 db 'create table t (who text, i int); create table c (n int); insert into c values (0)'\n{} & {} & wait",
        a.dir().display(),
        write(&a, "a"),
        write(&b, "b"),
    );
    sh_within(PATIENCE, Path::new("/"), &lines);
    let all = sh(b.dir(), "sqlite3 db 'pragma integrity_check; select n from c; select count(*) from t'");
    assert_eq!(all, format!("ok\n{0}\n{0}\n", 2 * times));
}

#[test]
fn a_lock_ends_with_its_process_and_with_its_mount() {
    let cluster = Cluster::start();
    let (a, b) = two(&cluster);
    sh(a.dir(), "touch f");
    let (on_a, on_b) = (a.path("f"), b.path("f"));
    let mut process = holder(&on_a);
    assert!(!is_free(&on_b) && !is_free(&on_a));
    process.kill();
    eventually("the lock of a process that was killed", Duration::from_secs(5), || is_free(&on_b).then_some(()));
    let _holder = holder(&on_a);
    assert!(!is_free(&on_b));
    let waiter = format!("timeout 60 flock {} echo mine", on_b.display());
    a.kill();
    assert_eq!(sh_within(PATIENCE, Path::new("/"), &waiter).trim(), "mine", "it passes on with the session's lease");
}

#[test]
fn who_holds_and_who_waits_is_shown_in_order() {
    let cluster = Cluster::start();
    let (a, b) = two(&cluster);
    sh(a.dir(), "touch f");
    let _holder = holder(&a.path("f"));
    let mut waiters = Vec::new();
    for mount in [&b, &a] {
        let mut command = Command::new("flock");
        command.arg("-s").arg(mount.path("f")).arg("true");
        waiters.push(Process::start("waiter", command));
        let shown = || {
            let output = baton().args(["lock", "ls", &cluster.addresses(), "--json"]).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            let locks = found["locks"].as_array().unwrap().clone();
            (locks.len() == 1 + waiters.len()).then_some(locks)
        };
        let locks = eventually("the locks", Duration::from_secs(10), shown);
        let first = (&locks[0]["exclusive"], &locks[0]["waiting"]);
        assert_eq!(first, (&true.into(), &false.into()), "{locks:?}");
        assert!(locks[1..].iter().all(|lock| lock["waiting"] == true && lock["exclusive"] == false), "{locks:?}");
        let of_b = locks[1]["mount"].as_str().unwrap();
        assert!(of_b.ends_with(b.dir().to_str().unwrap()), "the first who waits stays the first: {locks:?}");
    }
}

#[test]
fn who_waits_long_for_a_lock_says_in_the_log_who_has_it() {
    let cluster = Cluster::start();
    let (a, mut b) = two(&cluster);
    sh(a.dir(), "touch f");
    let mut holder = holder(&a.path("f"));
    let mut command = Command::new("flock");
    command.arg(b.path("f")).args(["echo", "mine"]);
    let mut waiter = Process::start("waiter", command);
    let told = || b.process().said().contains("waiting for a lock that process ").then_some(());
    eventually("the log of the mount that waits", Duration::from_secs(20), told);
    let said = b.process().said();
    let line = said.lines().find(|line| line.contains("waiting for a lock")).unwrap();
    assert!(line.contains(&format!("{} has held for ", a.dir().display())), "{line}");
    holder.kill();
    waiter.wait_for_line("mine", Duration::from_secs(10));
}

#[test]
fn who_waits_for_a_lock_can_be_stopped() {
    let cluster = Cluster::start();
    let (a, b) = two(&cluster);
    sh(a.dir(), "touch f");
    let mut process = holder(&a.path("f"));
    for signal in ["INT", "KILL"] {
        let line = format!("timeout -s {signal} 1 flock f echo never");
        let outcome = try_sh(b.dir(), &line);
        assert!(!outcome.is_ok() && outcome.out.is_empty(), "{outcome:?}");
    }
    process.signal(Signal::TERM);
    process.wait_for_end(Duration::from_secs(10));
    // Nobody who gave up stands in the way.
    eventually("a lock that nobody has", Duration::from_secs(10), || is_free(&b.path("f")).then_some(()));
}

#[test]
fn who_slept_through_the_loss_of_a_lock_does_not_write_under_it() {
    let cluster = Cluster::start();
    let (mut a, b) = two(&cluster);
    sh(a.dir(), "touch f");
    let go = folder("go").join("go");
    let mut command = Command::new("sh");
    let line = format!(
        "exec 9<>{}; flock 9; echo held; while [ ! -e {} ]; do sleep 0.1; done; \
         if echo late >&9; then echo wrote; else echo refused; fi",
        a.path("f").display(),
        go.display()
    );
    command.args(["-c", &line]);
    let mut late = Process::start("late", command);
    late.wait_for_line("held", Duration::from_secs(30));
    a.process().signal(Signal::STOP);
    sh_within(PATIENCE, b.dir(), "timeout 60 flock f -c 'echo theirs > f'");
    a.process().signal(Signal::CONT);
    std::fs::write(&go, "").unwrap();
    late.wait_for_line("refused", Duration::from_secs(30));
    assert_eq!(sh(b.dir(), "cat f"), "theirs\n");
    // Closed and opened again, the file is as good as any.
    late.wait_for_end(Duration::from_secs(10));
    assert_eq!(sh(a.dir(), "flock f -c 'echo mine > f'; cat f"), "mine\n");
}

/// What `baton lock` prints with `--json`.
fn locks(args: &[&str]) -> serde_json::Value {
    let output = baton().arg("lock").args(args).arg("--json").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_lock_that_is_broken_passes_on_and_who_held_it_writes_no_more() {
    let cluster = Cluster::start();
    let (a, b) = two(&cluster);
    sh(a.dir(), "echo before > f");
    let inode = sh(a.dir(), "stat -c %i f").trim().to_owned();
    let go = folder("go").join("go");
    let line = format!(
        "exec 9<>{}; flock 9; echo held; while [ ! -e {} ]; do sleep 0.1; done; \
         if echo late >&9; then echo wrote; else echo refused; fi; exec sleep 600",
        a.path("f").display(),
        go.display()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &line]);
    let mut late = Process::start("late", command);
    late.wait_for_line("held", Duration::from_secs(30));
    let mut command = Command::new("flock");
    command.arg(b.path("f")).args(["sh", "-c", &format!("echo theirs > {}; echo got", b.path("f").display())]);
    let mut waiter = Process::start("waiter", command);
    let addresses = cluster.addresses();
    let waits = || (locks(&["ls", &addresses])["locks"].as_array().unwrap().len() == 2).then_some(());
    eventually("who waits", Duration::from_secs(10), waits);

    let broken = locks(&["break", &addresses, &inode]);
    let broken = broken["broken"].as_array().unwrap();
    let mount = broken[0]["mount"].as_str().unwrap();
    assert!(broken.len() == 1 && mount.ends_with(a.dir().to_str().unwrap()), "{broken:?}");
    waiter.wait_for_line("got", Duration::from_secs(5));
    waiter.wait_for_end(Duration::from_secs(10));
    std::fs::write(&go, "").unwrap();
    late.wait_for_line("refused", Duration::from_secs(30));
    assert!(!try_sh(a.dir(), "echo late > f").is_ok(), "nor does anybody else on its mount while it has the file open");
    assert_eq!(sh(b.dir(), "cat f"), "theirs\n");
    assert_eq!(locks(&["ls", &addresses])["broken"].as_array().unwrap().len(), 1);

    // Closed and opened again, the file is as good as any.
    late.kill();
    let forgotten = || locks(&["ls", &addresses])["broken"].as_array().unwrap().is_empty().then_some(());
    eventually("that nobody has it open", Duration::from_secs(10), forgotten);
    assert_eq!(sh(a.dir(), "flock f -c 'echo mine > f'; cat f"), "mine\n");
    let output = baton().args(["lock", "break", &addresses, &inode]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.ends_with("nothing was broken\n"), "{said}");
    let output = baton().args(["lock", "break", &addresses, "999999"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    cluster.assert_sound();
}

#[test]
fn locks_live_on_when_the_leader_dies() {
    let mut cluster = Cluster::start();
    let (a, b) = two(&cluster);
    sh(a.dir(), "touch f");
    let mut process = holder(&a.path("f"));
    let leader = cluster.leader();
    cluster.kill(leader);
    assert!(!is_free(&b.path("f")), "the others know of it");
    process.kill();
    eventually("the lock", Duration::from_secs(20), || is_free(&b.path("f")).then_some(()));
    cluster.restart(leader);
    cluster.wait_caught_up(leader, Duration::from_secs(30));
    cluster.assert_sound();
}
