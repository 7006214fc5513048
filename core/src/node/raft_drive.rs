//! Raft's readiness, turned into outputs in the order that makes it safe.
//!
//! A leader's messages go out at once, while its own disk still writes: that is sound because it counts itself only after
//! [`Input::Persisted`](super::Input::Persisted). Everybody else's wait for their own disk.

use super::io::{LogWrite, Output};
use super::lease::Promised;
use super::messages::ToPeer;
use super::version::Unfit;
use super::{ELECTION_TICKS, LOG_BYTES_TAKEN_MAX, NodeMachine, lease, members};
use crate::types::NodeId;
use raft::eraftpb::{Message, MessageType, Snapshot};
use raft::{GetEntriesContext, Ready, StateRole};
use std::collections::VecDeque;

/// A disk that takes longer for one write of the log is not one to lead with.
const HANGS_US: u64 = 2_000_000;

/// What waits for the disk, oldest first.
#[derive(Default)]
pub(super) struct Persisting {
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    number: u64,
    since: u64,
    /// Whether the disk has anything to do for it; without, it is done as soon as those before it are.
    writes: bool,
    /// The index of a snapshot that took the log's place.
    snapshot: Option<u64>,
    messages: Vec<Message>,
}

impl Persisting {
    /// The last of what waits now.
    pub(super) fn newest(&self) -> u64 {
        self.waiting.back().map_or(0, |waiting| waiting.number)
    }

    pub(super) fn has_all_up_to(&self, number: u64) -> bool {
        self.waiting.front().is_none_or(|first| first.number > number)
    }
}

impl NodeMachine {
    pub(super) fn drive_raft(&mut self) {
        while self.raw.has_ready() {
            let ready = self.raw.ready();
            self.handle_ready(ready);
            self.notice_leader();
            if self.is_leader() {
                self.let_in_waiting();
                self.propose_queued();
            }
        }
        self.pin_election_timeout();
    }

    fn handle_ready(&mut self, mut ready: Ready) {
        for message in ready.take_messages() {
            self.send_raft(message);
        }
        let number = ready.number();
        let mut write = LogWrite { number, ..LogWrite::default() };
        let mut snapshot = None;
        if *ready.snapshot() != Snapshot::default() {
            let meta = ready.snapshot().get_metadata();
            let at = (meta.index, meta.term);
            self.raw.mut_store().reset_to(at);
            snapshot = Some(meta.index);
            write.reset_to = Some(at);
            write.conf_state = Some(meta.get_conf_state().clone());
        }
        write.entries = ready.take_entries();
        self.about_to_keep(&write.entries);
        self.raw.mut_store().append(&write.entries);
        if let Some(hard_state) = ready.hs() {
            self.raw.mut_store().hard_state = hard_state.clone();
        }
        let writes = ready.must_sync();
        if writes {
            write.hard_state = Some(self.raw.store().hard_state.clone());
            self.out.push(Output::Persist(write));
        }
        let messages = ready.take_persisted_messages();
        match self.persisting.waiting.back_mut() {
            // Where a disk hangs these would be many.
            Some(last) if !last.writes && !writes && messages.is_empty() && snapshot.is_none() => last.number = number,
            _ => {
                self.persisting.waiting.push_back(Waiting { number, since: self.now.mono, writes, snapshot, messages })
            }
        }
        self.raw.advance_append_async(ready);
        self.settle_persisted(0);
        self.take_committed();
    }

    /// What is committed and was not taken before. Raft would hand it out only when this node's own disk has it too; a majority
    /// without this node is a majority.
    fn take_committed(&mut self) {
        let raft_log = &self.raw.raft.raft_log;
        let taken = self.deferred.last().map_or(self.applied.0, |e| e.index.max(self.applied.0));
        let committed = raft_log.committed.min(self.raw.store().last());
        if committed <= taken {
            return;
        }
        match raft_log.slice(taken + 1, committed + 1, None, GetEntriesContext::empty(false)) {
            Ok(entries) => self.apply_committed(entries),
            Err(why) => self.stop(format!("committed entries cannot be read: {why}")),
        }
    }

    /// Raft counts as applied only what is also persisted.
    pub(super) fn tell_applied(&mut self) {
        let raft_log = &self.raw.raft.raft_log;
        let applied = self.applied.0.min(raft_log.persisted).min(raft_log.committed);
        if applied > raft_log.applied {
            self.raw.advance_apply_to(applied);
        }
    }

    pub(super) fn persisted(&mut self, number: u64) {
        self.settle_persisted(number);
        self.settle_join();
    }

    /// Whether what was to be written a while ago still is not.
    pub(super) fn disk_hangs(&self) -> bool {
        let oldest = self.persisting.waiting.front().filter(|oldest| oldest.writes);
        oldest.is_some_and(|oldest| self.now.mono > oldest.since + HANGS_US)
    }

