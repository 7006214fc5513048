//! Raft's messages. An entry's data passes through as the bytes it is: what stands in it is for the state machine to read.
//!
//! The raft crate takes much of what it is told for granted and stops the process where it finds a contradiction. So what
//! can be checked without its state is checked here: that both ends are named, that no message arrives which a machine
//! only says to itself, and that the entries of an append follow each other.

use crate::bad::{BadMessage, Why};
use crate::field::{Field, Message as IsMessage, enums, need};
use crate::v1;
use ::raft::eraftpb::{ConfState, Entry, EntryType, Message, MessageType, Snapshot, SnapshotMetadata};
use baton_core::types::NodeId;

enums! {
    EntryType = v1::RaftEntryType { EntryNormal, EntryConfChange, EntryConfChangeV2 }
    MessageType = v1::RaftMessageType {
        MsgHup, MsgBeat, MsgPropose, MsgAppend, MsgAppendResponse, MsgRequestVote, MsgRequestVoteResponse, MsgSnapshot,
        MsgHeartbeat, MsgHeartbeatResponse, MsgUnreachable, MsgSnapStatus, MsgCheckQuorum, MsgTransferLeader,
        MsgTimeoutNow, MsgReadIndex, MsgReadIndexResp, MsgRequestPreVote, MsgRequestPreVoteResponse,
    }
}

/// Checks a list of nodes and leaves it as raft has it: numbers.
fn nodes(ids: Vec<u64>, field: &str) -> Result<Vec<u64>, BadMessage> {
    if ids.contains(&0) { Err(Why::Zero.at(field)) } else { Ok(ids) }
}

impl From<Entry> for v1::RaftEntry {
    fn from(entry: Entry) -> Self {
        Self {
            entry_type: entry.entry_type.into_wire(),
            term: entry.term,
            index: entry.index,
            data: entry.data,
            context: entry.context,
            sync_log: entry.sync_log,
        }
    }
}

impl TryFrom<v1::RaftEntry> for Entry {
    type Error = BadMessage;
    fn try_from(wire: v1::RaftEntry) -> Result<Entry, BadMessage> {
        Ok(Entry {
            entry_type: need(wire.entry_type, "entry_type")?,
            term: wire.term,
            index: wire.index,
            data: wire.data,
            context: wire.context,
            sync_log: wire.sync_log,
            ..Entry::default()
        })
    }
}

impl From<ConfState> for v1::RaftConfState {
    fn from(state: ConfState) -> Self {
        Self {
            voters: state.voters,
            learners: state.learners,
            voters_outgoing: state.voters_outgoing,
            learners_next: state.learners_next,
            auto_leave: state.auto_leave,
        }
    }
}

impl TryFrom<v1::RaftConfState> for ConfState {
    type Error = BadMessage;
    fn try_from(wire: v1::RaftConfState) -> Result<ConfState, BadMessage> {
        Ok(ConfState {
            voters: nodes(wire.voters, "voters")?,
            learners: nodes(wire.learners, "learners")?,
            voters_outgoing: nodes(wire.voters_outgoing, "voters_outgoing")?,
            learners_next: nodes(wire.learners_next, "learners_next")?,
            auto_leave: wire.auto_leave,
            ..ConfState::default()
        })
    }
}

impl From<SnapshotMetadata> for v1::RaftSnapshotMetadata {
    fn from(mut about: SnapshotMetadata) -> Self {
        Self { conf_state: about.conf_state.take().into_wire(), index: about.index, term: about.term }
    }
}

impl TryFrom<v1::RaftSnapshotMetadata> for SnapshotMetadata {
    type Error = BadMessage;
    fn try_from(wire: v1::RaftSnapshotMetadata) -> Result<SnapshotMetadata, BadMessage> {
        let conf_state: Option<ConfState> = need(wire.conf_state, "conf_state")?;
        let conf_state = conf_state.into();
        Ok(SnapshotMetadata { conf_state, index: wire.index, term: wire.term, ..SnapshotMetadata::default() })
    }
}

