//! One run: faults, calm, checks, verdict.

use super::check;
use super::planted::Planted;
use super::world::World;
use std::collections::BTreeMap;

/// How long everything may take to finish once nothing is wrong any more.
const CALM_US: u64 = 120_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Small,
    Large,
}

/// What is run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub nodes: usize,
    pub mounts: usize,
    pub processes: usize,
    pub faults_us: u64,
    pub fault_every_us: u64,
    pub think_us: u64,
    /// Mounts hang on any node, not rather on the leader.
    pub spread: bool,
    /// Of whom nothing is heard for so long is away.
    pub away_after_us: u64,
    /// A file is quiet for the leader that merges small writes.
    pub quiet_us: u64,
    /// What the smallest disk may hold of slices; the others twice and three times as much.
    pub disk: u64,
    pub planted: Option<Planted>,
    pub trace: bool,
}

impl Plan {
    pub fn new(seed: u64, size: Size) -> Plan {
        let draw = |salt: u64, n: u64| super::rng::mix(seed.wrapping_mul(31).wrapping_add(salt)) % n;
        let small = size == Size::Small;
        Plan {
            seed,
            nodes: if small { 3 } else { 3 + draw(1, 3) as usize },
            mounts: if small { 1 + draw(2, 3) as usize } else { 2 + draw(2, 3) as usize },
            processes: 1 + draw(3, 3) as usize,
            faults_us: if small { 30_000_000 } else { 120_000_000 },
            fault_every_us: [500_000, 1_500_000, 4_000_000][draw(4, 3) as usize],
            think_us: [5_000, 30_000, 100_000][draw(5, 3) as usize],
            spread: draw(6, 2) == 0,
            away_after_us: [2_000_000, 5_000_000, 600_000_000][draw(7, 3) as usize],
            disk: [300_000, 2_000_000, 1 << 40][draw(8, 3) as usize],
            quiet_us: [200_000, 1_000_000, 5_000_000][draw(9, 3) as usize],
            planted: None,
            trace: false,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub simulated_us: u64,
    pub events: u64,
    pub operations: u64,
    /// Calls whose outcome nobody knows: the mount died or was fenced.
    pub open: u64,
    /// Searches that were given up: neither right nor wrong was found.
    pub undecided: u64,
    pub processes: u64,
    pub faults: BTreeMap<&'static str, u64>,
}

impl Stats {
    pub(super) fn count(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
    }

    pub fn add(&mut self, other: &Stats) {
        self.simulated_us += other.simulated_us;
        self.events += other.events;
        self.operations += other.operations;
        self.open += other.open;
        self.undecided += other.undecided;
        self.processes += other.processes;
        for (kind, n) in &other.faults {
            *self.faults.entry(kind).or_default() += n;
        }
    }
}

#[derive(Clone, Debug)]
pub struct Failure {
    pub what: String,
    /// The last faults before it.
    pub tail: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Verdict {
    pub seed: u64,
    pub trace_hash: u64,
    pub stats: Stats,
    pub failure: Option<Failure>,
}

/// Runs one seed. A panic of a machine is a failure like any other.
pub fn run(plan: Plan) -> Verdict {
    let seed = plan.seed;
    let caught = std::panic::catch_unwind(|| run_world(plan));
    caught.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or(panic.downcast_ref::<&str>().copied()).unwrap_or("something");
        let failure = Failure { what: format!("panicked: {said}"), tail: Vec::new() };
        Verdict { seed, trace_hash: 0, stats: Stats::default(), failure: Some(failure) }
    })
}

fn run_world(plan: Plan) -> Verdict {
    let seed = plan.seed;
    let faults_until = plan.faults_us;
    let mut world = World::new(plan);
    world.start_faults();
    world.run_until(faults_until, |_| false);
    if world.failure.is_none() {
        calm(&mut world);
    }
    if world.failure.is_none() {
        let mut undecided = 0;
        if let Err(why) = check::history(&world.history, &mut undecided) {
            world.fail(why);
        }
        world.stats.undecided = undecided;
    }
    world.stats.simulated_us = world.now;
    world.stats.events = world.trace.events();
    world.stats.open = world.history.records.iter().filter(|r| r.is_open()).count() as u64;
    let failure = world.failure.take().map(|what| Failure { what, tail: world.trace.tail() });
    Verdict { seed, trace_hash: world.trace.hash(), stats: world.stats, failure }
}

/// Everything is healed: what was begun ends, everything is read, the nodes agree.
fn calm(world: &mut World) {
    world.heal_everything();
    world.wake_processes();
    let deadline = world.now + CALM_US;
    world.run_until(deadline, World::all_idle);
    if !world.all_idle() {
        let waiting = world.who_waits();
        return world.fail(format!("some calls never end in the calm: {waiting}"));
    }
    if world.mounts.iter().all(|m| m.machine.is_none()) {
        world.start_mount(0);
    }
    let Some(auditor) = world.mounts.iter().position(|m| m.machine.is_some()) else { return };
    world.start_audit(auditor);
    let deadline = world.now + CALM_US;
    world.run_until(deadline, World::all_idle);
    if !world.all_idle() {
        let waiting = world.who_waits();
        return world.fail(format!("reading everything never ends in the calm: {waiting}"));
    }
    let deadline = world.now + CALM_US;
    loop {
        let step = world.now + 1_000_000;
        world.run_until(step, |_| false);
        if world.failure.is_some() {
            return;
        }
        match check::nodes(world) {
            Ok(()) => return,
            Err(check::Unsettled::Wrong(why)) => return world.fail(why),
            Err(check::Unsettled::NotYet(why)) if world.now >= deadline => {
                return world.fail(format!("never settles in the calm: {why}"));
            }
            Err(check::Unsettled::NotYet(_)) => {}
        }
    }
}
