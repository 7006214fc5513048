//! A mount: its machine, its processes, and the double of the shell around it: the stream to a node, which breaks and is
//! made anew with another one.

use super::clock::Clock;
use super::kernel::Kernel;
use super::network::Place;
use super::planted::Planted;
use super::workload::Process;
use super::world::{Event, Life, World};
use baton_core::meta::ops::WriteAt;
use baton_core::meta::{Answer, Op};
use baton_core::mount::{CallId, Config, Input, MountMachine, Output, Patience, SliceFault, Valid};
use baton_core::node;
use baton_core::session::{Command, Reply, ToMount, ToNode};
use baton_core::types::{NodeId, SessionId, SliceId};
use bytes::Bytes;
use std::collections::BTreeMap;

const TICK_US: u64 = 50_000;
/// A shell whose node answers nothing for this long tries another one.
const PATIENCE_US: u64 = 4_000_000;

/// One stream between a mount and a node.
#[derive(Clone, Debug)]
pub(super) struct Conn {
    pub(super) mount: usize,
    pub(super) mount_life: Life,
    pub(super) node: usize,
    pub(super) node_life: Life,
    /// When what was sent last arrives, in each direction: what is sent later arrives later.
    to_node_at: u64,
    to_mount_at: u64,
    broken: bool,
}

pub(super) struct SimMount {
    pub(super) machine: Option<MountMachine>,
    pub(super) life: Life,
    pub(super) clock: Clock,
    pub(super) frozen_until: u64,
    pub(super) conn: Option<u64>,
    pub(super) processes: Vec<Process>,
    /// Which process waits for which call.
    pub(super) calls: BTreeMap<CallId, usize>,
    pub(super) next_call: u64,
    pub(super) fenced_at: u64,
    /// How often it was fenced: what it had open before may be gone.
    pub(super) fenced: u64,
    /// When its node last said anything.
    heard: u64,
    twice: Twice,
    pub(super) kernel: Kernel,
    /// An answer with facts that is held up on its way to the machine.
    late: Option<ToMount>,
}

/// What [`Planted::CommandTwice`] did to the numbers on their way.
#[derive(Default)]
struct Twice {
    session: Option<SessionId>,
    /// The number of the command that was doubled: those behind it are one higher at the node.
    doubled: Option<u64>,
}

impl World {
    pub(super) fn make_mounts(&mut self) {
        for mount in 0..self.plan.mounts {
            let clock = Clock::new(&mut self.rng, 0);
            self.mounts.push(SimMount {
                machine: None,
                life: 0,
                clock,
                frozen_until: 0,
                conn: None,
                processes: Vec::new(),
                calls: BTreeMap::new(),
                next_call: 0,
                fenced_at: u64::MAX,
                fenced: 0,
                heard: 0,
                twice: Twice::default(),
                kernel: Kernel::default(),
                late: None,
            });
            self.start_mount(mount);
        }
    }

    pub(super) fn start_mount(&mut self, mount: usize) {
        let nonce = self.rng.next();
        let processes = (0..self.plan.processes).map(|_| self.new_process()).collect();
        let now = self.now;
        let sim = &mut self.mounts[mount];
        sim.life += 1;
        sim.frozen_until = 0;
        sim.machine = Some(MountMachine::new(Config {
            client: format!("host{mount}:/mnt"),
            nonce,
            patience: Patience::default(),
        }));
        sim.processes = processes;
        sim.heard = now;
        sim.twice = Twice::default();
        sim.kernel = Kernel::default();
        sim.late = None;
        let life = sim.life;
        self.trace.note(now, || format!("mount {mount} starts"));
        self.after(0, Event::MountTick(mount, life));
        self.after(1, Event::Connect(mount, life));
        for process in 0..self.plan.processes {
            let delay = self.rng.range(1_000, 200_000);
            self.after(delay, Event::Process(mount, life, process));
        }
    }

