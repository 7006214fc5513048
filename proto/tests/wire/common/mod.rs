//! Any legal message of the core, for the property tests.

mod ops;
mod raft;

pub(crate) use ops::{cred, op, own_op, query};
pub(crate) use raft::raft_message;

use baton_core::meta::locks::InTheWay;
use baton_core::meta::{Answer, DirEntry, Entry, Fact, Key, Layout, Piece, PieceSource, Record, StatFs, Value};
use baton_core::node::{Fetching, Parcel, Seat, Space, ToPeer, ViewId, Walked};
use baton_core::session::{Command, Reply, ToMount, ToNode};
use baton_core::token::{self, Grant, Mode, Say};
use baton_core::types::*;
use baton_proto::{GetSlice, PeerFrame, PeerHello, PeerRefusal, PutSlice, Refusal, SliceFailure, SliceProblem};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

pub(crate) fn id() -> impl Strategy<Value = u64> {
    prop_oneof![1..10u64, 1..=u64::MAX]
}

pub(crate) fn ino() -> impl Strategy<Value = Ino> {
    id().prop_map(Ino)
}

pub(crate) fn node() -> impl Strategy<Value = NodeId> {
    id().prop_map(NodeId)
}

pub(crate) fn session() -> impl Strategy<Value = SessionId> {
    id().prop_map(SessionId)
}

fn view() -> impl Strategy<Value = ViewId> {
    any::<[u64; 2]>().prop_map(|[term, number]| ViewId { term, number })
}

fn seat() -> impl Strategy<Value = Seat> {
    (node(), any::<u64>()).prop_map(|(parent, life)| Seat { parent, life })
}

fn token() -> impl Strategy<Value = token::Message> {
    let grant = any::<[u64; 2]>().prop_map(|[serial, stamp]| Grant { serial, stamp });
    let say = prop_oneof![
        Just(Say::Want(Mode::Shared)),
        Just(Say::Want(Mode::Exclusive)),
        grant.clone().prop_map(Say::Copy),
        grant.prop_map(Say::Token),
        Just(Say::Recall),
        any::<u64>().prop_map(|serial| Say::Recalled { serial }),
        any::<u64>().prop_map(|serial| Say::Dropped { serial }),
    ];
    (ino(), say).prop_map(|(object, say)| token::Message { object, say })
}

pub(crate) fn nodes(least: usize) -> impl Strategy<Value = Vec<NodeId>> {
    vec(node(), least..5)
}

pub(crate) fn slice_id() -> impl Strategy<Value = SliceId> {
    (session(), any::<u64>()).prop_map(|(session, number)| SliceId { session, number })
}

/// One that the nodes may speak of to each other.
pub(crate) fn any_slice_id() -> impl Strategy<Value = SliceId> {
    prop_oneof![slice_id(), any::<u64>().prop_map(|number| SliceId { session: SessionId::CLUSTER, number })]
}

pub(crate) fn blob(least: usize, max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), least..=max).prop_map(Bytes::from)
}

pub(crate) fn name() -> impl Strategy<Value = Name> {
    vec(any::<u8>(), 1..=255).prop_filter_map("a name", |bytes| Name::new(&bytes).ok()).boxed().prop_union(plain_name())
}

fn plain_name() -> BoxedStrategy<Name> {
    vec(b'a'..=b'z', 1..=255).prop_map(|bytes| Name::new(&bytes).unwrap()).boxed()
}

pub(crate) fn stamp() -> impl Strategy<Value = Stamp> {
    (any::<i64>(), 0..1_000_000_000u32).prop_map(|(secs, nanos)| Stamp { secs, nanos })
}

pub(crate) fn kind() -> impl Strategy<Value = Kind> {
    use Kind::*;
    prop::sample::select(vec![File, Directory, Symlink, Fifo, Socket, CharDevice, BlockDevice])
}

pub(crate) fn mode() -> impl Strategy<Value = u16> {
    0..=0o7777u16
}

