//! Everything that goes wrong, one thing after the other and over and over, under programs that see none of it: real nodes
//! and mounts, each in a network namespace of its own. Afterwards all that was answered for is looked for.
//!
//! A minute by default; `BATON_CHAOS_SECONDS=3600` for an hour, `BATON_CHAOS_SEED` for another order,
//! `BATON_CHAOS_ONLY=KillLeader` for one thing alone.

use baton_tests::harness::load::{Promised, Stops, assert_kept, longest_between, repeats, under_load, until_killed};
use baton_tests::harness::{
    Cluster, FalseClock, Mount, Net, SmallDisk, eventually, folder, number_from_env, program, sh,
};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const NODES: usize = 3;
/// Places of the network behind those of the nodes.
const A: usize = NODES;
const B: usize = NODES + 1;
/// A mount that is killed. Its program works where others do, and what that was answered for counts.
const VICTIM: usize = NODES + 2;

/// What can go wrong. Nothing lasts as long as a mount's session lives without its node (10 s): programs see no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    KillNode,
    KillLeader,
    KillAll,
    FreezeNode,
    FreezeLeader,
    RestartInGoodOrder,
    /// The node loses its disk.
    WipeNode,
    /// Two nodes do not hear each other; the third hears both.
    Bridge,
    OneWay,
    LeaderAmongFollowersUnheard,
    LeaderDeaf,
    /// The leader reaches no node, and mounts reach it.
    IsolateLeader,
    IsolateNode,
    /// One of the mounts reaches nobody.
    CutMount,
    FreezeMount,
    /// A mount that works in the same folder as others, and the leader, are killed in the same moment.
    KillMountAndLeader,
    /// Something else fills the disk of one node, to the brim or nearly so.
    FillDisk,
    /// The date of a node is set to another, and stays so.
    SetDate,
}

const ALL: [Fault; 18] = [
    Fault::KillNode,
    Fault::KillLeader,
    Fault::KillAll,
    Fault::FreezeNode,
    Fault::FreezeLeader,
    Fault::RestartInGoodOrder,
    Fault::WipeNode,
    Fault::Bridge,
    Fault::OneWay,
    Fault::LeaderAmongFollowersUnheard,
    Fault::LeaderDeaf,
    Fault::IsolateLeader,
    Fault::IsolateNode,
    Fault::CutMount,
    Fault::FreezeMount,
    Fault::KillMountAndLeader,
    Fault::FillDisk,
    Fault::SetDate,
];

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }

    fn ms(&mut self, from: usize, to: usize) -> Duration {
        Duration::from_millis((from + self.below(to - from)) as u64)
    }
}

struct Chaos {
    net: Net,
    cluster: Cluster,
    mounts: [Mount; 2],
    victim: Option<Victim>,
    /// What the programs on mounts that were killed were answered for.
    promised: Vec<Promised>,
    /// Of the last node.
    disk: SmallDisk,
    clocks: Vec<FalseClock>,
    dice: Dice,
}

/// A mount that will be killed, and the program that works on it.
struct Victim {
    mount: Mount,
    killed: Arc<AtomicBool>,
    works: JoinHandle<Promised>,
}

impl Victim {
    fn start(mount: Mount, number: usize) -> Victim {
        let (folder, killed) = (mount.path("load"), Arc::new(AtomicBool::new(false)));
        let told = killed.clone();
        let works = std::thread::spawn(move || until_killed(&folder, &format!("victim{number}"), &told));
        Victim { mount, killed, works }
    }

    fn kill(self) -> Promised {
        self.killed.store(true, Ordering::SeqCst);
        self.mount.kill();
        self.works.join().expect("no error before its mount was killed")
    }
}

