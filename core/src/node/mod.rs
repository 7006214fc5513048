//! # The node's machine
//!
//! Raft, the namespace and the sessions in one deterministic `step(now, inputs) -> outputs`. It owns all of a node's state;
//! the shell around it only carries bytes: it gives it messages, the time and what the disk has finished, and carries out
//! what comes back.
//!
//! ```text
//!   mounts -> commands --(not the leader: on to it)--> queue -> one Batch a step -> Raft -> committed
//!                                                                                            |
//!   mounts <- replies <- sessions <- meta's operations, on View (fresh > storing > state store) <-+
//!                                          |
//!                                          +-> Output::Store, off the reply's path
//! ```
//!
//! Invariants:
//! * a message that relies on the log (a vote, an acknowledged append) leaves only after [`Input::Persisted`] for it;
//! * a command is answered only after it was applied, and applied only after it was committed: on a majority's disks (this
//!   node's own need not be among them);
//! * a question is answered only while the leader's [`lease`] lasts and after the first entry of its own term was applied;
//! * `View` = state store + everything applied since; the log keeps every entry that is not durable in the state store,
//!   and the state store is given none that is not durable in the log.
//!
//! One file a concern: `raft_drive` turns Raft's readiness into outputs, `apply` carries out committed entries, `lead` is
//! what only a leader does (`turns` whose command is next), `tokens` says which node may change an object (`tree` whose
//! neighbour it is, `edges` that what neighbours say arrives), `copies` keeps what its mounts cache true, `attach` serves them,
//! `breaks` takes locks away by force, `orphans` finds out which unlinked files nobody has open, `merging` takes small writes
//! out of the state, `members` says who belongs to the cluster, `join` keeps a node that lost its disk from voting, `version`
//! lets two builds work together, `lease` and `view` say for themselves.

mod apply;
mod attach;
mod breaks;
mod copies;
mod drain;
mod edges;
mod fetching;
mod freezing;
mod garbage;
mod io;
mod join;
mod lead;
mod lease;
mod log;
mod members;
mod merging;
mod messages;
mod orphans;
mod pace;
mod placement;
mod raft_drive;
mod repair;
mod shares;
mod status;
mod tokens;
mod tree;
mod turns;
mod version;
mod view;

pub use copies::CopyRow;
pub use drain::{Walk, Walked};
pub use edges::Parcel;
pub use fetching::Fetching;
pub use io::{Changes, Conn, Input, LogWrite, Now, Output};
pub use members::listed;
pub use merging::{Looked, MergeOrder, MergeRule, Merged};
pub use messages::{Batch, Item, Seat, Space, ToPeer, ViewId};
pub use pace::{Pace, to_go};
pub use placement::{Asking, copies_wanted, enough_copies, is_full, is_full_disk, spare_copy};
pub use repair::{Copying, Ended, Made, Repair, Survey, Walking};
pub use shares::{Shares, Takeover};
pub use status::{CopiesStatus, PeerStatus, SessionStatus, Status};
pub use tokens::{PARCEL_MAX, TokenStatus};
pub use tree::{NoTree, Topology};
pub use version::{Speaks, Unfit, Unspoken, Written, all_spoken, encode_batch, in_force, spoken_in_force};
pub use view::{Base, Freeze, Frozen, Reader};

use crate::meta::{Key, Store, Value};
use crate::session::Session;
use crate::types::{ClusterId, Members, NodeId, Owner, SessionId, SliceId, Stamp};
use attach::Attach;
use copies::Copies;
use join::{Hello, Join};
use lead::Lead;
use lease::Promised;
use log::Log;
use raft::RawNode;
use raft::eraftpb::{Entry, HardState, Message};
use raft_drive::Persisting;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokens::Tokens;
use view::Shared;

