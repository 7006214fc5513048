//! Small writes become slices: when it is ordered, and what comes of it.

use super::*;
use crate::meta::Step;
use crate::meta::ops::{Mknod, ReadLayout, SliceRef, Write, WriteAt, WriteData};
use crate::meta::{InlineRun, PieceSource, Txn};
use crate::types::Kind;
use bytes::Bytes;

const PIECE: usize = 32 << 10;
const QUIET_US: u64 = 5_000_000;
/// Until everybody has heard what is committed.
const HEARD_US: u64 = 200_000;
const CONN: Conn = Conn(9);

/// A program on the leader's mount that writes a file.
struct Writer {
    cluster: Cluster,
    session: SessionId,
    number: u64,
    ino: Ino,
    len: u64,
}

impl Writer {
    fn new() -> Writer {
        let mut cluster = Cluster::formed();
        let leader = cluster.leader();
        let session = cluster.greet(leader);
        let mut writer = Writer { cluster, session, number: 0, ino: Ino(2), len: 0 };
        let name = Name::new(b"f").unwrap();
        writer.command(Mknod { dir: Ino::ROOT, name, kind: Kind::File, mode: 0o644, rdev: 0 });
        writer
    }

    fn command(&mut self, op: impl Into<Op>) {
        self.number += 1;
        let (session, number) = (self.session, self.number);
        let command = Command { session, number, acked: number - 1, cred: Cred::ROOT, op: op.into() };
        let leader = self.cluster.leader();
        self.cluster.says_at(leader, CONN, ToNode::Commands(vec![command]));
        self.cluster.settle();
        self.cluster.says_at(leader, CONN, ToNode::Alive);
    }

    fn write(&mut self, offset: u64, bytes: Vec<u8>) {
        self.len = self.len.max(offset + bytes.len() as u64);
        let data = WriteData::Inline(Bytes::from(bytes));
        self.command(Write { ino: self.ino, at: WriteAt::Offset(offset), data, kill_suid: false });
    }

    fn append(&mut self, pieces: usize) {
        for _ in 0..pieces {
            self.write(self.len, vec![7; PIECE]);
        }
    }

    /// Time passes, and the mount says that it lives.
    fn wait(&mut self, us: u64) {
        for _ in 0..us.div_ceil(1_000_000) {
            self.cluster.pass(us.min(1_000_000));
            let leader = self.cluster.leader();
            self.cluster.says_at(leader, CONN, ToNode::Alive);
        }
    }

    /// The shell has found something, and stored it.
    fn found(&self, node: NodeId, order: &MergeOrder) -> (InlineRun, Merged) {
        let looked = self.cluster.machine(node).reader().look_for_run(order).unwrap();
        let run = looked.run.expect("something to merge");
        let slice = SliceRef { id: order.slice, len: run.bytes.len() as u32, nodes: vec![NodeId(1), NodeId(2)] };
        let merge = Some(run.merge(slice));
        (run, Merged::Looked { merge, next: looked.next })
    }

    fn looked(&mut self, node: NodeId, slice: SliceId, merged: Merged) {
        self.cluster.peers.get_mut(&node).unwrap().inbox.push(Input::Looked { slice, merged });
        self.cluster.settle();
    }

    /// Time passes until there is an order, but no longer than this.
    fn next_order(&mut self, us: u64) -> Option<(NodeId, MergeOrder)> {
        let until = self.cluster.now + us;
        while self.cluster.orders.is_empty() && self.cluster.now < until {
            self.wait(TICK_US);
        }
        self.cluster.orders.pop()
    }

    /// Carries out orders as a shell does, until there are no more; each follows soon.
    fn merge_all(&mut self) -> Vec<(u64, usize)> {
        let mut runs = Vec::new();
        while let Some((node, order)) = self.next_order(4 * TICK_US) {
            let looked = self.cluster.machine(node).reader().look_for_run(&order).unwrap();
            let merged = match looked.run {
                Some(_) => {
                    let (run, merged) = self.found(node, &order);
                    runs.push((run.offset, run.bytes.len()));
                    merged
                }
                None => Merged::Looked { merge: None, next: looked.next },
            };
            self.looked(node, order.slice, merged);
        }
        self.cluster.pass(HEARD_US);
        runs
    }

    /// Of the file as a node has it: how many bytes lie inline, how many in slices.
    fn layout(&self, node: NodeId) -> (u64, u64) {
        self.cluster.machine(node).reader().with_state(|state| {
            let read = ReadLayout { ino: self.ino, offset: 0, len: u32::MAX };
            let Ok(Answer::Layout(layout)) = Query::from(read).run(&mut Txn::new(state, Stamp::default()), &Cred::ROOT)
            else {
                panic!("no layout")
            };
            let sum = |slices: bool| {
                let is_slice = |source: &PieceSource| matches!(source, PieceSource::Slice { .. });
                layout.pieces.iter().filter(|piece| is_slice(&piece.source) == slices).map(|piece| piece.len).sum()
            };
            (sum(false), sum(true))
        })
    }
}

