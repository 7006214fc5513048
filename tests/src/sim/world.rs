//! The world: everything that exists, and the queue of what happens next.

use super::faults::Fault;
use super::history::History;
use super::mount::{Conn, SimMount};
use super::network::{Network, Place};
use super::node::SimNode;
use super::putting::{Late, PutId, Putting};
use super::rng::Rng;
use super::run::{Plan, Stats};
use super::trace::Trace;
use baton_core::mount::{CallId, Done, Forget, SliceFault, SlicePart, Valid};
use baton_core::node::{Changes, Copying, MergeOrder, Merged, ToPeer};
use baton_core::session::{ToMount, ToNode};
use baton_core::types::{Errno, NodeId, SliceId};
use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// A process's life: what was meant for an earlier one is nothing to a later one.
pub(super) type Life = u64;

/// No run needs as many: where there are more, something answers itself.
const EVENTS_MAX: u64 = 5_000_000;

#[derive(Debug)]
pub(super) enum Event {
    NodeTick(usize, Life),
    NodeWake(usize, Life),
    LogSynced(usize, Life),
    StoreDone(usize, Life, (u64, u64), Changes),
    Checkpoint(usize, Life),
    MemberDone(usize, Life),
    FetchDone(usize, Life, NodeId),
    SlicesDropped(usize, Life, Vec<SliceId>),
    /// The copy of a slice that a node began to make is there.
    SliceCopied(usize, Life, Box<Copying>),
    /// A node looks for small writes to merge.
    MergeOrdered(usize, Life, Box<MergeOrder>),
    MergeLooked(usize, Life, Box<(MergeOrder, Merged)>),
    /// `erased`: how often the receiver's and the sender's disk had been wiped when it was sent.
    Peer {
        from: usize,
        to: usize,
        message: Box<ToPeer>,
        erased: (u64, u64),
    },
    PeerLost(usize, usize),
    MountTick(usize, Life),
    ToNode(u64, ToNode),
    ToMount(u64, ToMount),
    NodeHearsBreak(u64),
    MountHearsBreak(usize, Life, u64),
    Connect(usize, Life),
    PutArrives(usize, Life, CallId, SliceId, Bytes),
    PutDone(usize, Life, CallId, SliceId, Result<Vec<NodeId>, SliceFault>),
    /// A slice reaches one of the nodes that are to keep it.
    ReplicaAsked {
        put: PutId,
        from: usize,
        to: usize,
        id: SliceId,
        data: Bytes,
    },
    SliceSynced {
        put: PutId,
        from: usize,
        node: usize,
        life: Life,
        write: u64,
    },
    ReplicaAnswered(PutId, NodeId, Result<(), SliceFault>),
    ReplicaLate(PutId, Late),
    GetArrives(usize, Life, CallId, Vec<SlicePart>),
    GetDone(usize, Life, CallId, Result<Vec<Bytes>, SliceFault>),
    Groups(usize, Life, CallId),
    /// A process makes its next call.
    Process(usize, Life, usize),
    /// A mount's kernel forgets something, if it can.
    Forget(usize, Life, Forget),
    /// A mount's reply reaches its kernel.
    Reply(usize, Life, CallId, Result<Done, Errno>, Valid),
    Fault(Fault),
}

/// The event is boxed: the heap moves its items about, and events are large.
struct Queued {
    at: u64,
    order: u64,
    event: Box<Event>,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Queued) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Queued) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Queued) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

pub(super) struct World {
    pub(super) now: u64,
    pub(super) rng: Rng,
    queue: BinaryHeap<Reverse<Queued>>,
    order: u64,
    pub(super) trace: Trace,
    pub(super) net: Network,
    pub(super) nodes: Vec<SimNode>,
    pub(super) mounts: Vec<SimMount>,
    pub(super) conns: BTreeMap<u64, Conn>,
    pub(super) next_conn: u64,
    /// Slices on their way to the nodes that keep them.
    pub(super) puts: BTreeMap<PutId, Putting>,
    pub(super) next_put: PutId,
    pub(super) history: History,
    pub(super) plan: Plan,
    pub(super) stats: Stats,
    /// Orders to break locks, each with whether it was seen to be carried out.
    pub(super) orders: Vec<bool>,
    /// Everything is healed, and processes finish what they do and begin nothing new.
    pub(super) calm: bool,
    /// What is wrong, as soon as something is.
    pub(super) failure: Option<String>,
}

