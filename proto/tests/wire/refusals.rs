//! Each bound at its edge: what just fits is accepted, what is just beyond is refused with the field's name.

use crate::common;
use baton_core::limits::*;
use baton_core::meta::ops::*;
use baton_core::meta::{Answer, Layout, Op, Piece, PieceSource, Query};
use baton_core::node::ToPeer;
use baton_core::session::{Command, Reply, ToMount, ToNode};
use baton_core::types::*;
use baton_proto::*;
use bytes::Bytes;
use proptest::prelude::*;

const DIR: Ino = Ino(1);

fn command(op: impl Into<Op>) -> Command {
    Command { session: SessionId(1), number: 1, acked: 0, cred: Cred::ROOT, op: op.into() }
}

fn wire_command(op: impl Into<Op>) -> v1::Command {
    command(op).into()
}

/// The field that a command with this operation is refused for, if it is.
fn refused(op: impl Into<Op>) -> Option<String> {
    Command::try_from(wire_command(op)).err().map(|bad| bad.field)
}

fn asked(query: impl Into<Query>) -> Option<String> {
    let ask = ToNode::Ask { id: 1, cred: Cred::ROOT, query: query.into(), keep: false };
    ToNode::try_from(v1::ToNode::from(ask)).err().map(|bad| bad.field)
}

fn answered(answer: Answer) -> Option<String> {
    Reply::try_from(v1::Reply::from(Reply::Done(answer))).err().map(|bad| bad.field)
}

fn at(field: &str) -> Option<String> {
    Some(field.to_owned())
}

fn name() -> Name {
    Name::new(b"n").unwrap()
}

fn zeros(len: usize) -> Bytes {
    vec![0; len].into()
}

#[test]
fn inline_data() {
    let write = |len| Write { ino: DIR, at: WriteAt::End, data: WriteData::Inline(zeros(len)), kill_suid: false };
    assert_eq!(refused(write(INLINE_WRITE_MAX)), None);
    assert_eq!(refused(write(INLINE_WRITE_MAX + 1)), at("op.Write.data.inline"));
}

#[test]
fn slices_of_a_write() {
    let write = |len: usize, nodes: usize| {
        let id = SliceId { session: SessionId(1), number: 0 };
        let slice = SliceRef { id, len: len as u32, nodes: vec![NodeId(1); nodes] };
        Write { ino: DIR, at: WriteAt::Offset(0), data: WriteData::Slice(slice), kill_suid: false }
    };
    assert_eq!(refused(write(1, 1)), None);
    assert_eq!(refused(write(SLICE_MAX, SLICE_NODES_MAX)), None);
    assert_eq!(refused(write(0, 1)), at("op.Write.data.slice.len"));
    assert_eq!(refused(write(SLICE_MAX + 1, 1)), at("op.Write.data.slice.len"));
    assert_eq!(refused(write(1, 0)), at("op.Write.data.slice.nodes"));
    assert_eq!(refused(write(1, SLICE_NODES_MAX + 1)), at("op.Write.data.slice.nodes"));
}

#[test]
fn symlink_targets() {
    let link = |target: &[u8]| Symlink { dir: DIR, name: name(), target: Bytes::copy_from_slice(target) };
    assert_eq!(refused(link(&[b'a'; SYMLINK_MAX])), None);
    assert_eq!(refused(link(&[b'a'; SYMLINK_MAX + 1])), at("op.Symlink.target"));
    assert_eq!(refused(link(b"")), at("op.Symlink.target"));
    assert_eq!(refused(link(b"a\0b")), at("op.Symlink.target"));
    assert_eq!(answered(Answer::Target(Bytes::new())), at("done.target"));
}

#[test]
fn attribute_values() {
    let set = |len| {
        let name = XattrName::new(b"user.a").unwrap();
        SetXattr { ino: DIR, name, value: zeros(len), how: XattrHow::Either }
    };
    assert_eq!(refused(set(XATTR_VALUE_MAX)), None);
    assert_eq!(refused(set(XATTR_VALUE_MAX + 1)), at("op.SetXattr.value"));
    assert_eq!(answered(Answer::Xattr(zeros(XATTR_VALUE_MAX + 1))), at("done.xattr"));
    assert_eq!(answered(Answer::XattrNames(zeros(XATTR_LIST_MAX + 1))), at("done.xattr_names"));
}

