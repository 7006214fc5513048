//! What only a leader does: turn commands into entries, and watch over the sessions.

use super::copies::Copies;
use super::drain::{Drain, Walked};
use super::io::Output;
use super::lease::{Lease, Promised};
use super::members::Changing;
use super::merging::Merging;
use super::messages::{Batch, Item, Seat, Space, ToPeer, ViewId};
use super::orphans::Orphans;
use super::placement::is_full_disk;
use super::tokens::{Place, Tokens};
use super::turns::{Ahead, Turns};
use super::version::encode_batch;
use super::view::disks_together;
use super::{LOG_BYTES_MAX, NodeMachine, WAITING_CHANGES_MAX};
use crate::limits::SESSION_LEASE_MS;
use crate::meta::ops::{Fallocate, FallocateHow};
use crate::meta::{Key, Op, Store, Value};
use crate::session::{Command, Reply, Turn};
use crate::types::{Errno, NodeId, SessionId, Stamp};
use std::collections::{BTreeMap, BTreeSet};

/// A snapshot that was offered is offered again after this long.
const SNAPSHOT_AGAIN_US: u64 = 10_000_000;
/// A report of a node's disk counts for this long; one comes every second.
const SPACE_RECENT_US: u64 = 5_000_000;

/// A node that was not heard of for so long is left out of the tree; who is in it must have been steady for some time.
const SILENT_US: u64 = 1_000_000;
const STEADY_US: u64 = 300_000;
/// Who does not hear a neighbour is not its neighbour for so long.
const PARTED_US: u64 = 60_000_000;
/// Entries that a leader proposes ahead of its own disk.
const UNPERSISTED_MAX: u64 = 256;

/// The most that one command reserves, and all files together. What is on its way meanwhile fits between that and what 64 bits count.
const RESERVED_MAX: u64 = 1 << 50;
const COUNTED_MAX: u64 = 1 << 62;

#[derive(Default)]
pub(super) struct Lead {
    /// The term this node leads in; 0: it does not.
    term: u64,
    /// An entry of the own term was applied: the state is the latest there is.
    settled: bool,
    pub(super) lease: Lease,
    /// What is to be proposed.
    pub(super) queue: Turns,
    ahead: Ahead,
    /// By session, the highest command number put into the queue in this term.
    queued: BTreeMap<SessionId, u64>,
    /// The node each session's commands come through; its own mounts' are not here.
    routes: BTreeMap<SessionId, NodeId>,
    /// When each session was last heard of.
    heard: BTreeMap<SessionId, u64>,
    pub(super) orphans: Orphans,
    /// Until when nodes rely on what they hold in the tree.
    node_leases: BTreeMap<NodeId, u64>,
    /// The other nodes that ought to be in the tree, in which of their lives, and since when; with another tree than this no
    /// lease is renewed.
    there: BTreeMap<NodeId, u64>,
    there_since: u64,
    /// Nodes that fetch the state, until they follow the log again.
    fetching: BTreeSet<NodeId>,
    /// Nodes that do not hear each other, and until when they are no neighbours.
    parted: BTreeMap<(NodeId, NodeId), u64>,
    /// These are to hear at once what is committed.
    tells_commit: BTreeSet<NodeId>,
    /// Replies that go out behind that word.
    late: Vec<(NodeId, (SessionId, u64, Reply))>,
    /// Followers that a snapshot was offered to, and since when nothing came of it.
    snapshots: BTreeMap<u64, u64>,
    last_beat: u64,
    last_stamp: Stamp,
    /// When it began.
    since: u64,
    pub(super) changing: Changing,
    pub(super) drain: Drain,
    pub(super) merging: Merging,
}

impl Lead {
    pub(super) fn leading(&self, term: u64) -> bool {
        self.term == term
    }

    pub(super) fn settled(&self) -> bool {
        self.settled
    }

    /// The node through which a session's commands come, where that is not this one.
    pub(super) fn route(&self, session: SessionId) -> Option<NodeId> {
        self.routes.get(&session).copied()
    }