impl From<Snapshot> for v1::RaftSnapshot {
    fn from(mut snapshot: Snapshot) -> Self {
        Self { metadata: snapshot.metadata.take().into_wire(), data: snapshot.data }
    }
}

impl TryFrom<v1::RaftSnapshot> for Snapshot {
    type Error = BadMessage;
    fn try_from(wire: v1::RaftSnapshot) -> Result<Snapshot, BadMessage> {
        let metadata: Option<SnapshotMetadata> = need(wire.metadata, "metadata")?;
        Ok(Snapshot { data: wire.data, metadata: metadata.into(), ..Snapshot::default() })
    }
}

impl From<Message> for v1::RaftMessage {
    fn from(mut message: Message) -> Self {
        Self {
            msg_type: message.msg_type.into_wire(),
            to: message.to,
            from: message.from,
            term: message.term,
            log_term: message.log_term,
            index: message.index,
            entries: message.take_entries().into_vec().into_wire(),
            commit: message.commit,
            commit_term: message.commit_term,
            snapshot: message.snapshot.take().into_wire(),
            request_snapshot: message.request_snapshot,
            reject: message.reject,
            reject_hint: message.reject_hint,
            context: message.context,
            deprecated_priority: message.deprecated_priority,
            priority: message.priority,
        }
    }
}

impl TryFrom<v1::RaftMessage> for Message {
    type Error = BadMessage;
    fn try_from(wire: v1::RaftMessage) -> Result<Message, BadMessage> {
        let entries: Vec<Entry> = need(wire.entries, "entries")?;
        let snapshot: Option<Snapshot> = need(wire.snapshot, "snapshot")?;
        let from: NodeId = need(wire.from, "from")?;
        let to: NodeId = need(wire.to, "to")?;
        let message = Message {
            msg_type: need(wire.msg_type, "msg_type")?,
            to: to.0,
            from: from.0,
            term: wire.term,
            log_term: wire.log_term,
            index: wire.index,
            entries: entries.into(),
            commit: wire.commit,
            commit_term: wire.commit_term,
            snapshot: snapshot.into(),
            request_snapshot: wire.request_snapshot,
            reject: wire.reject,
            reject_hint: wire.reject_hint,
            context: wire.context,
            deprecated_priority: wire.deprecated_priority,
            priority: wire.priority,
            ..Message::default()
        };
        may_travel(&message)?;
        Ok(message)
    }
}

impl IsMessage for Entry {
    type Wire = v1::RaftEntry;
}
impl IsMessage for ConfState {
    type Wire = v1::RaftConfState;
}
impl IsMessage for SnapshotMetadata {
    type Wire = v1::RaftSnapshotMetadata;
}
impl IsMessage for Snapshot {
    type Wire = v1::RaftSnapshot;
}
impl IsMessage for Message {
    type Wire = v1::RaftMessage;
}

fn may_travel(message: &Message) -> Result<(), BadMessage> {
    match message.msg_type {
        kind if ::raft::raw_node::is_local_msg(kind) => Err(Why::Local.at("msg_type")),
        MessageType::MsgAppend => entries_follow(message),
        MessageType::MsgSnapshot => snapshot_says_what_it_is(message),
        _ => Ok(()),
    }
}

/// An append's entries stand right behind `index`, one after the other, in terms that never fall.
fn entries_follow(message: &Message) -> Result<(), BadMessage> {
    let (mut index, mut term) = (message.index, message.log_term);
    for entry in message.entries.iter() {
        if index.checked_add(1) != Some(entry.index) {
            return Err(Why::Order("the indexes have a gap").at("entries"));
        }
        if entry.term < term || entry.term > message.term {
            return Err(Why::Order("the terms fall, or are above the message's own").at("entries"));
        }
        (index, term) = (entry.index, entry.term);
    }
    Ok(())
}

fn snapshot_says_what_it_is(message: &Message) -> Result<(), BadMessage> {
    let about = message.snapshot.as_ref().and_then(|snapshot| snapshot.metadata.as_ref());
    match about {
        Some(about) if about.conf_state.is_some() => Ok(()),
        _ => Err(Why::Missing.at("snapshot.metadata.conf_state")),
    }
}