pub(crate) fn attr() -> impl Strategy<Value = Attr> {
    let who = (ino(), kind(), mode(), any::<[u32; 4]>());
    let when = (stamp(), stamp(), stamp(), stamp());
    (who, any::<[u64; 4]>(), when).prop_map(
        |(
            (ino, kind, mode, [nlink, uid, gid, rdev]),
            [size, allocated, version, content],
            (atime, mtime, ctime, btime),
        )| {
            let (version, content) = (Version(version), Version(content));
            Attr {
                ino,
                kind,
                mode,
                nlink,
                uid,
                gid,
                rdev,
                size,
                allocated,
                atime,
                mtime,
                ctime,
                btime,
                version,
                content,
            }
        },
    )
}

fn entry() -> impl Strategy<Value = DirEntry> {
    (3..=u64::MAX, name(), ino(), kind(), option::of(attr())).prop_map(|(cookie, name, ino, kind, attr)| DirEntry {
        cookie: Cookie(cookie),
        name,
        ino,
        kind,
        attr,
    })
}

fn piece() -> impl Strategy<Value = Piece> {
    let slice = (any_slice_id(), 0..1000u32, nodes(0), 0..4_000_000u64);
    prop_oneof![
        any::<u64>().prop_map(|len| Piece { len, source: PieceSource::Zeros }),
        blob(0, 100).prop_map(|bytes| Piece { len: bytes.len() as u64, source: PieceSource::Inline(bytes) }),
        slice.prop_map(|(id, at, nodes, len)| Piece { len, source: PieceSource::Slice { id, at, nodes } }),
    ]
}

pub(crate) fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        Just(Answer::Done),
        attr().prop_map(Answer::Attr),
        vec(1..=255u8, 1..200).prop_map(|target| Answer::Target(target.into())),
        (vec(entry(), 0..5), any::<bool>()).prop_map(|(entries, end)| Answer::Listing { entries, end }),
        (any::<u64>(), any::<u64>(), vec(piece(), 0..5))
            .prop_map(|(size, content, pieces)| { Answer::Layout(Layout { size, content: Version(content), pieces }) }),
        (any::<u64>(), attr()).prop_map(|(offset, attr)| Answer::Written { offset, attr }),
        any::<u64>().prop_map(Answer::Copied),
        any::<u64>().prop_map(Answer::Offset),
        blob(0, 200).prop_map(Answer::Xattr),
        blob(0, 200).prop_map(Answer::XattrNames),
        any::<[u64; 4]>().prop_map(|[inodes, allocated, total, free]| Answer::StatFs(StatFs {
            inodes,
            allocated,
            total,
            free
        })),
        Just(Answer::Queued),
        (ops::file_lock(), client(), any::<bool>()).prop_map(|(lock, client, waits)| Answer::Behind(InTheWay {
            lock,
            client,
            waits
        })),
        vec(ops::file_lock(), 0..4).prop_map(Answer::Broken),
        option::of(ops::file_lock()).prop_map(Answer::LockedBy),
    ]
}

pub(crate) fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        4 => answer().prop_map(Reply::Done),
        1 => prop::sample::select(Errno::ALL).prop_map(Reply::Failed),
        1 => Just(Reply::NeedGroups),
    ]
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    (session(), id(), any::<u64>(), cred(), op()).prop_map(|(session, number, acked, cred, op)| Command {
        session,
        number,
        acked,
        cred,
        op,
    })
}

fn client() -> impl Strategy<Value = String> {
    "[a-zäöü:/ -]{0,100}"
}

fn inos() -> impl Strategy<Value = Vec<Ino>> {
    vec(ino(), 0..10)
}

fn object() -> impl Strategy<Value = Object> {
    prop_oneof![
        ino().prop_map(Object::Whole),
        ino().prop_map(Object::Rights),
        (ino(), name()).prop_map(|(dir, name)| Object::Entry(dir, name)),
    ]
}

fn pair() -> impl Strategy<Value = (Key, Value)> {
    prop_oneof![
        (ino(), name(), id())
            .prop_map(|(dir, name, cookie)| { (Key::Listing(dir, Cookie(cookie)), Value::Listing(name)) }),
        (ino(), name(), ino(), kind(), id()).prop_map(|(dir, name, ino, kind, cookie)| {
            (Key::Entry(dir, name), Value::Entry(Entry { ino, kind, cookie: Cookie(cookie) }))
        }),
    ]
}