    pub(super) fn applied_entry(&mut self, term: u64) {
        if self.term != 0 && term == self.term {
            self.settled = true;
        }
    }

    pub(super) fn heard(&mut self, session: SessionId, now: u64) {
        if self.term != 0 {
            self.heard.insert(session, now);
        }
    }

    pub(super) fn slept(&mut self, for_us: u64) {
        self.heard.values_mut().for_each(|at| *at += for_us);
    }

    pub(super) fn session_ended(&mut self, session: SessionId) {
        self.queued.remove(&session);
        self.routes.remove(&session);
        self.heard.remove(&session);
        self.orphans.session_ended(session);
    }
}

impl NodeMachine {
    pub(super) fn start_leading(&mut self) {
        self.apply_deferred();
        let orphans = std::mem::take(&mut self.lead.orphans);
        let merging = Merging::new(self.config.merge, self.now.mono);
        self.lead = Lead { term: self.raw.raft.term, since: self.now.mono, orphans, merging, ..Lead::default() };
        self.lead.lease.start(self.raw.raft.term);
        self.copies = Copies::closed_until(self.copies_until);
        self.lay_tree(0);
        self.begin_copies();
        let now = self.now.mono;
        // Whoever was the leader before knew who lives; this one gives everybody a whole lease to be heard.
        self.lead.heard = self.sessions.keys().map(|id| (*id, now)).collect();
        self.load_orphans();
        self.shared.write().just_unlinked.clear();
        if self.cluster.is_none() {
            self.lead.queue.push(Item::Form { cluster: self.config.cluster, owner: self.config.founder });
            self.lead.queue.push(Item::Founders(self.members.clone()));
        }
        self.send_beats();
    }

    pub(super) fn stop_leading(&mut self) {
        if self.lead.term != 0 {
            self.tell_lead_over(self.lead.term);
            self.lead = Lead::default();
            self.leave_tree();
            self.shared.write().just_unlinked.clear();
            // Its own vote counts for what it gave out, though it promised nothing to itself.
            self.promised_until = self.promised_until.max(self.copies_until);
            self.publish_lease();
            self.all_again();
        }
    }

    /// Who leads no longer says so, if nobody else does yet: then the others need not wait until their promises are over.
    fn tell_lead_over(&mut self, term: u64) {
        if self.raw.raft.leader_id == 0 {
            let lasts = self.copies_until.saturating_sub(self.now.mono);
            for to in self.others() {
                self.send(to, ToPeer::LeadOver { term, lasts });
            }
        }
    }