/// How often the shell says [`Input::Tick`], in microseconds.
pub const TICK_US: u64 = 50_000;
/// Ticks between heartbeats, and the shortest election timeout: 1 s; drawn anew up to twice that. A disk or a scheduler
/// that stalls for some hundred milliseconds must not cost an election.
const HEARTBEAT_TICKS: usize = 2;
const ELECTION_TICKS: usize = 20;
/// Raft ticks made up for at once after a pause: a node that slept does not wake as a candidate.
const TICKS_AT_ONCE: u64 = 4;
/// A longer time between two ticks was a pause of this node.
const PAUSE_US: u64 = 1_000_000;
/// Changes that may wait for the state store before new commands are held back.
const WAITING_CHANGES_MAX: usize = 400_000;
/// Changes after which the state store is given work even between ticks.
const STORE_AT: usize = 4_096;
/// The log is in memory from the last checkpoint on. Above so many bytes one is made at once; a leader adds nothing to more than that,
/// and a follower takes nothing more, whose disk is slower than the leader's.
const LOG_BYTES_SOON: usize = 32 << 20;
const LOG_BYTES_MAX: usize = 128 << 20;
const LOG_BYTES_TAKEN_MAX: usize = 2 * LOG_BYTES_MAX;
/// Log entries kept behind a checkpoint for followers that lag, and the bytes they may take.
const LOG_TAIL: u64 = 2_000;
const LOG_TAIL_BYTES: usize = 16 << 20;

/// What a node is told once, when it starts.
#[derive(Clone, Debug)]
pub struct Config {
    pub id: NodeId,
    /// The nodes of the cluster, this one included, as far as it was told: its state knows better, once it has one.
    pub members: Members,
    /// Whether an operator said so, for a cluster that is to be formed; not whoever was in it already.
    pub is_founder: bool,
    /// Drawn when the process starts: what little chance the machine needs comes from here.
    pub seed: u64,
    /// The name this node would give to a cluster that it forms.
    pub cluster: ClusterId,
    /// Whose the root directory of a cluster is that it forms.
    pub founder: Owner,
    /// How this node, when it leads, lays the tree of the nodes.
    pub topology: Topology,
    /// When it leads: of whom nothing is heard for so long is away, and its copies are made elsewhere.
    pub away_after_us: u64,
    /// Which small writes it has merged when it leads.
    pub merge: MergeRule,
    /// By which versions it can write and carry out entries.
    pub speaks: Speaks,
}

/// What a node's disks still knew when it started.
pub struct Recovered {
    /// Whether this node votes.
    pub member: bool,
    pub hard_state: HardState,
    /// The entry up to which the log was compacted: index and term.
    pub start: (u64, u64),
    pub entries: Vec<Entry>,
    pub base: Base,
    /// Index and term up to which `base` holds everything.
    pub stored: (u64, u64),
    /// Where the log ended when `base` was taken from another node, if it was, and nothing was stored since.
    pub imported_over: Option<u64>,
}

/// How the log and the state that a node found on its disk go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    Good,
    /// The state is newer than the log: the node ended between the installation of a snapshot and the log's reset. The log
    /// must be reset to the state, durably. Unless the log still ends where it did when the snapshot came, its end was lost,
    /// and with it perhaps what this node had acknowledged: then it may not vote until it has caught up.
    Reset {
        why: String,
        votes_on: bool,
    },
    /// One of them is not what it was.
    Damaged(String),
}

impl Recovered {
    pub fn fit(&self) -> Fit {
        let (stored, start) = (self.stored, self.start);
        let last = start.0 + self.entries.len() as u64;
        if stored.0 < start.0 {
            return Fit::Damaged(format!("the log begins behind entry {}, the state ends at {}", start.0, stored.0));
        }
        if self.member && stored.0 > 0 && self.hard_state.term == 0 {
            return Fit::Damaged(format!("the state is of entry {}, and the log is empty", stored.0));
        }
        let term = match stored.0.checked_sub(start.0 + 1) {
            None => Some(start.1),
            Some(at) => self.entries.get(at as usize).map(|e| e.term),
        };
        if term != Some(stored.1) {
            let why = format!("the state is of entry {} of term {}, the log ends at {last}", stored.0, stored.1);
            return Fit::Reset { why, votes_on: self.imported_over == Some(last) };
        }
        Fit::Good
    }
}