    /// Everything up to `number` is on disk, and so is what follows it without anything to write.
    fn settle_persisted(&mut self, number: u64) {
        let (mut reached, mut snapshot) = (0, None);
        while let Some(first) = self.persisting.waiting.front() {
            if first.number > number && first.writes {
                break;
            }
            let Some(done) = self.persisting.waiting.pop_front() else { break };
            reached = done.number;
            snapshot = done.snapshot.or(snapshot);
            for message in done.messages {
                self.send_raft(message);
            }
        }
        if reached > 0 {
            self.raw.on_persist_ready(reached);
            self.tell_applied();
        }
        if let Some(index) = snapshot
            && index > self.raw.raft.raft_log.applied
        {
            // Raft counts it as applied only when told so, and would look for the entries before it.
            self.raw.advance_apply_to(index);
        }
    }

    /// Raft joins appends without a limit to their size; the wire has one. So a long one goes out in pieces, each of which
    /// follows from the one before.
    fn send_raft(&mut self, mut message: Message) {
        while let Some(rest) = split_append(&mut message) {
            self.send(NodeId(message.to), ToPeer::Raft(Box::new(message)));
            message = rest;
        }
        self.send(NodeId(message.to), ToPeer::Raft(Box::new(message)));
    }

    /// Raft draws its election timeout from the system's randomness; ours, a function of the seed and the term, takes its
    /// place before any tick can see it. So two runs with one seed elect alike, and a split vote is not repeated.
    pub(super) fn pin_election_timeout(&mut self) {
        let drawn = ELECTION_TICKS as u64 + mixed(self.config.seed, self.raw.raft.term) % ELECTION_TICKS as u64;
        self.raw.raft.set_randomized_election_timeout(drawn as usize);
    }

    pub(super) fn raft_tick(&mut self) {
        let about_to_stand =
            !self.is_leader() && self.raw.raft.election_elapsed + 1 >= self.raw.raft.randomized_election_timeout();
        let installing = self.persisting.waiting.iter().any(|w| w.snapshot.is_some());
        // Between a snapshot's installation and its persistence Raft would look for entries that are not there any more.
        if about_to_stand && self.applied.0 < self.raw.raft.raft_log.committed {
            // It may be about who votes. A node that was just started has not taken it yet.
            return self.take_committed();
        }
        if about_to_stand && self.now.mono < self.stands_from {
            return;
        }
        // It could not even write down that it voted for itself.
        if about_to_stand && self.disk_hangs() {
            return;
        }
        if about_to_stand && (installing || !self.join.votes() || self.now.mono < self.promised_until) {
            return;
        }
        self.raw.tick();
    }

    /// A message of Raft's from a peer: only what a peer may say, and no vote against a promise.
    pub(super) fn step_raft(&mut self, from: NodeId, message: Box<Message>) {
        if message.from != from.0 || message.to != self.config.id.0 || !self.knows_its_terms() {
            return;
        }
        match message.get_msg_type() {
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => {
                if !self.join.votes() || self.now.mono < self.promised_until {
                    return;
                }
            }
            MessageType::MsgSnapshot => return self.snapshot_offered(from, message),
            // The answer would wait with all the others.
            MessageType::MsgHeartbeat if self.disk_hangs() => return,
            // Told to commit what it does not have, Raft would stop the process.
            MessageType::MsgHeartbeat if message.commit > self.raw.raft.raft_log.last_index() => return,
            MessageType::MsgAppend if !well_formed(&message) || !self.speaks_what_came(&message) => return,
            MessageType::MsgAppend if self.log_is_full() => return,
            MessageType::MsgAppend => self.append_came(&message),
            MessageType::MsgAppendResponse
            | MessageType::MsgHeartbeat
            | MessageType::MsgHeartbeatResponse
            | MessageType::MsgRequestVoteResponse
            | MessageType::MsgRequestPreVoteResponse => {}
            // The rest is for a node itself, or not used here.
            _ => return,
        }
        let _refused = self.raw.step(*message);
        self.drive_raft();
    }

    /// What comes is not taken while the log is large and a checkpoint would make it smaller: the leader sends it again.
    fn log_is_full(&self) -> bool {
        let log = self.raw.store();
        log.bytes() > LOG_BYTES_TAKEN_MAX && log.start_index() < self.applied.0
    }

    pub(super) fn peer_lost(&mut self, peer: NodeId) {
        self.raw.report_unreachable(peer.0);
        self.lost_edge_says_again(peer);
        if self.leader == Some(peer) {
            self.all_again();
        }
    }

    /// The leader beats: promise to elect nobody else for a while.
    pub(super) fn beat(&mut self, from: NodeId, term: u64, sent: u64) {
        if self.raw.raft.term != term || self.raw.raft.leader_id != from.0 || self.is_leader() {
            return;
        }
        self.promised_until = self.promised_until.max(self.now.mono + lease::PROMISE_US);
        self.raw.raft.election_elapsed = 0;
        let (life, hangs, speaks) = (self.config.seed, self.disk_hangs(), self.config.speaks.newest);
        self.send(from, ToPeer::Promise { term, sent, life, hangs, speaks });
        self.settle_join();
    }