    pub(super) fn kill_mount(&mut self, mount: usize) {
        let sim = &mut self.mounts[mount];
        if sim.machine.take().is_none() {
            return;
        }
        sim.life += 1;
        sim.frozen_until = 0;
        sim.calls.clear();
        let conn = sim.conn.take();
        self.trace.note(self.now, || format!("mount {mount} is killed"));
        if let Some(conn) = conn {
            self.break_conn(conn);
        }
    }

    pub(super) fn mount_lives(&self, mount: usize, life: Life) -> bool {
        self.mounts[mount].life == life && self.mounts[mount].machine.is_some()
    }

    pub(super) fn mount_tick(&mut self, mount: usize, life: Life) {
        if !self.mount_lives(mount, life) {
            return;
        }
        self.step_mount(mount, Input::Tick);
        self.lose_patience(mount);
        let next = self.mounts[mount].clock.lasts(TICK_US);
        self.after(next, Event::MountTick(mount, life));
    }

    fn lose_patience(&mut self, mount: usize) {
        let sim = &mut self.mounts[mount];
        if let Some(conn) = sim.conn
            && !sim.calls.is_empty()
            && self.now > sim.heard + PATIENCE_US
        {
            sim.heard = self.now;
            self.break_conn(conn);
        }
    }

    pub(super) fn step_mount(&mut self, mount: usize, input: Input) {
        let sim = &mut self.mounts[mount];
        let now = sim.clock.mono(self.now);
        let Some(machine) = &mut sim.machine else { return };
        let outputs = machine.step(now, input);
        for output in outputs {
            self.carry_out_mount(mount, output);
        }
    }

    fn carry_out_mount(&mut self, mount: usize, output: Output) {
        let life = self.mounts[mount].life;
        match output {
            Output::Respond { call, outcome, valid } if valid == Valid::default() => {
                self.reply_arrives(mount, life, call, outcome, valid);
            }
            // What the kernel keeps may be held up on its way to it.
            Output::Respond { call, outcome, valid } => {
                let delay = if self.rng.one_in(50) { self.rng.range(1_000, 30_000) } else { self.rng.range(1, 40) };
                self.after(delay, Event::Reply(mount, life, call, outcome, valid));
            }
            Output::Forget(what) => {
                let delay = self.rng.range(10, 300);
                if let (Some(Planted::EarlyForgot), Some(object)) = (self.plan.planted, what.object()) {
                    self.after(20_000, Event::Forget(mount, life, what));
                    return self.step_mount(mount, Input::Forgot { object, knew: true });
                }
                self.after(delay, Event::Forget(mount, life, what));
            }
            Output::Tell(message) => self.send_to_node(mount, message),
            Output::Put { call, id, data } => {
                let delay = self.rng.delay(self.net.delay_us + 500);
                self.after(delay, Event::PutArrives(mount, life, call, id, data));
            }
            Output::Get { call, parts } => {
                let delay = self.rng.delay(self.net.delay_us + 100);
                self.after(delay, Event::GetArrives(mount, life, call, parts));
            }
            Output::Groups { call } => {
                let delay = self.rng.delay(50);
                self.after(delay, Event::Groups(mount, life, call));
            }
            Output::Slow(_) => self.stats.count("slow call"),
            Output::LocksBroken { .. } => self.stats.count("told of broken locks"),
            Output::Fenced { lost, .. } => {
                self.locks_lost(mount);
                self.mounts[mount].fenced += 1;
                self.mounts[mount].fenced_at = self.now;
                self.stats.count("fenced");
                self.trace.note(self.now, || format!("mount {mount} was fenced and lost {lost} calls"));
            }
        }
    }

    pub(super) fn put_done(
        &mut self,
        mount: usize,
        life: Life,
        call: CallId,
        id: SliceId,
        outcome: Result<Vec<NodeId>, SliceFault>,
    ) {
        if self.mount_lives(mount, life) {
            self.step_mount(mount, Input::Put { call, id, outcome });
        }
    }

