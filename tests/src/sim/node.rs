//! A node: its machine, and the double of the shell around it.

use super::builds::Build;
use super::clock::Clock;
use super::disk::Disk;
use super::faults::Blackout;
use super::members::LISTED_WITHIN_US;
use super::mount::Conn as SimConn;
use super::network::Place;
use super::planted::Planted;
use super::world::{Event, Life, World};
use baton_core::limits::DISK_RESERVE;
use baton_core::meta::{Query, RunSizes, Step, Stop, Txn};
use baton_core::node::{
    Changes, Config, Conn, Input, MergeRule, NodeMachine, Now, Output, Repair, Space, TICK_US, ToPeer, Topology, Unfit,
};
use baton_core::session::{Reply, ToMount, ToNode};
use baton_core::types::{ClusterId, Cred, Members, NodeId, Owner, SliceId, Stamp};
use std::collections::BTreeMap;

/// Log entries kept behind a checkpoint: few, so that who lags needs a snapshot.
const LOG_TAIL: u64 = 20;

pub(super) struct SimNode {
    pub(super) machine: Option<NodeMachine>,
    pub(super) life: Life,
    pub(super) clock: Clock,
    pub(super) disk: Disk,
    pub(super) frozen_until: u64,
    /// How often its disk was replaced by an empty one.
    pub(super) erased: u64,
    /// The disk is (nearly) full.
    pub(super) full: bool,
    pub(super) slow_disk: bool,
    pub(super) build: Build,
    /// No sync that begins before comes to its end before.
    pub(super) disk_hangs_until: u64,
    /// The power is to go where it syncs next.
    pub(super) blackout: Option<Blackout>,
    /// Replicas that let it wait for a slice, and when.
    pub(super) slow: BTreeMap<NodeId, u64>,
    pub(super) repair: Repair,
    /// The nodes of the cluster, as the folder has them.
    pub(super) members: Option<Members>,
    /// It was removed from the cluster, and knows.
    pub(super) gone: bool,
    inbox: Vec<Input>,
    woken: bool,
    seed: u64,
}

impl World {
    pub(super) fn make_nodes(&mut self) {
        let founders = Members::founding((1..=self.plan.nodes as u64).map(|id| (NodeId(id), format!("founder:{id}"))));
        for _ in 0..self.plan.nodes {
            self.add_node(founders.clone());
        }
        for node in 0..self.plan.nodes {
            self.start_node(node);
        }
    }

    /// One with an empty disk, not started yet.
    pub(super) fn add_node(&mut self, members: Members) {
        let clock = Clock::new(&mut self.rng, self.now);
        let (seed, build) = (self.rng.next(), self.build());
        self.nodes.push(SimNode {
            machine: None,
            life: 0,
            clock,
            disk: Disk::default(),
            frozen_until: 0,
            erased: 0,
            full: false,
            slow_disk: false,
            build,
            disk_hangs_until: 0,
            blackout: None,
            slow: BTreeMap::new(),
            repair: Repair::new(NodeId(self.nodes.len() as u64 + 1), LISTED_WITHIN_US),
            members: Some(members),
            gone: false,
            inbox: Vec::new(),
            woken: false,
            seed,
        });
    }

    pub(super) fn start_node(&mut self, node: usize) {
        if self.nodes[node].gone {
            return;
        }
        let config = Config {
            id: NodeId(node as u64 + 1),
            members: self.nodes[node].members.clone().unwrap_or_default(),
            is_founder: self.nodes[node].life == 0 && node < self.plan.nodes,
            seed: self.nodes[node].seed ^ self.nodes[node].life.wrapping_mul(0x9E37_79B9),
            cluster: ClusterId(self.plan.seed.wrapping_mul(8) + node as u64 + 1),
            founder: Owner::ROOT,
            topology: self.topology(),
            away_after_us: self.plan.away_after_us,
            speaks: self.nodes[node].build.speaks(),
            merge: MergeRule { sizes: RunSizes { least: 2_000, most: 10_000 }, quiet_us: self.plan.quiet_us },
        };
        let sim = &mut self.nodes[node];
        sim.life += 1;
        sim.inbox.clear();
        sim.repair = Repair::new(config.id, LISTED_WITHIN_US);
        sim.woken = false;
        sim.frozen_until = 0;
        sim.slow.clear();
        let life = sim.life;
        let claims = self.plan.planted == Some(Planted::WipedMember) && sim.erased > 0;
        let now = sim.clock.read(self.now);
        match NodeMachine::new(config, sim.disk.recover(claims), now) {
            Ok(mut machine) => {
                machine.keep_log_tail(LOG_TAIL);
                sim.machine = Some(machine);
            }
            Err(Unfit::Unspoken(unspoken)) => return self.stops_by_name(node, unspoken),
            Err(why) => return self.fail(format!("node {} cannot start: {why}", node + 1)),
        }
        self.trace.note(self.now, || format!("node {} starts", node + 1));
        self.tell_room(node);
        self.after(0, Event::NodeTick(node, life));
        self.after(1_000_000, Event::Checkpoint(node, life));
    }