impl World {
    pub(super) fn new(plan: Plan) -> World {
        let mut rng = Rng::new(plan.seed);
        let delay = [100, 300, 1_000, 20_000][rng.below(4)];
        let mut world = World {
            now: 0,
            rng,
            queue: BinaryHeap::new(),
            order: 0,
            trace: Trace::new(plan.trace),
            net: Network::new(delay),
            nodes: Vec::new(),
            mounts: Vec::new(),
            conns: BTreeMap::new(),
            next_conn: 1,
            puts: BTreeMap::new(),
            next_put: 1,
            history: History::default(),
            plan,
            stats: Stats::default(),
            orders: Vec::new(),
            calm: false,
            failure: None,
        };
        world.make_nodes();
        world.make_mounts();
        world
    }

    pub(super) fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(super) fn at(&mut self, at: u64, event: Event) {
        self.queue(at, Box::new(event));
    }

    fn queue(&mut self, at: u64, event: Box<Event>) {
        self.order += 1;
        self.queue.push(Reverse(Queued { at, order: self.order, event }));
    }

    pub(super) fn fail(&mut self, why: impl Into<String>) {
        if self.failure.is_none() {
            let why = why.into();
            self.trace.note(self.now, || format!("FAILED: {why}"));
            self.failure = Some(why);
        }
    }

    /// Lets happen what happens before `until`, or until something is wrong or `enough` says so.
    pub(super) fn run_until(&mut self, until: u64, enough: impl Fn(&World) -> bool) {
        while self.failure.is_none() && !enough(self) {
            match self.queue.peek() {
                Some(Reverse(next)) if next.at < until => {}
                _ => break,
            }
            let Some(Reverse(next)) = self.queue.pop() else { break };
            self.now = self.now.max(next.at);
            if self.trace.events() > EVENTS_MAX {
                return self.fail("too many events: messages beget messages");
            }
            self.happen(next.event);
        }
        if self.failure.is_none() && self.queue.peek().is_none_or(|Reverse(next)| next.at >= until) {
            self.now = self.now.max(until);
        }
    }

    fn happen(&mut self, event: Box<Event>) {
        if let Some(later) = self.frozen_until(&event) {
            return self.queue(later, event);
        }
        self.record(&event);
        match *event {
            Event::NodeTick(node, life) => self.node_tick(node, life),
            Event::NodeWake(node, life) => self.node_wake(node, life),
            Event::LogSynced(node, life) => self.log_synced(node, life),
            Event::StoreDone(node, life, at, changes) => self.store_done(node, life, at, &changes),
            Event::Checkpoint(node, life) => self.checkpoint(node, life),
            Event::MemberDone(node, life) => self.member_done(node, life),
            Event::FetchDone(node, life, from) => self.fetch_done(node, life, from),
            Event::SlicesDropped(node, life, ids) => self.slices_dropped(node, life, &ids),
            Event::SliceCopied(node, life, copying) => self.slice_copied(node, life, &copying),
            Event::MergeOrdered(node, life, order) => self.merge_ordered(node, life, *order),
            Event::MergeLooked(node, life, looked) => self.merge_looked(node, life, *looked),
            Event::Peer { from, to, message, erased } => self.peer_message(from, to, *message, erased),
            Event::PeerLost(node, peer) => self.peer_lost(node, peer),
            Event::MountTick(mount, life) => self.mount_tick(mount, life),
            Event::ToNode(conn, message) => self.stream_to_node(conn, message),
            Event::ToMount(conn, message) => self.stream_to_mount(conn, message),
            Event::NodeHearsBreak(conn) => self.node_hears_break(conn),
            Event::MountHearsBreak(mount, life, conn) => self.mount_hears_break(mount, life, conn),
            Event::Connect(mount, life) => self.connect(mount, life),
            Event::PutArrives(mount, life, call, id, data) => self.put_arrives(mount, life, call, id, data),
            Event::PutDone(mount, life, call, id, outcome) => self.put_done(mount, life, call, id, outcome),
            Event::ReplicaAsked { put, from, to, id, data } => self.replica_asked(put, from, to, id, data),
            Event::SliceSynced { put, from, node, life, write } => self.slice_synced(put, from, node, life, write),
            Event::ReplicaAnswered(put, node, outcome) => self.replica_answered(put, node, outcome),
            Event::ReplicaLate(put, late) => self.replica_late(put, late),
            Event::GetArrives(mount, life, call, parts) => self.get_arrives(mount, life, call, &parts),
            Event::GetDone(mount, life, call, outcome) => self.get_done(mount, life, call, outcome),
            Event::Groups(mount, life, call) => self.groups(mount, life, call),
            Event::Process(mount, life, process) => self.process(mount, life, process),
            Event::Forget(mount, life, object) => self.forget(mount, life, object),
            Event::Reply(mount, life, call, outcome, valid) => self.reply_arrives(mount, life, call, outcome, valid),
            Event::Fault(fault) => self.fault(fault),
        }
    }