#[test]
fn modes_and_times() {
    let mkdir = |mode| Mkdir { dir: DIR, name: name(), mode };
    assert_eq!(refused(mkdir(0o7777)), None);
    assert_eq!(refused(mkdir(0o10000)), at("op.Mkdir.mode"));

    let touch = |nanos| SetAttr {
        ino: DIR,
        mode: None,
        uid: None,
        gid: None,
        size: None,
        atime: Some(SetTime::At(Stamp { secs: -1, nanos })),
        mtime: None,
        opened: false,
    };
    assert_eq!(refused(touch(999_999_999)), None);
    assert_eq!(refused(touch(1_000_000_000)), at("op.SetAttr.atime.at.nanos"));
}

#[test]
fn reads_and_listings() {
    let read = |len| ReadLayout { ino: DIR, offset: 0, len };
    assert_eq!(asked(read(READ_MAX)), None);
    assert_eq!(asked(read(READ_MAX + 1)), at("ask.query.ReadLayout.len"));
    let list = |max: usize| ReadDir { ino: DIR, after: Cookie(0), max: max as u32, attrs: true };
    assert_eq!(asked(list(LISTING_MAX)), None);
    assert_eq!(asked(list(LISTING_MAX + 1)), at("ask.query.ReadDir.max"));
}

#[test]
fn layouts_hold_what_they_say() {
    let layout = |pieces| Answer::Layout(Layout { size: 9, content: Version(1), pieces });
    let piece = |len, source| Piece { len, source };
    let slice = |at| PieceSource::Slice { id: SliceId { session: SessionId(1), number: 1 }, at, nodes: vec![] };
    let pieces = |n| layout(vec![piece(1, PieceSource::Zeros); n]);
    assert_eq!(answered(pieces(LAYOUT_EXTENTS_MAX)), None);
    assert_eq!(answered(pieces(LAYOUT_EXTENTS_MAX + 1)), at("done.layout.pieces"));
    assert_eq!(answered(layout(vec![piece(3, PieceSource::Inline(zeros(3)))])), None);
    assert_eq!(answered(layout(vec![piece(4, PieceSource::Inline(zeros(3)))])), at("done.layout.pieces[0].inline"));
    assert_eq!(answered(layout(vec![piece(SLICE_MAX as u64 - 5, slice(5))])), None);
    assert_eq!(answered(layout(vec![piece(SLICE_MAX as u64 - 4, slice(5))])), at("done.layout.pieces[0].len"));
    assert_eq!(answered(layout(vec![piece(1, slice(u32::MAX))])), at("done.layout.pieces[0].len"));
}

#[test]
fn callers_and_clients() {
    let mut wire = wire_command(Unlink { dir: DIR, name: name() });
    let mut with_groups = |n| {
        wire.cred = Some(Cred { uid: 1, gid: 1, groups: Some(vec![7; n]) }.into());
        Command::try_from(wire.clone()).err().map(|bad| bad.field)
    };
    assert_eq!(with_groups(GROUPS_MAX), None);
    assert_eq!(with_groups(GROUPS_MAX + 1), at("cred.groups"));

    let hello = |len| ToNode::Hello { session: None, client: "c".repeat(len), nonce: 1, link: 1 };
    assert!(ToNode::try_from(v1::ToNode::from(hello(CLIENT_MAX))).is_ok());
    assert_eq!(ToNode::try_from(v1::ToNode::from(hello(CLIENT_MAX + 1))).unwrap_err().field, "client");
}

#[test]
fn a_list_of_commands_is_as_long_as_the_window() {
    let list = |n| vec![command(Unlink { dir: DIR, name: name() }); n];
    for (n, good) in [(SESSION_WINDOW, true), (SESSION_WINDOW + 1, false)] {
        assert_eq!(ToNode::try_from(v1::ToNode::from(ToNode::Commands(list(n)))).is_ok(), good);
        assert_eq!(ToPeer::try_from(v1::ToPeer::from(ToPeer::Commands(list(n)))).is_ok(), good);
    }
}