impl Chaos {
    fn strike(&mut self, fault: Fault) {
        let leader = self.cluster.leader();
        let node = self.dice.below(NODES) as u64 + 1;
        let others = |id: u64| (0..NODES).filter(move |place| *place as u64 + 1 != id);
        let place = |id: u64| id as usize - 1;
        match fault {
            Fault::KillNode => self.kill(&[node]),
            Fault::KillLeader => self.kill(&[leader]),
            Fault::KillAll => {
                self.cluster.kill_all();
                self.wait(200, 2_000);
                self.cluster.ids().into_iter().for_each(|id| self.cluster.restart(id));
            }
            Fault::FreezeNode => self.freeze(node),
            Fault::FreezeLeader => self.freeze(leader),
            Fault::RestartInGoodOrder => self.cluster.restart_in_good_order(node),
            Fault::WipeNode => {
                // Two others must have everything before a third may lose it.
                self.settle();
                self.cluster.kill(node);
                self.cluster.wipe(node);
                self.wait(200, 2_000);
                self.cluster.restart(node);
                self.cluster.wait_caught_up_in_log(node, Duration::from_secs(60));
                self.cluster.wait_has_its_slices(node, Duration::from_secs(90));
            }
            Fault::Bridge => {
                let between = place(node);
                self.cut_for_a_while(|net| net.cut((between + 1) % NODES, (between + 2) % NODES));
            }
            Fault::OneWay => {
                let from = place(node);
                self.cut_for_a_while(|net| net.cut_one_way(from, (from + 1) % NODES));
            }
            Fault::LeaderAmongFollowersUnheard => {
                self.cut_for_a_while(|net| others(leader).for_each(|other| net.cut_one_way(place(leader), other)));
            }
            Fault::LeaderDeaf => {
                self.cut_for_a_while(|net| others(leader).for_each(|other| net.cut_one_way(other, place(leader))));
            }
            Fault::IsolateLeader => {
                self.cut_for_a_while(|net| others(leader).for_each(|other| net.cut(place(leader), other)));
            }
            Fault::IsolateNode => {
                let all = others(node).chain([A, B, VICTIM]);
                self.cut_for_a_while(|net| all.for_each(|other| net.cut(place(node), other)));
            }
            Fault::CutMount => {
                let mount = self.dice.below(2);
                self.cut_for_a_while(|net| (0..NODES).for_each(|node| net.cut(A + mount, node)));
                // Two cuts without a word between them would be one that lasts too long.
                std::fs::write(self.mounts[mount].path("heard"), "again").unwrap();
            }
            Fault::FreezeMount => {
                let mount = self.dice.below(2);
                self.mounts[mount].process().signal(Signal::STOP);
                self.wait(500, 4_000);
                self.mounts[mount].process().signal(Signal::CONT);
            }
            Fault::KillMountAndLeader => {
                let next = Mount::start_at(&self.net, VICTIM, &self.cluster.addresses());
                let next = Victim::start(next, self.promised.len() + 1);
                self.wait(500, 1_000);
                self.cluster.kill(leader);
                self.promised.extend(self.victim.replace(next).map(Victim::kill));
                self.wait(500, 3_000);
                self.cluster.restart(leader);
            }
            Fault::FillDisk => {
                let left = [0, 40, 200][self.dice.below(3)];
                self.disk.fill_up_to(left);
                self.wait(1_000, 6_000);
                self.disk.make_room();
            }
            Fault::SetDate => {
                let seconds = [1, 60, 86_400, 10_000_000][self.dice.below(4)] * (self.dice.below(200) as i64 - 100);
                self.clocks[place(node)].is_off_by(seconds);
                self.wait(1_000, 3_000);
            }
        }
    }

    fn wait(&mut self, from_ms: usize, to_ms: usize) {
        std::thread::sleep(self.dice.ms(from_ms, to_ms));
    }

    fn kill(&mut self, nodes: &[u64]) {
        nodes.iter().for_each(|node| self.cluster.kill(*node));
        self.wait(300, 5_000);
        nodes.iter().for_each(|node| self.cluster.restart(*node));
    }

    fn freeze(&mut self, node: u64) {
        self.cluster.process(node).signal(Signal::STOP);
        self.wait(1_000, 7_000);
        self.cluster.process(node).signal(Signal::CONT);
    }

    fn cut_for_a_while(&mut self, cut: impl FnOnce(&Net)) {
        cut(&self.net);
        self.wait(1_000, 6_000);
        self.net.heal();
    }

    /// Everybody is there and has everything.
    fn settle(&self) {
        self.cluster.leader();
        for id in self.cluster.ids() {
            self.cluster.wait_caught_up_in_log(id, Duration::from_secs(60));
        }
        let short = || self.cluster.status(self.cluster.leader()).slices_short.filter(|short| *short == 0);
        eventually("every slice has its copies", Duration::from_secs(60), short);
    }
}

/// Counts in a file under an exclusive lock until told to stop; how far it got by itself.
fn counts(file: &Path, stop: &AtomicBool) -> u64 {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(file).unwrap();
    let mut counted = 0;
    while !stop.load(Ordering::SeqCst) {
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let mut number = [0; 8];
        let read = file.read_at(&mut number, 0).unwrap();
        assert!(read == 0 || read == 8, "{read} bytes of a number");
        file.write_all_at(&(u64::from_le_bytes(number) + 1).to_le_bytes(), 0).unwrap();
        file.sync_all().unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::Unlock).unwrap();
        counted += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    counted
}

const GIT: &str = "set -e; n=$(($(cat n) + 1)); for i in 1 2 3; do echo $n $i > f$i-$n; done; echo $n > n; \
                   git add -A; git -c gc.auto=0 commit -qm $n";
const SQLITE: &str = "sqlite3 -cmd '.timeout 60000' t.db 'insert into t values(1)'";

