//! What is sent is what arrives: every message of the core, through its bytes and back.

use crate::common::{self, *};
use baton_proto::v1;
use proptest::prelude::*;
use prost::Message;
use std::fmt::Debug;

/// Packs, writes, reads and unpacks.
fn travels<W, T>(ours: T)
where
    W: Message + Default + From<T> + Debug,
    T: TryFrom<W, Error = baton_proto::BadMessage> + Clone + PartialEq + Debug,
{
    let bytes = W::from(ours.clone()).encode_to_vec();
    let wire = W::decode(bytes.as_slice()).expect("what prost wrote, it reads");
    assert_eq!(T::try_from(wire), Ok(ours));
}

proptest! {
    #[test]
    fn to_node(message in common::to_node()) {
        travels::<v1::ToNode, _>(message);
    }

    #[test]
    fn to_mount(message in common::to_mount()) {
        travels::<v1::ToMount, _>(message);
    }

    #[test]
    fn peer_frames(frame in peer_frame()) {
        travels::<v1::PeerFrame, _>(frame);
    }

    #[test]
    fn raft_messages(message in raft_message()) {
        travels::<v1::RaftMessage, _>(message);
    }

    #[test]
    fn slice_requests(put in put_slice(), get in get_slice()) {
        travels::<v1::PutSlice, _>(put);
        travels::<v1::GetSlice, _>(get);
    }

    #[test]
    fn slice_replies(nodes in nodes(1), data in blob(0, 500), failure in slice_failure()) {
        travels::<v1::Placed, baton_proto::Placed>(Ok(nodes));
        travels::<v1::Placed, baton_proto::Placed>(Err(failure.clone()));
        travels::<v1::SliceBytes, baton_proto::SliceBytes>(Ok(data));
        travels::<v1::SliceBytes, baton_proto::SliceBytes>(Err(failure));
    }
}

#[test]
fn bulk_data_stays_in_the_buffer_it_was_received_into() {
    let data = bytes::Bytes::from(vec![7u8; 100_000]);
    let id = Some(v1::SliceId { session: 1, number: 1 });
    let received = bytes::Bytes::from(v1::PutSlice { id, data, replica_only: false }.encode_to_vec());
    let buffer = received.as_ptr_range();
    let put = baton_proto::PutSlice::try_from(v1::PutSlice::decode(received.clone()).unwrap()).unwrap();
    assert_eq!(put.data.len(), 100_000);
    assert!(buffer.contains(&put.data.as_ptr()));
}