#[test]
fn what_names_nothing() {
    assert_eq!(refused(Unlink { dir: Ino(0), name: name() }), at("op.Unlink.dir"));
    let mut wire = wire_command(Unlink { dir: DIR, name: name() });
    wire.number = 0;
    assert_eq!(Command::try_from(wire.clone()).unwrap_err(), bad("number", Why::Zero));
    wire.op = Some(v1::command::Op::Unlink(v1::Unlink { dir: 1, name: Bytes::from_static(b"..") }));
    assert_eq!(Command::try_from(wire.clone()).unwrap_err(), bad("op.Unlink.name", Why::Name(BadName::Dots)));
    wire.op = None;
    assert_eq!(Command::try_from(wire).unwrap_err(), bad("op", Why::Missing));
    let welcome = ToMount::Welcome { session: SessionId(0), nonce: 7, last: 0, node: NodeId(1) };
    assert_eq!(ToMount::try_from(v1::ToMount::from(welcome)).unwrap_err(), bad("welcome.session", Why::Zero));
}

fn bad(field: &str, why: Why) -> BadMessage {
    BadMessage { field: field.to_owned(), why }
}

#[test]
fn an_enum_that_was_left_out_or_is_not_known_is_never_guessed() {
    for number in [0, 99, -1] {
        let mut wire = wire_command(Mkdir { dir: DIR, name: name(), mode: 0 });
        let name = Bytes::from_static(b"n");
        wire.op = Some(v1::command::Op::Mknod(v1::Mknod { dir: 1, name, kind: number, mode: 0, rdev: 0 }));
        assert_eq!(Command::try_from(wire).unwrap_err(), bad("op.Mknod.kind", Why::Unknown(number)));
        let failed = v1::Reply { is: Some(v1::reply::Is::Failed(number)) };
        assert_eq!(Reply::try_from(failed).unwrap_err(), bad("failed", Why::Unknown(number)));
    }
}

#[test]
fn a_newer_mount_is_told_so() {
    let hello = |wire_oldest, wire_version| v1::ToNode {
        is: Some(v1::to_node::Is::Hello(v1::to_node::Hello {
            session: None,
            client: "c".into(),
            nonce: 1,
            wire_version,
            wire_oldest,
            link: 1,
        })),
    };
    assert!(ToNode::try_from(hello(WIRE_OLDEST, WIRE_VERSION)).is_ok());
    assert!(ToNode::try_from(hello(WIRE_VERSION, WIRE_VERSION + 1)).is_ok());
    let newer = Why::Newer { theirs: WIRE_VERSION + 1, ours: WIRE_VERSION };
    assert_eq!(ToNode::try_from(hello(0, WIRE_VERSION + 1)).unwrap_err(), bad("wire_version", newer));
    let older = Why::Older { theirs: WIRE_OLDEST - 1, ours: WIRE_OLDEST };
    assert_eq!(ToNode::try_from(hello(0, WIRE_OLDEST - 1)).unwrap_err(), bad("wire_version", older));
    assert!(ToNode::try_from(hello(0, 0)).is_err());
}

#[test]
fn ranges_of_slices() {
    let id = Some(v1::SliceId { session: 1, number: 1 });
    let get = |at, len| GetSlice::try_from(v1::GetSlice { id, at, len, nodes: vec![] }).is_ok();
    assert!(get(0, SLICE_MAX as u32));
    assert!(!get(1, SLICE_MAX as u32));
    assert!(!get(0, 0));
    assert!(!get(u32::MAX, 1));
    let put = |len| PutSlice::try_from(v1::PutSlice { id, data: zeros(len), replica_only: false }).is_ok();
    assert!(put(1) && put(SLICE_MAX));
    assert!(!put(0) && !put(SLICE_MAX + 1));
    // What belongs to no session comes from nodes alone.
    let id = Some(v1::SliceId { session: 0, number: 1 });
    let put = |replica_only| PutSlice::try_from(v1::PutSlice { id, data: zeros(1), replica_only }).is_ok();
    assert!(put(true) && !put(false));
    assert!(GetSlice::try_from(v1::GetSlice { id, at: 0, len: 1, nodes: vec![] }).is_ok());
    let slice = v1::SliceRef { id, len: 1, nodes: vec![1] };
    let write = |slice| v1::Write {
        ino: 2,
        at: Some(v1::write::At::Offset(0)),
        data: Some(v1::write::Data::Slice(slice)),
        kill_suid: false,
    };
    let of_a_session = v1::SliceRef { id: Some(v1::SliceId { session: 1, number: 1 }), ..slice.clone() };
    assert!(Write::try_from(write(of_a_session)).is_ok() && Write::try_from(write(slice)).is_err());
}