#[test]
fn a_file_that_is_quiet_is_merged_on_all_nodes_and_once() {
    let mut writer = Writer::new();
    writer.append(4);
    writer.wait(QUIET_US - 1_000_000);
    assert_eq!(writer.cluster.orders, []);
    let (node, order) = writer.next_order(1_500_000).expect("an order");
    let (run, merged) = writer.found(node, &order);
    assert_eq!((run.offset, run.bytes.len()), (0, 4 * PIECE));
    writer.looked(node, order.slice, merged);
    assert_eq!(writer.merge_all(), [], "nothing is left");
    for node in 1..=3 {
        assert_eq!(writer.layout(NodeId(node)), (0, 4 * PIECE as u64));
    }
    writer.wait(2 * QUIET_US);
    assert_eq!((writer.cluster.orders.len(), writer.cluster.dropped.len()), (0, 0));
}

#[test]
fn a_short_file_stays_where_it_is() {
    let mut writer = Writer::new();
    writer.write(0, vec![1; (64 << 10) - 1]);
    writer.wait(2 * QUIET_US);
    assert_eq!(writer.cluster.orders, []);
}

#[test]
fn bytes_that_change_while_they_are_stored_stay_and_the_slice_goes_everywhere() {
    let mut writer = Writer::new();
    writer.append(4);
    let (node, order) = writer.next_order(QUIET_US + 500_000).expect("an order");
    let (_, merged) = writer.found(node, &order);
    writer.write(5_000, vec![9]);
    writer.looked(node, order.slice, merged);
    writer.cluster.pass(HEARD_US);
    let mut dropped = std::mem::take(&mut writer.cluster.dropped);
    dropped.sort();
    assert_eq!(dropped, [1, 2, 3].map(|node| (NodeId(node), order.slice)));
    assert_eq!(writer.layout(node), (4 * PIECE as u64, 0));
    assert_eq!(writer.merge_all(), [], "the rest of the file");
    writer.wait(QUIET_US - 1_000_000);
    assert_eq!(writer.merge_all(), []);
    writer.wait(1_000_000);
    assert_eq!(writer.merge_all(), [(0, 4 * PIECE)]);
}

#[test]
fn what_is_written_without_end_is_merged_but_for_the_last_of_it() {
    let mut writer = Writer::new();
    writer.append((4 << 20) / PIECE + 2);
    writer.wait(TICK_US);
    let merged: usize = writer.merge_all().iter().map(|(_, len)| len).sum();
    assert!((2 << 20..=writer.len as usize - (1 << 20)).contains(&merged), "{merged}");
    writer.append(1);
    writer.wait(TICK_US);
    assert_eq!(writer.cluster.orders, [], "not again before as much was written");
    writer.wait(QUIET_US + 500_000);
    writer.merge_all();
    let (inline, slices) = writer.layout(writer.cluster.leader());
    assert!(inline < 64 << 10 && inline + slices == writer.len, "{inline}");
}

#[test]
fn a_slice_that_could_not_be_stored_is_tried_again_a_while_later() {
    let mut writer = Writer::new();
    writer.append(4);
    let (node, order) = writer.next_order(QUIET_US + 500_000).expect("an order");
    writer.looked(node, order.slice, Merged::Failed);
    writer.wait(4_000_000);
    assert_eq!(writer.cluster.orders, []);
    let (_, again) = writer.next_order(1_500_000).expect("an order");
    assert!(again.slice != order.slice && again.from == order.from, "{again:?}");
}

#[test]
fn a_new_leader_goes_over_all_files_and_the_orders_of_the_old_one_are_nothing() {
    let mut writer = Writer::new();
    writer.append(4);
    let (old, order) = writer.next_order(QUIET_US + 500_000).expect("an order");
    let (_, merged) = writer.found(old, &order);
    let garbage = |writer: &Writer, node| writer.cluster.machine(node).reader().garbage(&[order.slice]).unwrap();
    assert_eq!(garbage(&writer, old), [], "it may be about to be used");
    writer.cluster.cut.insert(old);
    writer.cluster.pass(5_000_000);
    let new = writer.cluster.leader();
    assert_eq!(garbage(&writer, new), [order.slice]);
    writer.cluster.cut.clear();
    writer.cluster.pass(1_000_000);
    assert_eq!(garbage(&writer, old), [order.slice]);
    writer.looked(old, order.slice, merged);
    writer.cluster.pass(20_000_000);
    assert_eq!((writer.layout(new), writer.cluster.orders.len()), ((4 * PIECE as u64, 0), 0));
    let (new, order) = writer.next_order(10_000_000).expect("an order");
    let (_, merged) = writer.found(new, &order);
    writer.looked(new, order.slice, merged);
    assert_eq!((writer.merge_all(), writer.layout(new)), (vec![], (0, 4 * PIECE as u64)));
    writer.cluster.pass(60_000_000);
    assert_eq!(writer.cluster.orders, [], "once");
}