fn fact() -> impl Strategy<Value = Fact> {
    let value = (pair(), any::<bool>()).prop_map(|((key, value), there)| Record::Value(key, there.then_some(value)));
    let range = (pair(), pair(), any::<u64>(), vec(pair(), 0..4));
    let range = range.prop_map(|((from, _), (to, _), max, found)| Record::Range { from, to, max, found });
    (object(), prop_oneof![value, range]).prop_map(|(object, record)| Fact { object, record })
}

pub(crate) fn to_node() -> impl Strategy<Value = ToNode> {
    prop_oneof![
        (option::of(session()), client(), any::<[u64; 2]>())
            .prop_map(|(session, client, [nonce, link])| ToNode::Hello { session, client, nonce, link }),
        vec(command(), 0..5).prop_map(ToNode::Commands),
        (any::<u64>(), cred(), query(), any::<bool>()).prop_map(|(id, cred, query, keep)| ToNode::Ask {
            id,
            cred,
            query,
            keep
        }),
        any::<u64>().prop_map(|sent| ToNode::Renew { sent }),
        vec(object(), 0..5).prop_map(ToNode::GaveBack),
        vec(object(), 0..5).prop_map(ToNode::Returned),
        Just(ToNode::Empty),
        Just(ToNode::Alive),
        (any::<u64>(), inos()).prop_map(|(round, inos)| ToNode::Holds { round, inos }),
        Just(ToNode::Goodbye),
    ]
}

pub(crate) fn to_mount() -> impl Strategy<Value = ToMount> {
    prop_oneof![
        (session(), any::<[u64; 2]>(), node()).prop_map(|(session, [nonce, last], node)| ToMount::Welcome {
            session,
            nonce,
            last,
            node
        }),
        session().prop_map(|session| ToMount::Gone { session }),
        vec((any::<u64>(), reply()), 0..5).prop_map(ToMount::Replies),
        (any::<u64>(), reply(), vec(fact(), 0..4)).prop_map(|(id, reply, facts)| ToMount::Answer { id, reply, facts }),
        any::<[u64; 2]>().prop_map(|[sent, lasts]| ToMount::Lease { sent, lasts }),
        vec(object(), 0..5).prop_map(ToMount::Recall),
        Just(ToMount::Again),
        (any::<u64>(), inos()).prop_map(|(round, inos)| ToMount::WhoHolds { round, inos }),
        ino().prop_map(|ino| ToMount::LocksMoved { ino }),
        ino().prop_map(|ino| ToMount::LocksBroken { ino }),
    ]
}