mod raft_messages {
    use super::*;
    use ::raft::eraftpb::{Entry, Message, MessageType};

    fn message(kind: MessageType, entries: &[(u64, u64)]) -> Message {
        let mut message = Message::default();
        message.set_msg_type(kind);
        (message.to, message.from, message.term) = (1, 2, 5);
        (message.index, message.log_term) = (10, 3);
        let entry = |&(index, term): &(u64, u64)| Entry { index, term, ..Entry::default() };
        message.set_entries(entries.iter().map(entry).collect::<Vec<_>>().into());
        message
    }

    fn accepted(message: Message) -> bool {
        Message::try_from(v1::RaftMessage::from(message)).is_ok()
    }

    #[test]
    fn what_a_machine_says_to_itself_never_arrives() {
        use MessageType::*;
        for kind in [MsgHup, MsgBeat, MsgUnreachable, MsgSnapStatus, MsgCheckQuorum] {
            assert!(!accepted(message(kind, &[])));
        }
        assert!(accepted(message(MsgHeartbeat, &[])));
    }

    #[test]
    fn appended_entries_follow_each_other() {
        let append = |entries: &[(u64, u64)]| accepted(message(MessageType::MsgAppend, entries));
        assert!(append(&[]));
        assert!(append(&[(11, 3), (12, 5)]));
        assert!(!append(&[(12, 3)]), "a gap in front");
        assert!(!append(&[(11, 3), (13, 3)]), "a gap");
        assert!(!append(&[(11, 4), (12, 3)]), "a term that falls");
        assert!(!append(&[(11, 6)]), "a term above the message's");
        let mut last = message(MessageType::MsgAppend, &[(0, 5)]);
        last.index = u64::MAX;
        assert!(!accepted(last), "no index after the last");
    }

    #[test]
    fn both_ends_are_named_and_a_snapshot_says_what_it_is() {
        let mut nobody = message(MessageType::MsgHeartbeat, &[]);
        nobody.from = 0;
        assert!(!accepted(nobody));
        assert!(!accepted(message(MessageType::MsgSnapshot, &[])));
    }
}

proptest! {
    #[test]
    fn the_clusters_own_operations_are_refused_from_everyone(op in common::own_op()) {
        let list = vec![command(op.clone())];
        let refusal = |bad: BadMessage| (bad.why, bad.field);
        let expected = (Why::ClusterOnly, format!("commands[0].{}", op.name()));
        let mount = ToNode::try_from(v1::ToNode::from(ToNode::Commands(list.clone())));
        prop_assert_eq!(mount.map_err(refusal), Err(expected.clone()));
        let peer = ToPeer::try_from(v1::ToPeer::from(ToPeer::Commands(list)));
        prop_assert_eq!(peer.map_err(refusal), Err(expected));
    }

    #[test]
    fn commands_are_cut_to_fit(commands in proptest::collection::vec(common::command(), 0..20)) {
        let lists = in_messages(commands.clone());
        prop_assert_eq!(lists.concat(), commands);
    }
}

#[test]
fn a_window_full_of_data_is_cut_into_messages_that_fit() {
    use prost::Message;
    let groups = Some(vec![u32::MAX; GROUPS_MAX]);
    let data = WriteData::Inline(zeros(INLINE_WRITE_MAX));
    let mut write = command(Write { ino: DIR, at: WriteAt::End, data, kill_suid: false });
    write.cred.groups = groups;
    let commands: Vec<Command> =
        (1..=SESSION_WINDOW as u64).map(|number| Command { number, ..write.clone() }).collect();
    let lists = in_messages(commands.clone());
    assert!(lists.len() > 1);
    for list in &lists {
        let bytes = v1::ToNode::from(ToNode::Commands(list.clone())).encoded_len();
        assert!(bytes <= MESSAGE_MAX, "{bytes}");
        assert!(bytes > MESSAGE_MAX / 2 || list == lists.last().unwrap(), "messages are filled: {bytes}");
    }
    assert_eq!(lists.concat(), commands);
}