    pub(super) fn step_down(&mut self) {
        if self.is_leader() {
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, 0);
            self.drive_raft();
        }
    }

    pub(super) fn tick_lead(&mut self) {
        if !self.is_leader() {
            return;
        }
        // A majority gets on without this one's disk, and with a leader that has one gets on faster.
        let raft_log = &self.raw.raft.raft_log;
        if self.disk_hangs() && raft_log.committed > raft_log.persisted && self.others_suffice() {
            return self.step_down();
        }
        if self.now.mono >= self.lead.last_beat + super::HEARTBEAT_TICKS as u64 * super::TICK_US {
            self.send_beats();
        }
        self.expire_sessions();
        self.tick_tree();
        self.tick_orphans();
        self.tick_version();
        self.tick_members();
        self.tick_merging();
        self.retry_snapshots();
    }

    fn send_beats(&mut self) {
        self.lead.last_beat = self.now.mono;
        let (term, sent) = (self.raw.raft.term, self.now.mono);
        for to in self.others() {
            self.send(to, ToPeer::Beat { term, sent });
            if self.tokens.view().number > 0 {
                let Place { id, seats } = self.tokens.place().clone();
                self.send(to, ToPeer::View { id, seats });
            }
        }
    }

    /// A tree in which nobody but its root has anything.
    fn lay_tree(&mut self, number: u64) {
        let me = self.config.id;
        let id = ViewId { term: self.raw.raft.term, number };
        let there = &self.lead.there;
        let parents = self.config.topology.parents(me, &there.keys().copied().chain([me]).collect());
        let seat = |(node, parent)| {
            let parent = if self.are_parted(node, parent) { me } else { parent };
            (node, Seat { parent, life: there.get(&node).copied().unwrap_or(0) })
        };
        let seats = parents.into_iter().map(seat).collect();
        // All that was let in before is in the log.
        self.tokens = Tokens::root(me, Place { id, seats }, self.raw.raft.raft_log.last_index());
        self.lead.node_leases.clear();
        self.hold_anew();
    }

    /// A node that went silent, or is heard again, is followed by another tree: once what nodes hold in this one is over.
    fn tick_tree(&mut self) {
        let now = self.now.mono;
        self.lead.parted.retain(|_, until| *until > now);
        for (node, progress) in self.raw.raft.prs().iter() {
            match progress.state {
                raft::ProgressState::Snapshot => self.lead.fetching.insert(NodeId(*node)),
                raft::ProgressState::Replicate => self.lead.fetching.remove(&NodeId(*node)),
                raft::ProgressState::Probe => false,
            };
        }
        // Who fetches the whole state carries nothing out meanwhile, and would keep what it let in for so long.
        let others = self.members.nodes.keys().filter(|node| !self.lead.fetching.contains(node));
        let there = others.filter_map(|node| Some((*node, self.life_of(*node)?))).collect();
        if there != self.lead.there {
            self.lead.there = there;
            self.lead.there_since = now;
        }
        let over = self.lead.node_leases.values().all(|until| *until <= now);
        let steady = now >= self.lead.there_since + STEADY_US;
        // All that was let in goes into the log first.
        if self.lead.settled && self.tree_is_to_change() && steady && over && self.propose_all() {
            self.lay_tree(self.tokens.view().number + 1);
            self.send_beats();
        }
    }

    fn tree_is_to_change(&self) -> bool {
        let seats = &self.tokens.place().seats;
        let parted = seats.iter().any(|(node, seat)| self.are_parted(*node, seat.parent));
        parted
            || seats.iter().map(|(node, seat)| (*node, seat.life)).ne(self
                .lead
                .there
                .iter()
                .map(|(node, life)| (*node, *life)))
    }

    /// Two neighbours in the tree that do not hear each other: each hangs on the root for a while.
    pub(super) fn parted(&mut self, from: NodeId, view: ViewId, neighbour: NodeId) {
        if self.is_leader() && view == self.tokens.view() {
            let (one, other) = (from.min(neighbour), from.max(neighbour));
            self.lead.parted.insert((one, other), self.now.mono + PARTED_US);
        }
    }

    fn are_parted(&self, one: NodeId, other: NodeId) -> bool {
        self.lead.parted.contains_key(&(one.min(other), one.max(other)))
    }

    /// A node asks for how long it may rely on what it holds.
    pub(super) fn renew_node(&mut self, from: NodeId, view: ViewId, sent: u64) {
        let now = self.now.mono;
        if !self.is_leader() || view != self.tokens.view() || self.tree_is_to_change() {
            return;
        }
        let until = self.copies_last_until();
        if until > now {
            let lease = self.lead.node_leases.entry(from).or_default();
            *lease = until.max(*lease);
            self.copies_until = self.copies_until.max(until);
            self.send(from, ToPeer::NodeLease { view, sent, lasts: until - now });
        }
    }

    /// A follower that gave up on a snapshot says nothing of it: after a while Raft is told to try again. One that is still
    /// fetching does not mind.
    fn retry_snapshots(&mut self) {
        let now = self.now.mono;
        let in_snapshot = |(_, progress): &(&u64, &raft::Progress)| progress.state == raft::ProgressState::Snapshot;
        let waiting: BTreeSet<u64> = self.raw.raft.prs().iter().filter(in_snapshot).map(|(id, _)| *id).collect();
        let since = &mut self.lead.snapshots;
        since.retain(|id, _| waiting.contains(id));
        for id in waiting {
            if now >= *since.entry(id).or_insert(now) + SNAPSHOT_AGAIN_US {
                since.insert(id, now);
                self.raw.report_snapshot(id, raft::SnapshotStatus::Failure);
            }
        }
    }

    pub(super) fn publish_lease(&mut self) {
        let latest = self.applied.0 >= self.raw.raft.raft_log.committed;
        let until = if self.is_leader() && self.lead.settled && latest {
            self.lead.lease.until(self.config.id, &self.voters, self.now.mono)
        } else {
            0
        };
        self.shared.allow_reads_until(until);
    }

    /// Whether most voters promised lately to elect nobody else.
    pub(super) fn holds_lease(&self) -> bool {
        self.lead.lease.until(self.config.id, &self.voters, self.now.mono) > self.now.mono
    }

    pub(super) fn may_read(&self) -> bool {
        self.is_leader() && self.shared.may_read(self.now.mono)
    }

    fn expire_sessions(&mut self) {
        let deadline = self.now.mono.saturating_sub(SESSION_LEASE_MS * 1000);
        let over: Vec<SessionId> =
            self.lead.heard.iter().filter(|(_, at)| **at < deadline).map(|(id, _)| *id).collect();
        for id in over {
            self.lead.heard.insert(id, self.now.mono); // asked again after another lease, should the entry get lost
            self.lead.queue.push(Item::EndSession(id));
        }
    }

    pub(super) fn report(
        &mut self,
        from: NodeId,
        sessions: Vec<SessionId>,
        space: Space,
        applied: u64,
        walked: Walked,
    ) {
        self.lead.drain.heard(from, walked);
        self.space.insert(from, (space, self.now.mono));
        self.peer_applied.insert(from, applied);
        for session in sessions {
            if self.sessions.contains_key(&session) {
                self.lead.heard(session, self.now.mono);
                if self.is_leader() {
                    self.lead.routes.insert(session, from);
                }
            }
        }
    }

    /// Room on a node's disk. What it said long ago, perhaps before it died, says nothing of today.
    fn space_of(&self, node: NodeId) -> Option<Space> {
        self.space.get(&node).filter(|(_, at)| self.now.mono < at + SPACE_RECENT_US).map(|(space, _)| *space)
    }

    /// Every node places slices, and looks what should move where, by what is known of a moment ago. The leader hears it from all,
    /// and tells all.
    pub(super) fn tell_spaces(&mut self) {
        let known = self.space.keys().filter_map(|node| Some((*node, self.space_of(*node).filter(|s| s.total > 0)?)));
        let spaces: BTreeMap<NodeId, Space> = known.collect();
        if self.is_leader() {
            for to in self.others() {
                self.send(to, ToPeer::Spaces(spaces.clone()));
            }
        }
        self.shared.write().spaces = spaces;
    }

    pub(super) fn spaces_came(&mut self, from: NodeId, spaces: BTreeMap<NodeId, Space>) {
        if self.leader != Some(from) {
            return;
        }
        for (node, space) in spaces {
            if node != self.config.id && self.members.nodes.contains_key(&node) {
                self.space.insert(node, (space, self.now.mono));
            }
        }
    }

    pub(super) fn open_session(&mut self, client: String, nonce: u64) {
        if self.is_leader() {
            self.lead.queue.push(Item::OpenSession { client, nonce });
        }
    }

    pub(super) fn end_session(&mut self, session: SessionId) {
        if self.is_leader() {
            self.lead.queue.push(Item::EndSession(session));
        } else if let Some(leader) = self.leader {
            self.send(leader, ToPeer::EndSession(session));
        }
    }

    /// `held`: the node let them in under the tokens it held in this view. If that is not the view of now, they are nothing.
    pub(super) fn commands_from_peer(&mut self, from: NodeId, held: Option<ViewId>, commands: Vec<Command>) {
        if !self.is_leader() || !self.lead.settled || held.is_some_and(|view| view != self.tokens.view()) {
            let mut sessions: Vec<SessionId> = commands.iter().map(|c| c.session).collect();
            sessions.dedup();
            return self.send(from, ToPeer::Again(sessions));
        }
        for command in commands {
            self.lead.routes.insert(command.session, from);
            self.queue_command(command, held.is_some());
        }
    }

    /// Puts a command into the queue if it is its turn; what was carried out before is answered at once. `held`: the node it
    /// came from let it in.
    pub(super) fn queue_command(&mut self, command: Command, held: bool) {
        let (id, number) = (command.session, command.number);
        let Some(session) = self.sessions.get(&id) else { return self.session_gone(id) };
        let next = self.lead.queued.get(&id).copied().unwrap_or(0).max(session.last) + 1;
        if number > next {
            return self.again(&[id]);
        }
        if number < next {
            if held && self.was_let_in_elsewhere(id, number) {
                return;
            }
            let Some(session) = self.sessions.get(&id) else { return };
            // In the log already, or carried out: the reply comes, or is here.
            if let Turn::Again(reply) = session.turn(number) {
                let reply = reply.clone();
                self.reply(id, number, reply);
            }
            return;
        }
        self.lead.queued.insert(id, number);
        // What comes again says nothing of the mount: a node sends what it let in until it is carried out.
        self.lead.heard(id, self.now.mono);
        let deny = self.denied(&command.op);
        self.let_in(Item::Command { command, deny }, held);
    }

    /// What the leader refuses: the cluster's own operations from a mount, and growth when a disk is full.
    fn denied(&self, op: &Op) -> Option<Errno> {
        if matches!(op, Op::Reap(_) | Op::PlaceSlice(_) | Op::Merge(_) | Op::BreakLocks(_)) {
            return Some(Errno::EPERM);
        }
        (op.grows() && self.is_full() || self.is_beyond_all_room(op)).then_some(Errno::ENOSPC)
    }

    /// Whether it is to reserve more than there will ever be. What is reserved is counted in 64 bits, and takes no disk's room.
    fn is_beyond_all_room(&self, op: &Op) -> bool {
        let Op::Fallocate(Fallocate { len, how: FallocateHow::Allocate | FallocateHow::ZeroRange, .. }) = op else {
            return false;
        };
        let view = self.shared.read();
        let room = disks_together(&view).total;
        let counted = match view.get(&Key::Volume) {
            Ok(Some(Value::Volume(volume))) => volume.allocated,
            _ => 0,
        };
        *len > RESERVED_MAX || room > 0 && *len > room || counted > COUNTED_MAX
    }

    /// Whether those that vote, are there and have room are no majority. One whose disk is full is one that the others can do
    /// without, as long as they can.
    fn is_full(&self) -> bool {
        let is_full = |node: &NodeId| self.space_of(*node).is_some_and(|space| is_full_disk(&space));
        // One that leads since a moment ago has not heard from everybody yet.
        let waits = self.now.mono < self.lead.since + SPACE_RECENT_US;
        let is_there = |node: &NodeId| *node == self.config.id || waits || self.space_of(*node).is_some();
        let has_room = |node: &&NodeId| !is_full(node) && is_there(node);
        self.voters.iter().any(is_full) && self.voters.iter().filter(has_room).count() <= self.voters.len() / 2
    }

    /// Whether this node was heard of a moment ago, and can carry out what it is told.
    pub(super) fn is_there(&self, node: NodeId) -> bool {
        self.life_of(node).is_some()
    }

    /// Which life of its a node is in that was heard of a moment ago, and can carry out what it is told.
    pub(super) fn life_of(&self, node: NodeId) -> Option<u64> {
        self.said_lately(node).filter(|promised| !promised.hangs).map(|promised| promised.life)
    }

    fn said_lately(&self, node: NodeId) -> Option<Promised> {
        self.lead.lease.promised_by(node).filter(|promised| promised.sent + SILENT_US > self.now.mono)
    }

    /// The newest version that a node speaks which was heard of a moment ago.
    pub(super) fn speaks_up_to(&self, node: NodeId) -> Option<u32> {
        let own = Some(self.config.speaks.newest).filter(|_| node == self.config.id);
        own.or_else(|| self.said_lately(node).map(|promised| promised.speaks))
    }

    pub(super) fn all_promise(&self) -> bool {
        self.voters.iter().all(|voter| *voter == self.config.id || self.said_lately(*voter).is_some())
    }

    /// Whether the others are a majority without this one.
    fn others_suffice(&self) -> bool {
        self.voters.iter().filter(|voter| self.is_there(**voter)).count() > self.voters.len() / 2
    }

    pub(super) fn propose_queued(&mut self) {
        if self.is_leader() && self.room_to_propose() {
            let committed = self.raw.raft.raft_log.committed;
            while !self.lead.queue.is_empty() && self.lead.ahead.has_room(committed) {
                self.propose_some();
            }
        }
    }

    /// Whatever waits, if there is room for anything; answers whether nothing waits any more.
    fn propose_all(&mut self) -> bool {
        while self.is_leader() && !self.lead.queue.is_empty() && self.room_to_propose() {
            self.propose_some();
        }
        self.lead.queue.is_empty()
    }

    /// One entry.
    fn propose_some(&mut self) {
        let items = self.lead.queue.take();
        let stamp = self.now.real.max(self.lead.last_stamp.max(self.last_stamp).just_after());
        self.lead.last_stamp = stamp;
        let batch = Batch { stamp, items };
        let Some(data) = encode_batch(self.writes_by(), &batch) else {
            return self.stop("a batch could not be encoded");
        };
        if self.raw.propose(Vec::new(), data).is_err() {
            return self.not_proposed(batch.items);
        }
        self.lead.ahead.proposed(self.raw.raft.raft_log.last_index(), &batch.items);
    }

    /// Not taken, nor is what stands behind it: whoever waits for it sends it again.
    fn not_proposed(&mut self, items: Vec<Item>) {
        for item in items.into_iter().chain(self.lead.queue.take_all()) {
            match item {
                Item::Command { command, .. } => self.settled(command.session, command.number),
                Item::Own(Op::Merge(merge)) => self.note_again(&merge),
                _ => {}
            }
        }
        self.lead.queued.clear();
        self.lead.changing.is_over();
        self.nothing_waits();
        self.all_again();
    }

    /// Commands wait while the state store or its checkpoint is far behind, or this node's own log: the others may be a majority
    /// without it, but what it has not written yet it must keep in memory.
    fn room_to_propose(&self) -> bool {
        let raft_log = &self.raw.raft.raft_log;
        raft_log.last_index() < raft_log.persisted + UNPERSISTED_MAX
            && self.raw.store().bytes() < LOG_BYTES_MAX
            && self.shared.read().waiting() < WAITING_CHANGES_MAX
    }

    pub(super) fn lead_after_apply(&mut self) {
        self.answer_waiting();
        // An append says how far the log is committed; a heartbeat does not say more than was acknowledged.
        for node in std::mem::take(&mut self.lead.tells_commit) {
            self.send_append(node);
        }
    }

    /// The reply to a command goes the way the command came.
    pub(super) fn reply(&mut self, session: SessionId, number: u64, reply: Reply) {
        if self.reply_here(session, number, &reply) || !self.is_leader() {
            return;
        }
        if let Some(to) = self.lead.route(session) {
            if self.lead.node_leases.get(&to).is_some_and(|until| *until > self.now.mono) {
                // What it holds it uses again when it has carried this out: it hears first that this is committed.
                self.lead.tells_commit.insert(to);
                self.lead.late.push((to, (session, number, reply)));
            } else {
                self.send_reply(to, (session, number, reply));
            }
        }
    }

    fn send_reply(&mut self, to: NodeId, reply: (SessionId, u64, Reply)) {
        match self.out.last_mut() {
            Some(Output::Peer { to: last, message: ToPeer::Replies(replies) }) if *last == to => replies.push(reply),
            _ => self.send(to, ToPeer::Replies(vec![reply])),
        }
    }

    pub(super) fn send_late_replies(&mut self) {
        for (to, reply) in std::mem::take(&mut self.lead.late) {
            self.send_reply(to, reply);
        }
    }
}