pub(crate) fn to_peer() -> impl Strategy<Value = ToPeer> {
    let sessions = || vec(session(), 0..10);
    let space = || any::<[u64; 2]>().prop_map(|[total, free]| Space { total, free });
    prop_oneof![
        6 => raft_message().prop_map(|message| ToPeer::Raft(Box::new(message))),
        1 => any::<[u64; 2]>().prop_map(|[term, sent]| ToPeer::Beat { term, sent }),
        1 => any::<([bool; 3], [u64; 4])>().prop_map(|([fresh, member, reply], [last, life, term, asked])| {
            ToPeer::Hello { fresh, member, reply, last, life, term, asked }
        }),
        1 => (any::<[u64; 3]>(), any::<bool>(), any::<u32>())
            .prop_map(|([term, sent, life], hangs, speaks)| ToPeer::Promise { term, sent, life, hangs, speaks }),
        3 => vec(command(), 0..5).prop_map(ToPeer::Commands),
        2 => (view(), vec(command(), 0..5)).prop_map(|(view, commands)| ToPeer::Held { view, commands }),
        1 => (view(), prop::collection::btree_map(node(), seat(), 0..5))
            .prop_map(|(id, seats)| ToPeer::View { id, seats }),
        3 => (view(), any::<[u64; 2]>(), vec(token(), 0..5)).prop_map(|(view, [number, heard], messages)| {
            ToPeer::Tokens { view, parcel: Parcel { number, heard, messages } }
        }),
        1 => (any::<u64>(), any::<u64>()).prop_map(|(term, lasts)| ToPeer::LeadOver { term, lasts }),
        1 => (view(), node()).prop_map(|(view, neighbour)| ToPeer::Parted { view, neighbour }),
        1 => (view(), any::<u64>()).prop_map(|(view, sent)| ToPeer::RenewNode { view, sent }),
        1 => (view(), any::<[u64; 2]>()).prop_map(|(view, [sent, lasts])| ToPeer::NodeLease { view, sent, lasts }),
        1 => (client(), any::<u64>()).prop_map(|(client, nonce)| ToPeer::OpenSession { client, nonce }),
        1 => session().prop_map(ToPeer::EndSession),
        1 => session().prop_map(ToPeer::Claim),
        1 => (session(), any::<u64>()).prop_map(|(session, applied)| ToPeer::Claimed { session, applied }),
        1 => (any::<u64>(), cred(), query()).prop_map(|(id, cred, query)| ToPeer::Ask { id, cred, query }),
        1 => (any::<u64>(), option::of(reply())).prop_map(|(id, reply)| ToPeer::Answer { id, reply }),
        3 => vec((session(), any::<u64>(), reply()), 0..5).prop_map(ToPeer::Replies),
        1 => sessions().prop_map(ToPeer::Again),
        1 => (sessions(), space(), any::<[u64; 4]>(), fetching()).prop_map(|(sessions, space, numbers, fetching)| {
            let [applied, life, began, lacks] = numbers;
            ToPeer::Report { sessions, space, applied, walked: Walked { life, began, lacks, fetching } }
        }),
        1 => (any_slice_id(), option::of(node()), any::<u64>())
            .prop_map(|(slice, instead_of, life)| ToPeer::Copied { slice, instead_of, life }),
        1 => prop::collection::btree_map(node(), space(), 0..5).prop_map(ToPeer::Spaces),
        1 => (any::<u64>(), inos()).prop_map(|(round, inos)| ToPeer::WhoHolds { round, inos }),
        1 => (any::<u64>(), session(), inos())
            .prop_map(|(round, session, inos)| ToPeer::Holds { round, session, inos }),
    ]
}

fn fetching() -> impl Strategy<Value = Fetching> {
    (any::<u64>(), option::of(any::<u64>()), any::<bool>()).prop_map(|(lacks, left_us, in_vain)| Fetching {
        lacks,
        left_us,
        in_vain,
    })
}

pub(crate) fn peer_frame() -> impl Strategy<Value = PeerFrame> {
    let hello = (
        option::of(id().prop_map(ClusterId)),
        node(),
        [1..=u32::MAX, 0..=u32::MAX, 0..=u32::MAX],
        "[a-z0-9.]{0,20}:[0-9]{1,5}",
    )
        .prop_map(|(cluster, node, [wire_version, wire_oldest, in_force], address)| PeerHello {
            cluster,
            node,
            wire_version,
            wire_oldest,
            address,
            in_force,
        });
    let reasons =
        [Refusal::WrongCluster, Refusal::WrongNode, Refusal::NewerVersion, Refusal::OlderVersion, Refusal::Removed];
    let reason = prop::sample::select(reasons.to_vec());
    prop_oneof![
        hello.prop_map(PeerFrame::Hello),
        (reason, ".{0,50}").prop_map(|(reason, detail)| PeerFrame::Refused(PeerRefusal { reason, detail })),
        to_peer().prop_map(PeerFrame::Message),
    ]
}

pub(crate) fn put_slice() -> impl Strategy<Value = PutSlice> {
    let put = |replica_only| move |(id, data)| PutSlice { id, data, replica_only };
    prop_oneof![(slice_id(), blob(1, 500)).prop_map(put(false)), (any_slice_id(), blob(1, 500)).prop_map(put(true)),]
}

pub(crate) fn get_slice() -> impl Strategy<Value = GetSlice> {
    (any_slice_id(), 0..1000u32, 1..=4_000_000u32, nodes(0)).prop_map(|(id, at, len, nodes)| GetSlice {
        id,
        at,
        len,
        nodes,
    })
}

pub(crate) fn slice_failure() -> impl Strategy<Value = SliceFailure> {
    use SliceProblem::*;
    (prop::sample::select(vec![Missing, Damaged, Full, Refused]), ".{0,50}")
        .prop_map(|(problem, detail)| SliceFailure { problem, detail })
}