    /// A process that is stopped finds what came meanwhile when it goes on. Disks and networks do not stop with it.
    fn frozen_until(&self, event: &Event) -> Option<u64> {
        let until = match event {
            Event::NodeTick(node, life) | Event::NodeWake(node, life) if self.nodes[*node].life == *life => {
                self.nodes[*node].frozen_until
            }
            Event::ReplicaAsked { to, .. } => self.nodes[*to].frozen_until,
            Event::ReplicaAnswered(put, ..) | Event::ReplicaLate(put, _) => {
                self.puts.get(put).map_or(0, |putting| self.nodes[putting.primary].frozen_until)
            }
            Event::ToMount(conn, _) => self.conns.get(conn).map_or(0, |c| self.mounts[c.mount].frozen_until),
            Event::MountTick(mount, _)
            | Event::MountHearsBreak(mount, _, _)
            | Event::Connect(mount, _)
            | Event::PutDone(mount, _, _, _, _)
            | Event::GetDone(mount, _, _, _)
            | Event::Groups(mount, _, _)
            | Event::Forget(mount, _, _) => self.mounts[*mount].frozen_until,
            _ => 0,
        };
        (until > self.now).then_some(until)
    }

    fn record(&mut self, event: &Event) {
        let (what, whom) = match event {
            Event::NodeTick(n, life) => (1, (*n as u64) << 32 | life),
            Event::NodeWake(n, life) => (2, (*n as u64) << 32 | life),
            Event::LogSynced(n, _) => (3, *n as u64),
            Event::StoreDone(n, _, at, _) => (4 + (at.0 << 8), *n as u64),
            Event::Checkpoint(n, _) => (5, *n as u64),
            Event::MemberDone(n, _) => (6, *n as u64),
            Event::FetchDone(n, _, from) => (7 + (from.0 << 8), *n as u64),
            Event::SlicesDropped(n, _, ids) => (8 + ((ids.len() as u64) << 8), *n as u64),
            Event::SliceCopied(n, _, copying) => (26 + (copying.id.number << 8), *n as u64),
            Event::MergeOrdered(n, _, order) => (27 + (order.slice.number << 8), *n as u64),
            Event::MergeLooked(n, _, looked) => (28 + (looked.0.slice.number << 8), *n as u64),
            Event::Peer { from, to, message, .. } => (9 + (weigh(message) << 8), (*from as u64) << 8 | *to as u64),
            Event::PeerLost(n, peer) => (10 + ((*peer as u64) << 8), *n as u64),
            Event::MountTick(m, _) => (11, *m as u64),
            Event::ToNode(conn, message) => (12 + (weigh_to_node(message) << 8), *conn),
            Event::ToMount(conn, message) => (13 + (weigh_to_mount(message) << 8), *conn),
            Event::NodeHearsBreak(conn) => (14, *conn),
            Event::MountHearsBreak(m, _, conn) => (15 + (conn << 8), *m as u64),
            Event::Connect(m, _) => (16, *m as u64),
            Event::PutArrives(m, _, call, ..) => (17 + (call.0 << 8), *m as u64),
            Event::PutDone(m, _, call, _, _) => (18 + (call.0 << 8), *m as u64),
            Event::ReplicaAsked { put, to, .. } => (29 + (put << 8), *to as u64),
            Event::SliceSynced { put, node, .. } => (30 + (put << 8), *node as u64),
            Event::ReplicaAnswered(put, node, _) => (31 + (put << 8), node.0),
            Event::ReplicaLate(put, _) => (32 + (put << 8), 0),
            Event::GetArrives(m, _, call, _) => (19 + (call.0 << 8), *m as u64),
            Event::GetDone(m, _, call, _) => (20 + (call.0 << 8), *m as u64),
            Event::Groups(m, _, call) => (21 + (call.0 << 8), *m as u64),
            Event::Process(m, _, p) => (22 + ((*p as u64) << 8), *m as u64),
            Event::Fault(_) => (23, 0),
            Event::Forget(m, ..) => (24, *m as u64),
            Event::Reply(m, _, call, ..) => (25 + (call.0 << 8), *m as u64),
        };
        self.trace.event(self.now, what, whom);
        if self.trace.prints() && !matches!(event, Event::NodeTick(..) | Event::NodeWake(..) | Event::MountTick(..)) {
            self.trace.line(self.now, || {
                let mut line = format!("{event:?}");
                let end = (0..=400).rev().find(|i| line.is_char_boundary(*i)).unwrap_or(0);
                line.truncate(end);
                line
            });
        }
    }

    pub(super) fn node_at(&self, id: NodeId) -> Option<usize> {
        (1..=self.nodes.len() as u64).contains(&id.0).then(|| id.0 as usize - 1)
    }