    pub(super) fn get_done(&mut self, mount: usize, life: Life, call: CallId, outcome: Result<Vec<Bytes>, SliceFault>) {
        if self.mount_lives(mount, life) {
            self.step_mount(mount, Input::Got { call, outcome });
        }
    }

    pub(super) fn groups(&mut self, mount: usize, life: Life, call: CallId) {
        if self.mount_lives(mount, life) {
            self.step_mount(mount, Input::Groups { call, groups: vec![100, 200] });
        }
    }

    pub(super) fn connect(&mut self, mount: usize, life: Life) {
        if !self.mount_lives(mount, life) || self.mounts[mount].conn.is_some() {
            return;
        }
        let any = self.rng.below(self.nodes.len());
        let at_leader = !self.plan.spread && !self.rng.one_in(3);
        let leader = self.leaders().first().copied().filter(|_| at_leader);
        let node = leader.unwrap_or(any);
        let answers = self.nodes[node].machine.is_some()
            && self.nodes[node].frozen_until <= self.now
            && self.net.both_ways(Place::Mount(mount), Place::Node(node));
        if !answers {
            let delay = self.rng.range(50_000, 300_000);
            return self.after(delay, Event::Connect(mount, life));
        }
        let conn = self.next_conn;
        self.next_conn += 1;
        let node_life = self.nodes[node].life;
        let (to_node_at, to_mount_at) = (self.now, self.now);
        let made = Conn { mount, mount_life: life, node, node_life, to_node_at, to_mount_at, broken: false };
        self.conns.insert(conn, made);
        self.mounts[mount].conn = Some(conn);
        self.mounts[mount].heard = self.now;
        self.step_mount(mount, Input::Linked);
    }

