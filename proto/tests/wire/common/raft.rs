use super::{blob, id};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use raft::eraftpb::{ConfState, Entry, EntryType, Message, MessageType, Snapshot, SnapshotMetadata};

fn entry() -> impl Strategy<Value = Entry> {
    let kind = select(vec![EntryType::EntryNormal, EntryType::EntryConfChange, EntryType::EntryConfChangeV2]);
    (kind, any::<[u64; 2]>(), blob(0, 200), blob(0, 20), any::<bool>()).prop_map(
        |(kind, [term, index], data, context, sync_log)| {
            let mut entry = Entry::default();
            entry.set_entry_type(kind);
            (entry.term, entry.index) = (term, index);
            (entry.data, entry.context) = (data, context);
            entry.sync_log = sync_log;
            entry
        },
    )
}

fn conf_state() -> impl Strategy<Value = ConfState> {
    let nodes = || vec(id(), 0..5);
    (nodes(), nodes(), nodes(), nodes(), any::<bool>()).prop_map(|(voters, learners, outgoing, next, leave)| {
        let mut state = ConfState::default();
        (state.voters, state.learners) = (voters, learners);
        (state.voters_outgoing, state.learners_next) = (outgoing, next);
        state.auto_leave = leave;
        state
    })
}

fn perhaps<T: Clone + std::fmt::Debug>(
    surely: bool,
    what: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<T>> {
    (any::<bool>(), what).prop_map(move |(there, what)| (there || surely).then_some(what))
}

fn snapshot(whole: bool) -> impl Strategy<Value = Snapshot> {
    let about = (perhaps(whole, conf_state()), any::<[u64; 2]>()).prop_map(|(state, [index, term])| SnapshotMetadata {
        conf_state: state.into(),
        index,
        term,
        ..SnapshotMetadata::default()
    });
    (perhaps(whole, about), blob(0, 200)).prop_map(|(about, data)| Snapshot {
        metadata: about.into(),
        data,
        ..Snapshot::default()
    })
}

fn travelling_type() -> impl Strategy<Value = MessageType> {
    use MessageType::*;
    select(vec![
        MsgPropose,
        MsgAppendResponse,
        MsgRequestVote,
        MsgRequestVoteResponse,
        MsgHeartbeat,
        MsgHeartbeatResponse,
        MsgTransferLeader,
        MsgTimeoutNow,
        MsgReadIndex,
        MsgReadIndexResp,
        MsgRequestPreVote,
        MsgRequestPreVoteResponse,
    ])
}

/// Every field filled in, whatever the type.
fn any_message() -> impl Strategy<Value = Message> {
    let head = (travelling_type(), id(), id(), any::<[u64; 8]>());
    let rest = (any::<bool>(), blob(0, 50), any::<i64>());
    (head, vec(entry(), 0..4), option::of(snapshot(false)), rest).prop_map(
        |((kind, to, from, numbers), entries, snapshot, (reject, context, priority))| {
            let mut message = Message::default();
            message.set_msg_type(kind);
            (message.to, message.from) = (to, from);
            [
                message.term,
                message.log_term,
                message.index,
                message.commit,
                message.commit_term,
                message.request_snapshot,
                message.reject_hint,
                message.deprecated_priority,
            ] = numbers;
            message.set_entries(entries.into());
            message.snapshot = snapshot.into();
            (message.reject, message.context, message.priority) = (reject, context, priority);
            message
        },
    )
}

fn append() -> impl Strategy<Value = Message> {
    let place = (0..u64::MAX / 2, 0..100u64);
    (any_message(), place, vec((entry(), 0..3u64), 0..5)).prop_map(|(mut message, (index, term), tail)| {
        message.set_msg_type(MessageType::MsgAppend);
        (message.index, message.log_term) = (index, term);
        let (mut index, mut term) = (index, term);
        let mut entries = Vec::new();
        for (mut entry, later) in tail {
            (index, term) = (index + 1, term + later);
            (entry.index, entry.term) = (index, term);
            entries.push(entry);
        }
        message.term = term;
        message.set_entries(entries.into());
        message
    })
}

/// Any message that raft lets travel.
pub(crate) fn raft_message() -> impl Strategy<Value = Message> {
    let sends_state = (any_message(), snapshot(true)).prop_map(|(mut message, snapshot)| {
        message.set_msg_type(MessageType::MsgSnapshot);
        message.set_snapshot(snapshot);
        message
    });
    prop_oneof![any_message(), append(), sends_state]
}