    /// All below the leader, in regions, or along edges that were drawn: each node behind one before it.
    fn topology(&self) -> Topology {
        let draw = |salt: u64, n: u64| super::rng::mix(self.plan.seed.wrapping_mul(37).wrapping_add(salt)) % n;
        let nodes = 1..=self.plan.nodes as u64;
        match draw(0, 3) {
            0 => Topology::default(),
            1 => {
                let regions = nodes.map(|node| (NodeId(node), format!("region {}", draw(node, 2)))).collect();
                Topology { regions, ..Topology::default() }
            }
            _ => {
                let edges = nodes.skip(1).map(|node| (NodeId(1 + draw(node, node - 1)), NodeId(node))).collect();
                Topology { edges, ..Topology::default() }
            }
        }
    }

    pub(super) fn tell_room(&mut self, node: usize) {
        let sim = &self.nodes[node];
        let kept: u64 = sim.disk.slices.values().map(|data| data.len() as u64).sum();
        let holds = self.plan.disk * (node as u64 % 3 + 1);
        let room = DISK_RESERVE + holds.saturating_sub(kept);
        let free = if sim.full { 1 << 20 } else { room };
        self.give(node, Input::Space(Space { total: 1 << 41, free }));
    }

    pub(super) fn kill_node(&mut self, node: usize) {
        if self.nodes[node].machine.take().is_none() {
            return;
        }
        self.trace.note(self.now, || format!("node {} is killed", node + 1));
        self.nodes[node].life += 1;
        self.nodes[node].frozen_until = 0;
        let left = self.nodes[node].disk.crash(&mut self.rng);
        left.into_iter().for_each(|kind| self.stats.count(kind));
        self.puts_of_the_dead(node);
        for peer in 0..self.nodes.len() {
            if peer != node && self.rng.one_in(2) {
                let delay = self.rng.range(100, 50_000);
                self.after(delay, Event::PeerLost(peer, node));
            }
        }
        let hanging: Vec<u64> = self.conns.iter().filter(|(_, c)| c.node == node).map(|(id, _)| *id).collect();
        for conn in hanging {
            self.break_conn(conn);
        }
    }

    /// Its disk is replaced by an empty one, and nothing that was on the way to or from it arrives.
    pub(super) fn wipe_node(&mut self, node: usize) {
        self.kill_node(node);
        self.trace.note(self.now, || format!("node {} loses its disk", node + 1));
        let old = std::mem::take(&mut self.nodes[node].disk);
        if self.plan.planted == Some(Planted::WipedMember) {
            self.nodes[node].disk.slices = old.slices; // it is about the log: losing every copy of a slice would hide it
        }
        self.nodes[node].erased += 1;
        // Who starts it anew asks the others who they are.
        self.nodes[node].members = self.nodes.iter().filter_map(|other| other.members.clone()).max_by_key(|m| m.next);
    }

    fn lives(&self, node: usize, life: Life) -> bool {
        self.nodes[node].life == life && self.nodes[node].machine.is_some()
    }

    /// An input for a node: it finds it when it looks next.
    pub(super) fn give(&mut self, node: usize, input: Input) {
        if self.nodes[node].machine.is_none() {
            return;
        }
        let sim = &mut self.nodes[node];
        sim.inbox.push(input);
        if !sim.woken {
            sim.woken = true;
            let life = sim.life;
            let delay = self.rng.range(1, 150);
            self.after(delay, Event::NodeWake(node, life));
        }
    }

    pub(super) fn node_tick(&mut self, node: usize, life: Life) {
        if self.lives(node, life) {
            self.give(node, Input::Tick);
            let next = self.nodes[node].clock.lasts(TICK_US);
            self.after(next, Event::NodeTick(node, life));
        }
    }

    pub(super) fn node_wake(&mut self, node: usize, life: Life) {
        if !self.lives(node, life) {
            return;
        }
        let sim = &mut self.nodes[node];
        sim.woken = false;
        let inputs = std::mem::take(&mut sim.inbox);
        let now = sim.clock.read(self.now);
        let Some(machine) = &mut sim.machine else { return };
        let outputs = machine.step(now, inputs);
        self.carry_out_all(node, life, outputs);
        // A busy node may not come to it before something else happens.
        if self.rng.below(4) > 0 {
            self.catch_up(node, life, now);
        }
    }