#[test]
fn what_was_answered_for_outlives_everything_that_goes_wrong() {
    let Some(net) = Net::start(NODES + 3) else { return };
    net.enter();
    let Some(disk) = SmallDisk::new(3_000) else { return };
    let clocks: Vec<FalseClock> = (0..NODES).map_while(|_| FalseClock::new()).collect();
    assert!(clocks.iter().all(FalseClock::is_believed));
    let folders = [folder("node"), folder("node"), disk.path().join("node")];
    let cluster = Cluster::start_on(&net, &folders, &clocks);
    let addresses = cluster.addresses();
    let mounts = [Mount::start_at(&net, A, &addresses), Mount::start_at(&net, B, &addresses)];
    let seed = number_from_env("BATON_CHAOS_SEED", 1);
    let runs_for = Duration::from_secs(number_from_env("BATON_CHAOS_SECONDS", 60));
    let loads: [PathBuf; 2] = [mounts[0].folder("load"), mounts[1].path("load")];
    let counters = [mounts[0].path("counter"), mounts[1].path("counter")];
    let (git, db) = (mounts[0].folder("git"), mounts[1].folder("db"));
    let has_git = program("git").is_some();
    let has_sqlite = program("sqlite3").is_some();
    if has_git {
        sh(&git, "git init -q .; git config user.email a@b; git config user.name n; echo 0 > n");
    }
    if has_sqlite {
        sh(&db, "sqlite3 t.db 'create table t(i integer)'");
    }
    let victim = Some(Victim::start(Mount::start_at(&net, VICTIM, &addresses), 0));
    let promised = Vec::new();
    let mut chaos = Chaos { net, cluster, mounts, victim, promised, disk, clocks, dice: Dice(seed) };
    let only = std::env::var("BATON_CHAOS_ONLY").ok();
    let stop = AtomicBool::new(false);
    let (counted, committed, inserted) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let mut struck: Vec<(Fault, Instant)> = Vec::new();
    let began = Instant::now();
    let mut promised = std::thread::scope(|scope| {
        for counter in &counters {
            scope.spawn(|| counted.fetch_add(counts(counter, &stop), Ordering::SeqCst));
        }
        if has_git {
            scope.spawn(|| repeats(&git, GIT, &stop, &committed));
        }
        if has_sqlite {
            scope.spawn(|| repeats(&db, SQLITE, &stop, &inserted));
        }
        let _stops = Stops(&stop);
        under_load(&loads, || {
            let mut order: Vec<Fault> = Vec::new();
            while began.elapsed() < runs_for {
                if order.is_empty() {
                    order.extend(
                        ALL.into_iter()
                            .filter(|fault| only.as_ref().is_none_or(|only| *only == format!("{fault:?}")))
                            .filter(|fault| *fault != Fault::SetDate || !chaos.clocks.is_empty()),
                    );
                }
                let fault = order.swap_remove(chaos.dice.below(order.len()));
                struck.push((fault, Instant::now()));
                chaos.strike(fault);
                chaos.cluster.leader();
                chaos.wait(300, 1_500);
            }
        })
    });
    promised.append(&mut chaos.promised);
    promised.extend(chaos.victim.take().map(Victim::kill));
    chaos.settle();
    let files = assert_kept(&promised, &loads[1]);
    let fresh = Mount::start_at(&chaos.net, VICTIM, &chaos.cluster.addresses());
    assert_kept(&promised, &fresh.path("load"));
    let number = std::fs::read(fresh.path("counter")).unwrap();
    let counted = counted.into_inner();
    assert_eq!(u64::from_le_bytes(number.try_into().unwrap()), counted, "each count under the lock is there once");
    let (committed, inserted) = (committed.into_inner(), inserted.into_inner());
    if has_git {
        let found = sh(
            &fresh.path("git"),
            "git fsck --strict --no-progress && git status --porcelain && git rev-list --count HEAD",
        );
        assert_eq!(found.trim(), committed.to_string(), "git");
    }
    if has_sqlite {
        let found = sh(&fresh.path("db"), "sqlite3 t.db 'select count(*) from t; pragma integrity_check'");
        assert_eq!(found, format!("{inserted}\nok\n"), "sqlite");
    }
    chaos.cluster.assert_sound();
    eventually("a deep check finds nothing", Duration::from_secs(60), || chaos.cluster.deep_check(&[]).ok());
    println!("seed {seed}: {files} files kept, {counted} counts, {committed} commits, {inserted} inserts");
    let of_the_dead: Vec<usize> = promised.iter().skip(loads.len()).map(Promised::lines).collect();
    println!("  lines that programs on mounts that were killed wrote before: {of_the_dead:?}");
    assert!(of_the_dead.iter().sum::<usize>() > 0, "they wrote nothing");
    let mut longest: BTreeMap<Fault, (u64, Duration)> = BTreeMap::new();
    for (at, (fault, from)) in struck.iter().enumerate() {
        let to = struck.get(at + 1).map(|(_, next)| *next);
        let (times, gap) = longest.entry(*fault).or_default();
        *times += 1;
        *gap = (*gap).max(longest_between(&promised, Some(*from), to));
    }
    for (fault, (times, gap)) in longest {
        println!("  {:<28} {times:>4} times, longest operation {gap:.2?}", format!("{fault:?}"));
    }
}