    /// Whether these two nodes are up and can talk.
    pub(super) fn nodes_talk(&self, a: usize, b: usize) -> bool {
        self.nodes[a].machine.is_some()
            && self.nodes[b].machine.is_some()
            && self.nodes[b].frozen_until <= self.now
            && (a == b || self.net.both_ways(Place::Node(a), Place::Node(b)))
    }
}

/// A number that differs where messages differ in what matters.
fn weigh(message: &ToPeer) -> u64 {
    let (kind, what) = match message {
        ToPeer::Raft(m) => {
            (1, m.term ^ m.index << 8 ^ m.commit << 20 ^ (m.entries.len() as u64) << 40 ^ (m.msg_type as u64) << 50)
        }
        ToPeer::Hello { fresh, member, reply, last, .. } => {
            (2, u64::from(*fresh) + 2 * u64::from(*member) + 4 * u64::from(*reply) + 8 * last)
        }
        ToPeer::Beat { term, sent } => (3, term ^ sent << 8),
        ToPeer::Promise { term, sent, .. } => (4, term ^ sent << 8),
        ToPeer::Commands(commands) => (5, commands.iter().map(|c| c.number ^ c.session.0 << 32).sum::<u64>()),
        ToPeer::Held { view, commands } => {
            (16, view.number ^ commands.iter().map(|c| c.number ^ c.session.0 << 32).sum::<u64>())
        }
        ToPeer::View { id, seats } => (17, id.number ^ id.term << 8 ^ (seats.len() as u64) << 40),
        ToPeer::Tokens { view, parcel } => (18, view.number ^ parcel.number << 8 ^ parcel.heard << 32),
        ToPeer::LeadOver { term, lasts } => (22, term ^ lasts << 8),
        ToPeer::Parted { view, neighbour } => (21, view.number ^ neighbour.0 << 8),
        ToPeer::RenewNode { sent, .. } => (19, *sent),
        ToPeer::NodeLease { sent, lasts, .. } => (20, sent ^ lasts << 32),
        ToPeer::OpenSession { nonce, .. } => (6, nonce >> 8),
        ToPeer::Claim(session) => (23, session.0),
        ToPeer::Claimed { session, applied } => (24, session.0 ^ applied << 16),
        ToPeer::EndSession(session) => (7, session.0),
        ToPeer::Copied { slice, .. } => (8, slice.number ^ slice.session.0 << 40),
        ToPeer::Spaces(spaces) => (25, spaces.len() as u64),
        ToPeer::Ask { id, .. } => (9, *id),
        ToPeer::Answer { id, reply } => (10, id.wrapping_mul(2) ^ u64::from(reply.is_some())),
        ToPeer::Replies(replies) => (11, replies.iter().map(|r| r.1 ^ r.0.0 << 32).sum::<u64>()),
        ToPeer::Again(sessions) => (12, sessions.len() as u64),
        ToPeer::Report { applied, .. } => (13, *applied),
        ToPeer::WhoHolds { round, inos } => (14, round ^ (inos.len() as u64) << 40),
        ToPeer::Holds { round, session, .. } => (15, round ^ session.0 << 40),
    };
    what.wrapping_mul(32).wrapping_add(kind)
}

fn weigh_to_node(message: &ToNode) -> u64 {
    match message {
        ToNode::Hello { nonce, .. } => 1 + (nonce >> 8 << 4),
        ToNode::Commands(commands) => 2 + commands.iter().map(|c| c.number << 4).sum::<u64>(),
        ToNode::Ask { id, .. } => 3 + (id << 4),
        ToNode::Alive => 4,
        ToNode::Holds { round, .. } => 5 + (round << 4),
        ToNode::Goodbye => 6,
        ToNode::Renew { sent } => 7 + (sent << 4),
        ToNode::GaveBack(objects) => 8 + ((objects.len() as u64) << 4),
        ToNode::Returned(objects) => 9 + ((objects.len() as u64) << 4),
        ToNode::Empty => 10,
    }
}

fn weigh_to_mount(message: &ToMount) -> u64 {
    match message {
        ToMount::Welcome { session, last, .. } => 1 + (session.0 << 40) + (last << 4),
        ToMount::Gone { session } => 2 + (session.0 << 4),
        ToMount::Replies(replies) => 3 + replies.iter().map(|r| r.0 << 4).sum::<u64>(),
        ToMount::Answer { id, facts, .. } => 4 + (id << 4) + ((facts.len() as u64) << 40),
        ToMount::Again => 5,
        ToMount::WhoHolds { round, .. } => 6 + (round << 4),
        ToMount::LocksMoved { ino } => 7 + (ino.0 << 4),
        ToMount::Lease { sent, lasts } => 8 + ((sent ^ lasts << 20) << 4),
        ToMount::LocksBroken { ino } => 10 + (ino.0 << 4),
        ToMount::Recall(objects) => 9 + ((objects.len() as u64) << 4),
    }
}