    fn catch_up(&mut self, node: usize, life: Life, now: Now) {
        while let Some(machine) = self.nodes[node].machine.as_mut().filter(|machine| machine.is_behind()) {
            let outputs = machine.catch_up(now);
            self.carry_out_all(node, life, outputs);
        }
    }

    /// Nothing more, once it stops.
    fn carry_out_all(&mut self, node: usize, life: Life, outputs: Vec<Output>) {
        for output in outputs {
            if self.lives(node, life) {
                self.carry_out(node, life, output);
            }
        }
    }

    fn carry_out(&mut self, node: usize, life: Life, output: Output) {
        match output {
            Output::Peer { to, message } => self.send_peer(node, to, message),
            Output::Mount { conn, message } => self.send_to_mount(node, conn, message),
            Output::Persist(write) => {
                if self.plan.planted == Some(Planted::EarlyPersisted) {
                    self.give(node, Input::Persisted(write.number));
                }
                self.nodes[node].disk.write_log(write);
                self.sync_log(node, life);
            }
            Output::Store { index, term, changes, .. } => {
                let delay = self.rng.delay(2_000);
                self.after(delay, Event::StoreDone(node, life, (index, term), changes));
            }
            Output::Compact { index, term } => self.nodes[node].disk.compact_log((index, term)),
            Output::FetchSnapshot { from } => {
                self.stats.count("snapshot");
                let delay = self.rng.delay(50_000);
                self.after(delay, Event::FetchDone(node, life, from));
            }
            Output::BecomeMember => {
                let delay = self.rng.delay(1_000);
                self.after(delay, Event::MemberDone(node, life));
            }
            Output::Cluster(_) => {}
            Output::DropSlices(ids) => {
                let delay = self.rng.delay(10_000);
                self.after(delay, Event::SlicesDropped(node, life, ids));
            }
            Output::Merge(order) => {
                let delay = self.rng.delay(20_000);
                self.after(delay, Event::MergeOrdered(node, life, Box::new(order)));
            }
            Output::SpareCopy(id) => self.nodes[node].repair.note_spare(id),
            Output::Broke { request, reply } => self.locks_broken(request, &reply),
            Output::Members(members) => self.members_known(node, members),
            Output::MembersChanged { .. } | Output::Frozen { .. } => {}
            Output::Keeps(_) => {}
            Output::InForce(version) => self.is_in_force(node, version),
            Output::StopUnspoken(unspoken) => self.stops_by_name(node, unspoken),
            Output::Stop(why) => self.fail(format!("node {} stops: {why}", node + 1)),
        }
    }

    fn send_peer(&mut self, from: usize, to: NodeId, message: ToPeer) {
        match &message {
            ToPeer::Held { .. } => self.stats.count("command let in by a node"),
            ToPeer::Tokens { parcel, .. } if parcel.number > 0 => self.stats.count("tokens on their way"),
            _ => {}
        }
        let Some(to) = self.node_at(to) else { return };
        let erased = (self.nodes[from].erased, self.nodes[to].erased);
        for delay in self.net.deliveries(&mut self.rng, Place::Node(from), Place::Node(to)).into_iter().flatten() {
            self.after(delay, Event::Peer { from, to, message: Box::new(message.clone()), erased });
        }
    }

    pub(super) fn peer_message(&mut self, from: usize, to: usize, message: ToPeer, erased: (u64, u64)) {
        let message = match (self.plan.planted, message) {
            (Some(Planted::LongNodeLease), ToPeer::NodeLease { view, sent, lasts }) => {
                ToPeer::NodeLease { view, sent, lasts: lasts * 5 }
            }
            (Some(Planted::TokensSwallowed), ToPeer::Tokens { view, mut parcel }) => {
                if self.rng.one_in(20) {
                    parcel.messages.clear();
                }
                ToPeer::Tokens { view, parcel }
            }
            (_, message) => message,
        };
        if erased == (self.nodes[from].erased, self.nodes[to].erased) && !self.refuses(to, from) {
            self.give(to, Input::Peer { from: NodeId(from as u64 + 1), message });
        }
    }

    pub(super) fn peer_lost(&mut self, node: usize, peer: usize) {
        self.give(node, Input::PeerLost(NodeId(peer as u64 + 1)));
    }

    fn sync_log(&mut self, node: usize, life: Life) {
        if self.nodes[node].disk.start_sync() {
            let slow = self.nodes[node].slow_disk || self.plan.planted == Some(Planted::EarlyPersisted);
            let hangs = self.nodes[node].disk_hangs_until.saturating_sub(self.now);
            let cut = self.nodes[node].blackout.is_some_and(|blackout| !blackout.of_slice);
            let delay = hangs
                + self.rng.delay(if cut {
                    300_000
                } else if slow {
                    60_000
                } else {
                    300
                });
            self.syncs(node, false, delay);
            self.after(delay, Event::LogSynced(node, life));
        }
    }