pub struct NodeMachine {
    config: Config,
    /// As of the last entry that was applied.
    members: Members,
    voters: Vec<NodeId>,
    raw: RawNode<Log>,
    now: Now,
    out: Vec<Output>,
    last_tick: u64,
    /// Until when this node elects nobody: it promised so to a leader.
    promised_until: u64,
    /// Before that it does not stand for election itself: it is others' turn.
    stands_from: u64,
    /// When the last copy that this node gave out, in whatever term, must no longer be used.
    copies_until: u64,
    persisting: Persisting,
    /// Index and term of the last entry applied to the view.
    applied: (u64, u64),
    /// The newest moment any entry carried.
    last_stamp: Stamp,
    shared: Arc<Shared>,
    /// Index and term of what is being stored, and whether the store was told: it waits until the log has it durably.
    storing: Option<(u64, u64)>,
    handed_over: bool,
    cluster: Option<ClusterId>,
    /// The version in force, once there is a cluster; and the newest of anything that this node keeps.
    in_force: Option<u32>,
    keeps: u32,
    /// The sessions, as in the view; changed ones are written back once an entry.
    sessions: BTreeMap<SessionId, Session>,
    snapshot: Option<Box<Message>>,
    /// Committed and not applied yet: on a follower until [`NodeMachine::catch_up`], and on every node while a snapshot is
    /// fetched, for the state store may be another one at any moment until that has ended.
    deferred: Vec<Entry>,
    join: Join,
    lead: Lead,
    /// What this node's mounts have copies of, and which of their commands wait.
    copies: Copies,
    tokens: Tokens,
    attach: Attach,
    leader: Option<NodeId>,
    /// What each node said of its disk, and when.
    space: BTreeMap<NodeId, (Space, u64)>,
    peer_applied: BTreeMap<NodeId, u64>,
    /// What was found when all slices were walked over last.
    walk: Walk,
    fetching: Fetching,
    log_tail: u64,
    /// Commands carried out since the start, by kind.
    carried_out: BTreeMap<&'static str, u64>,
    freezing: freezing::Freezing,
}

impl NodeMachine {
    pub fn new(config: Config, recovered: Recovered, now: Now) -> Result<NodeMachine, Unfit> {
        all_spoken(&recovered.entries, recovered.stored.0, config.speaks)?;
        version::spoken_in_force(&*recovered.base, config.speaks)?;
        let damaged = |why: &str| Unfit::Damaged(why.into());
        let listed = members::listed(&*recovered.base).map_err(|_| damaged("the state store cannot be read"))?;
        let members = members::among(listed.unwrap_or_else(|| config.members.clone()), &config);
        let conf_state = members::conf_state(&members);
        if let Fit::Damaged(why) | Fit::Reset { why, .. } = recovered.fit() {
            return Err(Unfit::Damaged(why));
        }
        let keeps = version::newest_of(&recovered.entries);
        let (start, entries) = (recovered.start, recovered.entries);
        let is_new = start.0 == 0 && entries.is_empty() && recovered.stored.0 == 0;
        let mut hard_state = recovered.hard_state;
        hard_state.commit = hard_state.commit.max(recovered.stored.0);
        let mut log = Log::new(hard_state, conf_state, start, entries);
        log.stored = recovered.stored;
        let raft_config = raft::Config {
            id: config.id.0,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied: recovered.stored.0,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 64,
            check_quorum: true,
            pre_vote: true,
            skip_bcast_commit: true,
            batch_append: true,
            max_committed_size_per_ready: 4 << 20,
            ..raft::Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&raft_config, log, &logger)
            .map_err(|e| Unfit::Damaged(format!("the Raft log does not fit: {e}")))?;
        let shared = Shared::new(recovered.base, recovered.stored);
        let mut machine = NodeMachine {
            join: Join::new(recovered.member, &config),
            voters: members.voters(),
            members,
            raw,
            now,
            out: Vec::new(),
            last_tick: now.mono,
            promised_until: if recovered.member { now.mono + lease::PROMISE_US } else { 0 },
            stands_from: 0,
            // What it gave out before it was started is over then, if it ever led.
            copies_until: if is_new { 0 } else { now.mono + lease::LEASE_US },
            persisting: Persisting::default(),
            applied: recovered.stored,
            last_stamp: Stamp::default(),
            shared,
            storing: None,
            handed_over: false,
            cluster: None,
            in_force: None,
            keeps: 0,
            sessions: BTreeMap::new(),
            snapshot: None,
            deferred: Vec::new(),
            lead: Lead::default(),
            copies: Copies::default(),
            tokens: Tokens::default(),
            attach: Attach::new(config.seed),
            leader: None,
            space: BTreeMap::new(),
            peer_applied: BTreeMap::new(),
            freezing: Default::default(),
            walk: Walk::default(),
            fetching: Fetching::default(),
            log_tail: LOG_TAIL,
            carried_out: BTreeMap::new(),
            config,
        };
        machine.keeps_version(keeps);
        machine.load_from_view()?;
        machine.pin_election_timeout();
        // What was found is durable; whoever was ended before it could shorten its log for it begins with a short one.
        machine.checkpointed(machine.applied.0);
        Ok(machine)
    }

