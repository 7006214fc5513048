//! Bytes that a stranger chose: they are refused, or they are a message; nothing panics.

use crate::common;
use baton_core::node::ToPeer;
use baton_core::session::{ToMount, ToNode};
use baton_proto::{BadMessage, GetSlice, PeerFrame, Placed, PutSlice, SliceBytes, SnapshotRequest, v1};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;

/// Reads and unpacks; what is accepted is itself sendable and accepted again.
fn survives<W, T>(bytes: &[u8])
where
    W: Message + Default + From<T>,
    T: TryFrom<W, Error = BadMessage> + Clone,
{
    if let Ok(wire) = W::decode(bytes)
        && let Ok(ours) = T::try_from(wire)
    {
        let again = W::decode(W::from(ours).encode_to_vec().as_slice()).expect("what prost wrote, it reads");
        assert!(T::try_from(again).is_ok());
    }
}

fn every_kind_survives(bytes: &[u8]) {
    survives::<v1::ToNode, ToNode>(bytes);
    survives::<v1::ToMount, ToMount>(bytes);
    survives::<v1::PeerFrame, PeerFrame>(bytes);
    survives::<v1::ToPeer, ToPeer>(bytes);
    survives::<v1::RaftMessage, raft::eraftpb::Message>(bytes);
    survives::<v1::PutSlice, PutSlice>(bytes);
    survives::<v1::GetSlice, GetSlice>(bytes);
    survives::<v1::Placed, Placed>(bytes);
    survives::<v1::SliceBytes, SliceBytes>(bytes);
    survives::<v1::SnapshotRequest, SnapshotRequest>(bytes);
}

/// Changes to a valid message: bytes overwritten, then the end cut off.
type Damage = (Vec<(Index, u8)>, Option<Index>);

fn damage() -> impl Strategy<Value = Damage> {
    (vec((any::<Index>(), any::<u8>()), 0..6), prop::option::weighted(0.2, any::<Index>()))
}

fn damaged(mut bytes: Vec<u8>, how: Damage) -> Vec<u8> {
    if bytes.is_empty() {
        return bytes;
    }
    for (at, value) in how.0 {
        let at = at.index(bytes.len());
        bytes[at] = value;
    }
    if let Some(cut) = how.1 {
        bytes.truncate(cut.index(bytes.len()));
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..300)) {
        every_kind_survives(&bytes);
    }

    #[test]
    fn a_mounts_message_damaged(message in common::to_node(), how in damage()) {
        every_kind_survives(&damaged(v1::ToNode::from(message).encode_to_vec(), how));
    }

    #[test]
    fn a_nodes_message_damaged(message in common::to_mount(), how in damage()) {
        every_kind_survives(&damaged(v1::ToMount::from(message).encode_to_vec(), how));
    }

    #[test]
    fn a_peers_frame_damaged(frame in common::peer_frame(), how in damage()) {
        every_kind_survives(&damaged(v1::PeerFrame::from(frame).encode_to_vec(), how));
    }

    #[test]
    fn a_raft_message_damaged(message in common::raft_message(), how in damage()) {
        every_kind_survives(&damaged(v1::RaftMessage::from(message).encode_to_vec(), how));
    }
}