    /// What a node whose disk hangs says for Raft waits for that disk. If all promise, nobody can lead better, and they count as
    /// heard; else Raft counts those that it hears itself, and another one may reach more.
    pub(super) fn promised(&mut self, from: NodeId, term: u64, promised: Promised) {
        self.lead.lease.promise(term, from, promised);
        if self.is_leader()
            && term == self.raw.raft.term
            && self.all_promise()
            && let Some(progress) = self.raw.raft.mut_prs().get_mut(from.0)
        {
            progress.recent_active = true;
        }
    }

    /// Nobody leads any more, and no promise to who did counts when what it gave out is over. Its own clock and this one's may
    /// run at different speeds.
    pub(super) fn lead_over(&mut self, from: NodeId, term: u64, lasts: u64) {
        if self.raw.raft.term != term || self.raw.raft.leader_id != from.0 || self.is_leader() {
            return;
        }
        let lasts = lasts.saturating_add(lasts / lease::CLOCK_MARGIN);
        self.promised_until = self.now.mono.saturating_add(lasts.min(2 * lease::PROMISE_US));
        // As if it had been silent long enough; but one stands after the other, or they would share the votes.
        let rank = self.voters.iter().filter(|voter| **voter < self.config.id).count() as u64 + term;
        let turn = rank % (self.voters.len() as u64).max(1);
        self.stands_from = self.promised_until.max(self.now.mono) + turn * APART_US;
        self.raw.raft.election_elapsed = self.raw.raft.randomized_election_timeout().max(ELECTION_TICKS);
    }

    fn notice_leader(&mut self) {
        let leader = Some(NodeId(self.raw.raft.leader_id)).filter(|id| id.0 != 0);
        let leading = self.raw.raft.state == StateRole::Leader;
        if leading && !self.lead.leading(self.raw.raft.term) {
            self.start_leading();
        } else if !leading {
            self.stop_leading();
        }
        if leader != self.leader {
            self.leader = leader;
            if leader.is_some() {
                self.all_again();
            }
        }
    }

    /// A leader offers a snapshot: the state itself is fetched first, from whoever offered it.
    fn snapshot_offered(&mut self, from: NodeId, message: Box<Message>) {
        if message.get_snapshot().get_metadata().index <= self.raw.raft.raft_log.committed {
            // It is here: the leader did not hear so.
            let _refused = self.raw.step(*message);
            return self.drive_raft();
        }
        if self.snapshot.is_none() && message.term >= self.raw.raft.term {
            self.snapshot = Some(message);
            self.out.push(Output::FetchSnapshot { from });
        }
    }

    pub(super) fn snapshot_fetched(&mut self, got: Option<(u64, u64)>) {
        let Some(mut message) = self.snapshot.take() else { return };
        let Some((index, term)) = got else { return self.apply_deferred() };
        // The state came as it was when it was fetched, which may be later than when it was offered.
        let meta = message.mut_snapshot().mut_metadata();
        meta.index = index;
        meta.term = term;
        if index > self.applied.0 {
            self.applied = (index, term);
            self.storing = None;
            {
                let mut view = self.shared.write();
                view.fresh.clear();
                view.storing = Default::default();
            }
            self.shared.has_applied((index, term));
            match self.load_from_view() {
                Ok(()) => {}
                Err(Unfit::Unspoken(unspoken)) => return self.out.push(Output::StopUnspoken(unspoken)),
                Err(Unfit::Damaged(why)) => return self.stop(why),
            }
            self.freeze_what_was_asked();
            self.settle_after_snapshot();
            self.checkpointed(index);
        }
        self.apply_deferred();
        message.mut_snapshot().mut_metadata().set_conf_state(members::conf_state(&self.members));
        let _refused = self.raw.step(*message);
        self.drive_raft();
    }
}

/// Between two who stand because nobody leads any more.
const APART_US: u64 = 200_000;
/// Bytes of entries in one message.
const APPEND_BYTES_MAX: usize = 2 << 20;

/// Cuts an append that is too long: the message keeps what fits, the rest is answered.
fn split_append(message: &mut Message) -> Option<Message> {
    let mut bytes = 0;
    let fits = message.entries.iter().take_while(|entry| {
        let first = bytes == 0;
        bytes += entry.data.len() + 64;
        first || bytes <= APPEND_BYTES_MAX
    });
    let fits = fits.count();
    if fits == message.entries.len() {
        return None;
    }
    let mut kept = std::mem::take(&mut message.entries).into_vec();
    let left = kept.split_off(fits);
    let last = kept.last()?;
    let mut rest = message.clone();
    rest.index = last.index;
    rest.log_term = last.term;
    rest.entries = left.into();
    message.entries = kept.into();
    Some(rest)
}

/// Entries that follow each other, from the index that the message names.
fn well_formed(message: &Message) -> bool {
    message.entries.iter().zip(message.index + 1..).all(|(entry, index)| entry.index == index)
}

fn mixed(seed: u64, term: u64) -> u64 {
    let mut x = seed ^ term.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
