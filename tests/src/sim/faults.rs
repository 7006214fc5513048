//! What goes wrong, and when it is put right.

use super::network::Place;
use super::planted::Planted;
use super::world::{Event, Life, World};
use baton_core::meta::ops::BreakLocks;
use baton_core::meta::{Key, Value};
use baton_core::node::Input;
use baton_core::types::{Ino, SliceId};

/// A power cut that comes in the next sync of a slice, or else of the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blackout {
    pub(super) of_slice: bool,
    everywhere: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The next thing goes wrong.
    Strike,
    Restart(usize),
    RestartMount(usize),
    /// All cuts are mended.
    Mend,
    /// The network is as it should be again.
    Quiet,
    DiskRoom(usize),
    DiskFast(usize),
    /// A node is ended in good order and started again at once; then the next one.
    Roll(usize),
    /// A node gets this build; then the next one.
    Upgrade(usize, u32),
    /// It gets the build before.
    PutBack(usize),
    /// It gets the newest there is.
    NewBuild(usize),
    /// The power goes where something is being synced: at this node, or at all.
    PowerCut(usize, Life, Blackout),
    /// A process ends by itself: its node is none of the cluster any more.
    Ends(usize),
}

impl World {
    pub(super) fn start_faults(&mut self) {
        let first = self.rng.range(500_000, 4_000_000);
        self.after(first, Event::Fault(Fault::Strike));
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Strike => {
                if !self.calm {
                    self.strike();
                    let next = self.rng.range(50_000, 2 * self.plan.fault_every_us);
                    self.after(next, Event::Fault(Fault::Strike));
                }
            }
            Fault::Restart(node) => {
                if self.nodes[node].machine.is_none() {
                    self.start_node(node);
                }
            }
            Fault::RestartMount(mount) => {
                if self.mounts[mount].machine.is_none() {
                    self.start_mount(mount);
                }
            }
            Fault::Mend => self.net.heal(),
            Fault::Roll(node) => self.roll(node),
            Fault::Upgrade(node, build) => self.upgrade(node, build),
            Fault::PutBack(node) => self.put_back(node),
            Fault::NewBuild(node) => self.new_build(node),
            Fault::Quiet => {
                self.net.slow = 1;
                self.net.loss_per_mille = 0;
                self.net.repeat_per_mille = 0;
            }
            Fault::DiskRoom(node) => {
                self.nodes[node].full = false;
                self.tell_room(node);
            }
            Fault::DiskFast(node) => self.nodes[node].slow_disk = false,
            Fault::PowerCut(node, life, blackout) => self.power_goes(node, life, blackout),
            Fault::Ends(node) => self.ends(node),
        }
    }

    fn strike(&mut self) {
        let node = self.rng.below(self.nodes.len());
        let mount = self.rng.below(self.mounts.len());
        let wipes = if self.plan.planted == Some(Planted::WipedMember) { 8 } else { 1 };
        let choice = self.rng.range(0, 72 + wipes);
        if self.plan.planted == Some(Planted::DamageServed) {
            self.damage_a_slice();
        }
        match choice {
            0..=5 => self.kill_for_a_while("kill", &[node]),
            6..=9 => {
                let leaders = self.leaders();
                self.kill_for_a_while("kill leader", &leaders);
            }
            10..=11 => {
                let some: Vec<usize> = (0..self.nodes.len()).filter(|_| self.rng.one_in(2)).collect();
                self.kill_for_a_while("kill several", &some);
            }
            12..=13 => {
                let all: Vec<usize> = (0..self.nodes.len()).collect();
                self.kill_for_a_while("kill all", &all);
            }
            14..=18 => self.freeze_node(node),
            19..=20 => {
                if let Some(leader) = self.leaders().first().copied() {
                    self.stats.count("freeze leader");
                    self.freeze_node(leader);
                }
            }
            21..=22 => self.freeze_mount(mount),
            23..=24 => self.kill_a_mount(mount),
            25..=34 => self.cut_something(node, mount),
            35..=37 => self.weather(),
            38 => {
                self.stats.count("clock jump");
                self.nodes[node].clock.jump(&mut self.rng);
            }
            39..=41 => self.break_a_stream(mount),
            42..=43 => self.fill_disk(node),
            44..=45 => {
                self.stats.count("slow disk");
                self.nodes[node].slow_disk = true;
                let until = self.rng.range(500_000, 10_000_000);
                self.after(until, Event::Fault(Fault::DiskFast(node)));
            }
            46..=47 => self.order_to_break_locks(),
            48..=49 => self.order_members(),
            50..=51 => self.cut_leader_one_way(),
            52 => {
                self.stats.count("slow network");
                self.net.slow = self.rng.range(5, 50);
                let lasts = self.rng.range(500_000, 15_000_000);
                self.after(lasts, Event::Fault(Fault::Quiet));
            }
            53 => {
                self.stats.count("all disks full");
                for node in 0..self.nodes.len() {
                    self.fill_disk(node);
                }
            }
            54 => {
                self.stats.count("node and mount killed");
                self.kill_a_mount(mount);
                self.kill_for_a_while("kill", &[node]);
            }
            55 => {
                self.stats.count("restart in good order");
                self.end_in_good_order(node);
            }
            56 => {
                self.stats.count("rolling restart");
                self.roll(0);
            }
            57..=58 => {
                self.stats.count("disk hangs");
                self.nodes[node].disk_hangs_until = self.now + self.rng.range(500_000, 6_000_000);
            }
            59 => {
                self.stats.count("all streams broken");
                for mount in 0..self.mounts.len() {
                    self.break_a_stream(mount);
                }
            }
            60 => {
                self.stats.count("freeze all");
                for node in 0..self.nodes.len() {
                    self.freeze_node(node);
                }
            }
            61..=62 => self.damage_a_slice(),
            63 => self.lose_log(node),
            64..=65 => self.begin_upgrade(),
            66..=71 => {
                let blackout = Blackout { of_slice: self.rng.one_in(2), everywhere: self.rng.one_in(3) };
                self.nodes[node].blackout = Some(blackout);
            }
            _ => self.wipe(node),
        }
    }

    fn kill_for_a_while(&mut self, kind: &'static str, nodes: &[usize]) {
        self.stats.count(kind);
        for node in nodes {
            self.kill_node(*node);
            let down = match self.rng.next() % 3 {
                0 => self.rng.range(1_000, 300_000),
                1 => self.rng.range(300_000, 3_000_000),
                _ => self.rng.range(3_000_000, 15_000_000),
            };
            self.after(down, Event::Fault(Fault::Restart(*node)));
        }
    }

    /// A sync begins that takes so long: if the power is to go in it, when it does.
    pub(super) fn syncs(&mut self, node: usize, of_slice: bool, takes: u64) {
        if let Some(blackout) = self.nodes[node].blackout.take_if(|blackout| blackout.of_slice == of_slice) {
            let cut = self.rng.range(0, takes.max(1));
            let life = self.nodes[node].life;
            self.after(cut, Event::Fault(Fault::PowerCut(node, life, blackout)));
        }
    }

    fn power_goes(&mut self, node: usize, life: Life, blackout: Blackout) {
        if self.calm || self.nodes[node].life != life {
            return;
        }
        self.stats.count(if blackout.of_slice { "power cut in a slice's sync" } else { "power cut in a log's sync" });
        let nodes = if blackout.everywhere { (0..self.nodes.len()).collect() } else { vec![node] };
        self.kill_for_a_while(if blackout.everywhere { "kill all" } else { "kill" }, &nodes);
    }

    fn order_to_break_locks(&mut self) {
        self.stats.count("order to break locks");
        // Where two believe that they lead, each gets an order of its own: both may be carried out.
        for leader in self.leaders() {
            let order = BreakLocks { ino: Ino::ROOT, session: None, request: self.orders.len() as u64 };
            self.orders.push(false);
            self.give(leader, Input::BreakLocks(order));
        }
    }

    fn freeze_node(&mut self, node: usize) {
        self.stats.count("freeze node");
        let until = self.now + self.rng.range(100_000, 15_000_000);
        self.trace.note(self.now, || format!("node {} freezes until {}", node + 1, until / 1000));
        self.nodes[node].frozen_until = until;
    }

    fn freeze_mount(&mut self, mount: usize) {
        // What came while it is frozen waits in order; a longer time for what comes later would turn that around.
        if self.mounts[mount].frozen_until > self.now {
            return;
        }
        self.stats.count("freeze mount");
        let until = self.now + self.rng.range(100_000, 20_000_000);
        self.trace.note(self.now, || format!("mount {mount} freezes until {}", until / 1000));
        self.mounts[mount].frozen_until = until;
    }

    fn kill_a_mount(&mut self, mount: usize) {
        self.stats.count("kill mount");
        self.kill_mount(mount);
        let down = self.rng.range(10_000, 8_000_000);
        self.after(down, Event::Fault(Fault::RestartMount(mount)));
    }

    fn cut_something(&mut self, node: usize, mount: usize) {
        let nodes = self.nodes.len();
        let other = self.rng.below(nodes);
        match self.rng.next() % 6 {
            0 => {
                self.stats.count("cut node off");
                for peer in 0..nodes {
                    self.cut_both(Place::Node(node), Place::Node(peer));
                }
                for mount in (0..self.mounts.len()).filter(|_| self.rng.one_in(2)).collect::<Vec<_>>() {
                    self.cut_both(Place::Node(node), Place::Mount(mount));
                }
            }
            1 => {
                self.stats.count("cut leader off");
                for leader in self.leaders() {
                    for peer in 0..nodes {
                        self.cut_both(Place::Node(leader), Place::Node(peer));
                    }
                }
            }
            2 => {
                self.stats.count("cut in two");
                let side: Vec<bool> = (0..nodes).map(|_| self.rng.one_in(2)).collect();
                for (a, b) in (0..nodes).flat_map(|a| (0..a).map(move |b| (a, b))) {
                    if side[a] != side[b] {
                        self.cut_both(Place::Node(a), Place::Node(b));
                    }
                }
            }
            3 => {
                self.stats.count("cut one way");
                self.net.cut(Place::Node(node), Place::Node(other));
            }
            4 => {
                self.stats.count("cut a link");
                self.cut_both(Place::Node(node), Place::Node(other));
            }
            _ => {
                self.stats.count("cut mount");
                self.cut_both(Place::Mount(mount), Place::Node(node));
                self.break_a_stream(mount);
            }
        }
        self.trace.note(self.now, || format!("a cut: node {}, node {}, mount {mount}", node + 1, other + 1));
        let lasts = self.rng.range(200_000, 15_000_000);
        self.after(lasts, Event::Fault(Fault::Mend));
    }

    fn cut_both(&mut self, a: Place, b: Place) {
        if a != b {
            self.net.cut(a, b);
            self.net.cut(b, a);
        }
    }

    fn weather(&mut self) {
        self.stats.count("loss and repetition");
        self.net.loss_per_mille = self.rng.range(0, 300);
        self.net.repeat_per_mille = self.rng.range(0, 200);
        let lasts = self.rng.range(500_000, 15_000_000);
        self.after(lasts, Event::Fault(Fault::Quiet));
    }

    fn break_a_stream(&mut self, mount: usize) {
        self.stats.count("stream broken");
        if let Some(conn) = self.mounts[mount].conn {
            self.break_conn(conn);
        }
    }

    fn fill_disk(&mut self, node: usize) {
        self.stats.count("disk full");
        self.nodes[node].full = true;
        self.tell_room(node);
        let mut lasts = self.rng.range(500_000, 8_000_000);
        if self.rng.one_in(3) {
            lasts *= 2;
            self.stats.count("disk full to the brim");
            self.nodes[node].disk_hangs_until = self.now + lasts;
        }
        self.after(lasts, Event::Fault(Fault::DiskRoom(node)));
    }

    fn cut_leader_one_way(&mut self) {
        let deaf = self.rng.one_in(2);
        self.stats.count(if deaf { "leader hears nobody" } else { "nobody hears the leader" });
        for leader in self.leaders() {
            for other in (0..self.nodes.len()).filter(|other| *other != leader) {
                let (leader, other) = (Place::Node(leader), Place::Node(other));
                if deaf { self.net.cut(other, leader) } else { self.net.cut(leader, other) }
            }
        }
        let lasts = self.rng.range(200_000, 15_000_000);
        self.after(lasts, Event::Fault(Fault::Mend));
    }

    pub(super) fn end_in_good_order(&mut self, node: usize) {
        if self.nodes[node].machine.is_some() {
            self.nodes[node].disk.flush();
            self.kill_node(node);
            let down = self.rng.range(10_000, 500_000);
            self.after(down, Event::Fault(Fault::Restart(node)));
        }
    }

    fn roll(&mut self, node: usize) {
        if node < self.nodes.len() {
            self.end_in_good_order(node);
            let next = self.rng.range(500_000, 5_000_000);
            self.after(next, Event::Fault(Fault::Roll(node + 1)));
        }
    }

    /// Some bits of a slice change on a node's disk, where two others have good copies. A copy that the cluster does not know
    /// of is nobody's help.
    fn damage_a_slice(&mut self) {
        let newest = self.nodes.iter().filter_map(|node| node.machine.as_ref()).map(|machine| machine.reader());
        let Some(newest) = newest.max_by_key(|reader| reader.applied()) else { return };
        let listed = |id: &SliceId| match newest.with_state(|state| state.get(&Key::Slice(*id))) {
            Ok(Some(Value::Slice(info))) => info.nodes,
            _ => Vec::new(),
        };
        let can_bear_it = |node: usize, id: &SliceId| {
            let others = listed(id).into_iter().filter_map(|other| self.node_at(other)).filter(|at| *at != node);
            let sound = self.nodes.iter().all(|node| !node.disk.damaged.contains(id));
            sound && others.filter(|at| self.nodes[*at].disk.sound(*id).is_some()).count() > 1
        };
        let mut slices: Vec<(usize, SliceId)> = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            slices.extend(node.disk.slices.keys().filter(|id| can_bear_it(at, id)).map(|id| (at, *id)));
        }
        if !slices.is_empty() {
            self.stats.count("slice damaged");
            let (at, id) = slices[self.rng.below(slices.len())];
            self.nodes[at].disk.damage_slice(id);
        }
    }

    /// The log and the state are found damaged at a start; the slices are not.
    fn lose_log(&mut self, node: usize) {
        if self.nobody_lags() && self.nodes.iter().all(|n| n.erased == 0) {
            self.stats.count("log and state damaged");
            self.kill_node(node);
            self.nodes[node].disk.lose_log();
            self.nodes[node].erased += 1;
            let down = self.rng.range(1_000, 5_000_000);
            self.after(down, Event::Fault(Fault::Restart(node)));
        }
    }

    /// One disk in a run is lost: a second one would be more than two copies of a slice can bear.
    fn wipe(&mut self, node: usize) {
        let planted = self.plan.planted == Some(Planted::WipedMember);
        let sound = self.nodes.iter().all(|n| n.disk.damaged.is_empty());
        if sound && self.nobody_lags() && (planted || self.nodes.iter().all(|n| n.erased == 0)) {
            self.stats.count("wipe");
            self.wipe_node(node);
            let down = self.rng.range(1_000, 5_000_000);
            self.after(down, Event::Fault(Fault::Restart(node)));
        }
    }

    /// Every node is up and has what is committed, more than two vote, and none is about to leave: the others can do
    /// without one of them.
    fn nobody_lags(&self) -> bool {
        let nodes = || self.nodes.iter().filter(|node| !node.gone);
        let statuses: Vec<_> = nodes().filter_map(|n| n.machine.as_ref().map(|m| m.status())).collect();
        let committed = statuses.iter().map(|s| s.committed).max().unwrap_or(0);
        statuses.len() == nodes().count()
            && committed > 0
            && statuses.iter().all(|s| s.member && s.applied >= committed)
            && nodes().all(|n| !n.disk.is_empty())
            && nodes().all(|n| n.members.as_ref().is_some_and(|m| m.voters().len() > 2 && m.leaving().is_empty()))
    }

    /// Everything works again, and stays so.
    pub(super) fn heal_everything(&mut self) {
        self.trace.note(self.now, || "calm".to_string());
        self.calm = true;
        self.net.heal();
        self.net.loss_per_mille = 0;
        self.net.repeat_per_mille = 0;
        self.net.slow = 1;
        self.all_get_the_newest_build();
        for node in 0..self.nodes.len() {
            self.nodes[node].frozen_until = 0;
            self.nodes[node].slow_disk = false;
            self.nodes[node].disk_hangs_until = 0;
            self.nodes[node].full = false;
            self.nodes[node].blackout = None;
            if self.nodes[node].machine.is_none() {
                self.start_node(node);
            } else {
                self.tell_room(node);
            }
        }
        // A mount that is frozen thaws in its time: what waits for it would be overtaken by what comes now.
    }
}