    /// The stream is gone: both ends hear of it, each in its time; what was on the way is lost.
    pub(super) fn break_conn(&mut self, id: u64) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if std::mem::replace(&mut conn.broken, true) {
            return;
        }
        let (mount, life) = (conn.mount, conn.mount_life);
        let node_hears = if self.rng.one_in(4) { self.rng.range(1, 3_000_000) } else { self.rng.range(1, 50_000) };
        let mount_hears = self.rng.range(1, 200_000);
        self.after(node_hears, Event::NodeHearsBreak(id));
        self.after(mount_hears, Event::MountHearsBreak(mount, life, id));
    }

    pub(super) fn node_hears_break(&mut self, conn: u64) {
        if let Some(gone) = self.conns.remove(&conn)
            && self.nodes[gone.node].life == gone.node_life
        {
            self.give(gone.node, node::Input::MountLost(node::Conn(conn)));
        }
    }

    pub(super) fn mount_hears_break(&mut self, mount: usize, life: Life, conn: u64) {
        if !self.mount_lives(mount, life) || self.mounts[mount].conn != Some(conn) {
            return;
        }
        self.mounts[mount].conn = None;
        self.step_mount(mount, Input::Unlinked);
        let delay = self.rng.range(1_000, 100_000);
        self.after(delay, Event::Connect(mount, life));
    }

    fn send_to_node(&mut self, mount: usize, message: ToNode) {
        let Some(id) = self.mounts[mount].conn else { return };
        let message =
            if self.plan.planted == Some(Planted::CommandTwice) { self.say_twice(mount, message) } else { message };
        let delay = self.rng.delay(self.net.delay_us);
        let Some(conn) = self.conns.get_mut(&id).filter(|c| !c.broken) else { return };
        if !self.net.reaches(Place::Mount(conn.mount), Place::Node(conn.node)) {
            return self.break_conn(id);
        }
        conn.to_node_at = conn.to_node_at.max(self.now + delay);
        let at = conn.to_node_at;
        self.at(at, Event::ToNode(id, message));
    }

    pub(super) fn send_to_mount(&mut self, node: usize, conn: node::Conn, message: ToMount) {
        let delay = self.rng.delay(self.net.delay_us);
        let Some(to) = self.conns.get_mut(&conn.0).filter(|c| !c.broken && c.node == node) else { return };
        if !self.net.reaches(Place::Node(node), Place::Mount(to.mount)) {
            return self.break_conn(conn.0);
        }
        to.to_mount_at = to.to_mount_at.max(self.now + delay);
        let at = to.to_mount_at;
        self.at(at, Event::ToMount(conn.0, message));
    }

    pub(super) fn stream_to_mount(&mut self, id: u64, message: ToMount) {
        let Some(conn) = self.conns.get(&id).filter(|c| !c.broken) else { return };
        let (mount, life) = (conn.mount, conn.mount_life);
        if !self.mount_lives(mount, life) || self.mounts[mount].conn != Some(id) {
            return;
        }
        self.mounts[mount].heard = self.now;
        match &message {
            ToMount::Answer { facts, .. } if !facts.is_empty() => self.stats.count("copies given"),
            ToMount::Recall(_) => self.stats.count("copies recalled"),
            _ => {}
        }
        let message = match (self.plan.planted, message) {
            (Some(Planted::CommandTwice), message) => self.hear_twice(mount, message),
            (Some(Planted::LockBeforeItsTurn), ToMount::Replies(replies)) => {
                let early = |reply| match reply {
                    Reply::Done(Answer::Queued) => Reply::Done(Answer::Done),
                    reply => reply,
                };
                ToMount::Replies(replies.into_iter().map(|(number, reply)| (number, early(reply))).collect())
            }
            // Answered, and the copies kept.
            (Some(Planted::RecallUnheeded), ToMount::Recall(objects)) => {
                return self.send_to_node(mount, ToNode::Returned(objects));
            }
            (Some(Planted::LongLease), ToMount::Lease { sent, lasts }) => ToMount::Lease { sent, lasts: lasts * 5 },
            (Some(Planted::LateFacts), message) => {
                // Overtaken by whatever comes next.
                let late = self.mounts[mount].late.take();
                if late.is_none() && matches!(&message, ToMount::Answer { facts, .. } if !facts.is_empty()) {
                    self.mounts[mount].late = Some(message);
                    return;
                }
                self.step_mount(mount, Input::Node(message));
                match late {
                    Some(late) => late,
                    None => return,
                }
            }
            (Some(Planted::ForgottenOpen), ToMount::WhoHolds { round, .. }) => {
                return self.send_to_node(mount, ToNode::Holds { round, inos: Vec::new() });
            }
            (_, message) => message,
        };
        self.step_mount(mount, Input::Node(message));
    }

    /// Doubles one append of each session and counts those behind it up by one.
    fn say_twice(&mut self, mount: usize, message: ToNode) -> ToNode {
        let ToNode::Commands(commands) = message else { return message };
        let twice = &mut self.mounts[mount].twice;
        let mut said = Vec::new();
        for command in commands {
            if twice.session != Some(command.session) {
                *twice = Twice { session: Some(command.session), doubled: None };
            }
            let append = matches!(&command.op, Op::Write(write) if write.at == WriteAt::End);
            if append && command.number > 20 && twice.doubled.is_none() {
                twice.doubled = Some(command.number);
            }
            let up = |n: u64, doubled: u64| if n > doubled { n + 1 } else { n };
            let Some(doubled) = twice.doubled else {
                said.push(command);
                continue;
            };
            let moved = Command { number: up(command.number, doubled), acked: up(command.acked, doubled), ..command };
            said.push(moved.clone());
            if moved.number == doubled {
                said.push(Command { number: doubled + 1, ..moved });
            }
        }
        ToNode::Commands(said)
    }

    fn hear_twice(&mut self, mount: usize, message: ToMount) -> ToMount {
        let (ToMount::Replies(replies), Some(doubled)) = (&message, self.mounts[mount].twice.doubled) else {
            return message;
        };
        let own = |n: u64| if n > doubled { n - 1 } else { n };
        let kept = replies.iter().filter(|(n, _)| *n != doubled + 1);
        ToMount::Replies(kept.map(|(n, reply)| (own(*n), reply.clone())).collect())
    }
}