    pub(super) fn log_synced(&mut self, node: usize, life: Life) {
        if !self.lives(node, life) {
            return;
        }
        if let Some(number) = self.nodes[node].disk.log_synced()
            && self.plan.planted != Some(Planted::EarlyPersisted)
        {
            self.give(node, Input::Persisted(number));
        }
        self.sync_log(node, life);
    }

    pub(super) fn store_done(&mut self, node: usize, life: Life, at: (u64, u64), changes: &Changes) {
        if self.lives(node, life) {
            let lose = self.plan.planted == Some(Planted::LostChange) && node == 1 && self.rng.one_in(20);
            self.nodes[node].disk.store(at, changes, lose);
            self.give(node, Input::Stored(at.0));
        }
    }

    pub(super) fn checkpoint(&mut self, node: usize, life: Life) {
        if self.lives(node, life) {
            if let Some(index) = self.nodes[node].disk.checkpoint() {
                self.give(node, Input::Checkpointed(index));
            }
            self.repair(node, life);
            let next = self.rng.range(500_000, 4_000_000);
            self.after(next, Event::Checkpoint(node, life));
        }
    }

    pub(super) fn member_done(&mut self, node: usize, life: Life) {
        if self.lives(node, life) {
            self.nodes[node].disk.become_member();
            self.give(node, Input::MemberRecorded);
        }
    }

    pub(super) fn fetch_done(&mut self, node: usize, life: Life, from: NodeId) {
        if !self.lives(node, life) {
            return;
        }
        let from = self.node_at(from).filter(|from| self.nodes_talk(node, *from) && (self.calm || !self.rng.one_in(8)));
        let got = from.and_then(|from| self.nodes[from].disk.snapshot());
        if got.as_ref().is_some_and(|(_, state)| !self.can_read(node, state)) {
            self.kill_node(node);
            return self.needs_another_build(node);
        }
        let sim = &mut self.nodes[node];
        let got = got.map(|(at, state)| {
            let (at, went) = sim.disk.install(at, state, NodeId(node as u64 + 1));
            went.into_iter().for_each(|id| sim.repair.note_spare(id));
            at
        });
        self.trace.note(self.now, || format!("node {} fetched a snapshot: {got:?}", node + 1));
        self.give(node, Input::SnapshotFetched(got));
    }

    pub(super) fn slices_dropped(&mut self, node: usize, life: Life, ids: &[SliceId]) {
        if self.lives(node, life) {
            for id in ids {
                self.nodes[node].disk.drop_slice(*id);
            }
        }
    }

    /// What a mount said arrives at its node.
    pub(super) fn stream_to_node(&mut self, conn: u64, message: ToNode) {
        let Some(SimConn { node, node_life, .. }) = self.conns.get(&conn).cloned() else { return };
        if !self.lives(node, node_life) {
            return;
        }
        if let (Some(Planted::StaleReader), ToNode::Ask { id, cred, query, .. }) = (self.plan.planted, &message)
            && let Some(reply) = self.answer_from_own_state(node, cred, query)
        {
            return self.send_to_mount(node, Conn(conn), ToMount::Answer { id: *id, reply, facts: Vec::new() });
        }
        if let (Some(Planted::LeaseOfAnybody), ToNode::Renew { sent }) = (self.plan.planted, &message) {
            let lease = ToMount::Lease { sent: *sent, lasts: 600_000 };
            self.send_to_mount(node, Conn(conn), lease);
        }
        self.give(node, Input::Mount { conn: Conn(conn), message });
    }

    fn answer_from_own_state(&self, node: usize, cred: &Cred, query: &Query) -> Option<Reply> {
        let reader = self.nodes[node].machine.as_ref()?.reader();
        reader.with_state(|state| {
            let mut txn = Txn::new(state, Stamp::default());
            match query.run(&mut txn, cred) {
                Ok(answer) => Some(Reply::Done(answer)),
                Err(Stop::Errno(errno)) => Some(Reply::Failed(errno)),
                Err(_) => None,
            }
        })
    }

    /// The nodes that believe that they lead.
    pub(super) fn leaders(&self) -> Vec<usize> {
        let leads = |(at, sim): (usize, &SimNode)| {
            let status = sim.machine.as_ref()?.status();
            (status.leader == Some(status.node)).then_some(at)
        };
        self.nodes.iter().enumerate().filter_map(leads).collect()
    }
}