    /// How many log entries stay behind a checkpoint: a short tail makes those who lag fetch a snapshot.
    pub fn keep_log_tail(&mut self, entries: u64) {
        self.log_tail = entries;
    }

    /// Takes what happened and answers what to do, in order.
    pub fn step(&mut self, now: Now, inputs: impl IntoIterator<Item = Input>) -> Vec<Output> {
        debug_assert!(now.mono >= self.now.mono, "a monotonic clock went back");
        self.now = now;
        for input in inputs {
            self.take(input);
        }
        self.drive_tokens();
        self.let_in_waiting();
        self.propose_members();
        self.propose_queued();
        self.drive_raft();
        self.answer_waiting();
        self.publish_lease();
        self.settle_tokens();
        self.tell_moved_locks();
        self.store_if_due();
        self.hand_over();
        std::mem::take(&mut self.out)
    }

    /// Whether there is work that nobody waits for: then [`NodeMachine::catch_up`] follows, once the outputs of the last step
    /// are carried out.
    pub fn is_behind(&self) -> bool {
        !self.deferred.is_empty() && self.snapshot.is_none()
    }

    /// Applies what is committed. A follower does so only here, after it has written and acknowledged what came with it.
    pub fn catch_up(&mut self, now: Now) -> Vec<Output> {
        self.now = now;
        self.apply_deferred();
        self.settle_join();
        self.settle_tokens();
        self.tell_moved_locks();
        self.store_if_due();
        std::mem::take(&mut self.out)
    }

