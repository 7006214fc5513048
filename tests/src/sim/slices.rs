//! Slices on their way between a mount and the nodes that keep them.

use super::network::Place;
use super::planted::Planted;
use super::putting::For;
use super::world::{Event, Life, World};
use baton_core::mount::{CallId, SliceFault, SlicePart};
use baton_core::node::{Input, Looked, MergeOrder, Merged};
use baton_core::types::SliceId;
use bytes::Bytes;

impl World {
    /// The node a mount is connected to, if bytes get through.
    fn node_of(&self, mount: usize) -> Option<usize> {
        let conn = self.conns.get(&self.mounts[mount].conn?)?;
        let node = conn.node;
        let through = self.nodes[node].life == conn.node_life
            && self.nodes[node].machine.is_some()
            && self.nodes[node].frozen_until <= self.now
            && self.net.both_ways(Place::Mount(mount), Place::Node(node));
        through.then_some(node)
    }

    /// The connected node gets the slice, if bytes get through.
    pub(super) fn put_arrives(&mut self, mount: usize, life: Life, call: CallId, id: SliceId, data: Bytes) {
        if !self.mount_lives(mount, life) {
            return;
        }
        if let Some(node) = self.node_of(mount) {
            return self.put(node, id, data, For::Mount(mount, life, call));
        }
        let delay = self.rng.delay(self.net.delay_us + 1_000);
        self.after(delay, Event::PutDone(mount, life, call, id, Err(SliceFault::Unreachable)));
    }

    /// What the shell does about an order to merge: it looks, and stores what it found.
    pub(super) fn merge_ordered(&mut self, node: usize, life: Life, order: MergeOrder) {
        if self.nodes[node].life != life {
            return;
        }
        let Some(reader) = self.nodes[node].machine.as_ref().map(|machine| machine.reader()) else { return };
        let merged = match reader.look_for_run(&order) {
            Ok(Looked { run: Some(run), next }) => {
                let (id, data) = (order.slice, run.bytes.clone());
                let looked = Looked { run: Some(run), next };
                return self.put(node, id, data, For::Merge(Box::new((order, looked))));
            }
            Ok(Looked { run: None, next }) => Merged::Looked { merge: None, next },
            Err(_) => Merged::Failed,
        };
        self.merge_looked_later(node, life, order, merged);
    }

    pub(super) fn merge_looked_later(&mut self, node: usize, life: Life, order: MergeOrder, merged: Merged) {
        let typical = if self.rng.one_in(4) { 300_000 } else { 10_000 };
        let delay = self.rng.delay(typical);
        self.after(delay, Event::MergeLooked(node, life, Box::new((order, merged))));
    }

    pub(super) fn merge_looked(&mut self, node: usize, life: Life, (order, mut merged): (MergeOrder, Merged)) {
        if self.nodes[node].life != life {
            return;
        }
        if self.plan.planted == Some(Planted::MergedUnseen)
            && let Merged::Looked { merge: Some(merge), .. } = &mut merged
            && let Some(reader) = self.nodes[node].machine.as_ref().map(|machine| machine.reader())
            && let Ok(Looked { run: Some(run), .. }) = reader.look_for_run(&order)
            && (run.ino, run.offset, run.bytes.len()) == (merge.ino, merge.offset, merge.slice.len as usize)
        {
            *merge = run.merge(merge.slice.clone());
        }
        self.give(node, Input::Looked { slice: order.slice, merged });
    }

    pub(super) fn get_arrives(&mut self, mount: usize, life: Life, call: CallId, parts: &[SlicePart]) {
        if !self.mount_lives(mount, life) {
            return;
        }
        let outcome = match self.node_of(mount) {
            Some(node) => parts.iter().map(|part| self.read_slice(node, part)).collect(),
            None => Err(SliceFault::Unreachable),
        };
        let delay = self.rng.delay(self.net.delay_us + 100);
        self.after(delay, Event::GetDone(mount, life, call, outcome));
    }

    fn read_slice(&self, near: usize, part: &SlicePart) -> Result<Bytes, SliceFault> {
        let mut fault = SliceFault::Missing;
        for node in &part.nodes {
            let Some(at) = self.node_at(*node) else { continue };
            if !self.nodes_talk(near, at) {
                fault = SliceFault::Unreachable;
                continue;
            }
            let disk = &self.nodes[at].disk;
            let unchecked = self.plan.planted == Some(Planted::DamageServed);
            let Some(kept) = disk.slices.get(&part.id) else { continue };
            if let Some(data) = disk.slice(part.id).or(Some(kept).filter(|_| unchecked)) {
                let (from, to) = (part.at as usize, (part.at + part.len) as usize);
                return if to <= data.len() { Ok(data.slice(from..to)) } else { Err(SliceFault::Damaged) };
            }
            if fault != SliceFault::Unreachable {
                fault = SliceFault::Damaged;
            }
        }
        Err(fault)
    }
}