    /// What was carried out ended uses of tokens; whoever waited for these goes on.
    fn settle_tokens(&mut self) {
        self.drive_tokens();
        self.let_in_waiting();
        // What is let in may end further uses, never without anything else happening: so this ends.
        while self.drive_tokens() {
            self.let_in_waiting();
        }
        self.propose_queued();
        self.drive_raft();
        self.send_late_replies();
        self.confirm_tokens();
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Tick => self.tick(),
            Input::Peer { from, message } => self.peer_says(from, message),
            Input::PeerLost(peer) => self.peer_lost(peer),
            Input::Mount { conn, message } => self.mount_says(conn, message),
            Input::MountLost(conn) => self.mount_lost(conn),
            Input::Persisted(number) => self.persisted(number),
            Input::Stored(index) => self.stored(index),
            Input::Checkpointed(index) => self.checkpointed(index),
            Input::SnapshotFetched(got) => self.snapshot_fetched(got),
            Input::MemberRecorded => self.join.recorded(),
            Input::Space(space) => _ = self.space.insert(self.config.id, (space, self.now.mono)),
            Input::Freeze { request, at } => self.freeze(request, at),
            Input::Looked { slice, merged } => self.merge_looked(slice, merged),
            Input::Copied { slice, instead_of } => self.copied(slice, instead_of),
            Input::BreakLocks(order) => self.break_locks(order),
            Input::ChangeMembers { request, change } => self.change_members(request, change),
            Input::StepDown => self.step_down(),
            Input::GiveUp(node) => self.lead.drain.give_up(node),
            Input::Walked(walk) => self.walked(walk),
            Input::Fetching(fetching) => self.fetching = fetching,
        }
    }

    fn peer_says(&mut self, from: NodeId, message: ToPeer) {
        // A node that this one has not heard of yet may be the one that leads.
        let is_known = self.members.nodes.contains_key(&from);
        if from == self.config.id || !(is_known || message.is_for_anybody()) {
            return;
        }
        match message {
            ToPeer::Raft(message) => self.step_raft(from, message),
            ToPeer::Hello { fresh, member, reply, last, life, term, asked } => {
                self.hello(from, &Hello { fresh, member, reply, last, life, term, asked });
            }
            ToPeer::Beat { term, sent } => self.beat(from, term, sent),
            // What it promises on was sent before.
            ToPeer::Promise { sent, .. } if sent > self.now.mono => {}
            ToPeer::Promise { term, sent, life, hangs, speaks } => {
                self.promised(from, term, Promised { sent, life, hangs, speaks });
            }
            ToPeer::LeadOver { term, lasts } => self.lead_over(from, term, lasts),
            ToPeer::Commands(commands) => self.commands_from_peer(from, None, commands),
            ToPeer::Held { view, commands } => self.commands_from_peer(from, Some(view), commands),
            ToPeer::View { id, seats } => self.view_came(from, id, seats),
            ToPeer::Tokens { view, parcel } => self.tokens_came(from, view, parcel),
            ToPeer::Parted { view, neighbour } => self.parted(from, view, neighbour),
            ToPeer::RenewNode { view, sent } => self.renew_node(from, view, sent),
            ToPeer::NodeLease { view, sent, lasts } => self.node_lease_came(from, view, sent, lasts),
            ToPeer::OpenSession { client, nonce } => self.open_session(client, nonce),
            ToPeer::Claim(session) => self.claim_from_peer(from, session),
            ToPeer::Claimed { session, applied } => self.claimed(session, applied),
            ToPeer::EndSession(session) => self.end_session(session),
            ToPeer::Copied { slice, instead_of, life } => self.copied_by(from, life, slice, instead_of),
            ToPeer::Spaces(spaces) => self.spaces_came(from, spaces),
            ToPeer::Ask { id, cred, query } => self.ask_from_peer(from, id, cred, query),
            ToPeer::Answer { id, reply } => self.answer_from_leader(id, reply),
            ToPeer::Replies(replies) => self.replies_from_leader(replies),
            ToPeer::Again(sessions) => self.again(&sessions),
            ToPeer::Report { sessions, space, applied, walked } => self.report(from, sessions, space, applied, walked),
            ToPeer::WhoHolds { round, inos } => self.ask_mounts_who_holds(round, inos),
            ToPeer::Holds { round, session, inos } => self.session_holds(round, session, &inos),
        }
    }

    fn tick(&mut self) {
        let gap = self.now.mono - self.last_tick;
        if gap > PAUSE_US {
            // This node slept: that it heard of nobody meanwhile says nothing about them.
            self.lead.slept(gap);
        }
        let ticks = (gap / TICK_US).min(TICKS_AT_ONCE);
        if ticks > 0 {
            self.last_tick = self.now.mono;
        }
        for _ in 0..ticks {
            self.raft_tick();
        }
        self.tick_join();
        self.tick_lead();
        self.copies.expire(self.now.mono);
        self.tick_tokens();
        self.tick_attach();
        self.store_now();
    }

    /// Answers questions beside the machine.
    pub fn reader(&self) -> Reader {
        Reader(self.shared.clone())
    }

    pub fn leads(&self) -> bool {
        self.is_leader()
    }

    fn send(&mut self, to: NodeId, message: ToPeer) {
        self.out.push(Output::Peer { to, message });
    }

    fn stop(&mut self, why: impl Into<String>) {
        self.out.push(Output::Stop(why.into()));
    }

    /// Reads what the machine keeps in memory of the state: at the start, and after a snapshot took its place.
    fn load_from_view(&mut self) -> Result<(), Unfit> {
        let unreadable = |_| Unfit::Damaged("the state store cannot be read".into());
        let view = self.shared.read();
        let version = version::spoken_in_force(&*view, self.config.speaks)?;
        let volume = view.get(&Key::Volume).map_err(unreadable)?;
        let sessions = view
            .range(&Key::Session(SessionId(0)), &Key::Session(SessionId(u64::MAX)), usize::MAX)
            .map_err(unreadable)?;
        drop(view);
        self.is_in_force(version);
        if let Some(Value::Volume(volume)) = volume {
            self.cluster = Some(volume.cluster).filter(|c| c.0 != 0);
        }
        self.sessions = sessions
            .into_iter()
            .filter_map(|(key, value)| match (key, value) {
                (Key::Session(id), Value::Session(session)) => Some((id, session)),
                _ => None,
            })
            .collect();
        if let Some(cluster) = self.cluster {
            self.out.push(Output::Cluster(cluster));
        }
        let listed = members::listed(&*self.shared.read()).map_err(unreadable)?;
        if let Some(members) = listed {
            self.members_are(members::among(members, &self.config));
        }
        Ok(())
    }

    /// Hands the state store what it does not have, if it is not busy.
    fn store_now(&mut self) {
        if self.storing.is_some() {
            return;
        }
        let mut view = self.shared.write();
        if view.fresh.is_empty() && self.applied.0 < self.raw.store().stored.0 + self.log_tail {
            return;
        }
        view.storing = Arc::new(std::mem::take(&mut view.fresh));
        drop(view);
        self.storing = Some(self.applied);
        self.handed_over = false;
        self.hand_over();
    }

    /// A state must never be newer than the log beside it: a leader may have applied what only the others have on disk yet.
    fn hand_over(&mut self) {
        if let Some((index, term)) = self.storing
            && !self.handed_over
            && index <= self.raw.raft.raft_log.persisted
        {
            self.handed_over = true;
            let changes = self.shared.read().storing.clone();
            let soon = self.raw.store().bytes() > LOG_BYTES_SOON;
            self.out.push(Output::Store { index, term, changes, soon });
        }
    }

    fn store_if_due(&mut self) {
        let (fresh, bytes) = (self.shared.read().fresh.len(), self.raw.store().bytes());
        if self.storing.is_none() && (fresh >= STORE_AT || (fresh > 0 && bytes > LOG_BYTES_SOON)) {
            self.store_now();
        }
    }

    fn stored(&mut self, index: u64) {
        if let Some(storing) = self.storing.filter(|s| s.0 == index) {
            self.storing = None;
            self.shared.write().storing = Changes::default();
            let log = self.raw.mut_store();
            log.stored = log.stored.max(storing);
        }
    }

    /// The log keeps what is not durable in the state store, and a tail for those who lag. A fetched state may be ahead of
    /// Raft, where the leader that offered it was deposed meanwhile: Raft still looks at what it did not hand out.
    fn checkpointed(&mut self, index: u64) {
        let index = index.min(self.raw.raft.raft_log.applied);
        let log = self.raw.mut_store();
        let tail = if log.bytes() > LOG_TAIL_BYTES { 0 } else { self.log_tail };
        if let Some((index, term)) = log.compact(index.saturating_sub(tail)) {
            self.out.push(Output::Compact { index, term });
        }
    }

    /// This node has made a copy of a slice, and the leader is to have it listed. If that gets lost, its shell finds the slice
    /// without this copy again.
    fn copied(&mut self, slice: SliceId, instead_of: Option<NodeId>) {
        if self.is_leader() {
            self.lead.queue.push(Item::Copied { slice, node: self.config.id, instead_of });
        } else if let Some(leader) = self.leader {
            self.send(leader, ToPeer::Copied { slice, instead_of, life: self.config.seed });
        }
    }

    /// What a node had on its disk in another life it may have lost with it.
    fn copied_by(&mut self, node: NodeId, life: u64, slice: SliceId, instead_of: Option<NodeId>) {
        if self.is_leader() && self.life_of(node) == Some(life) {
            self.lead.queue.push(Item::Copied { slice, node, instead_of });
        }
    }

    fn is_leader(&self) -> bool {
        self.raw.raft.state == raft::StateRole::Leader
    }
}

#[cfg(test)]
mod tests;
