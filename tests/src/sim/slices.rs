//! Slices on their way between a mount and the nodes that keep them.

use super::network::Place;
use super::planted::Planted;
use super::world::{Event, Life, World};
use baton_core::meta::ops::SliceRef;
use baton_core::mount::{CallId, SliceFault, SlicePart};
use baton_core::node::{Input, Looked, MergeOrder, Merged, enough_copies, is_full, place};
use baton_core::types::{Members, NodeId, SliceId};
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

    /// The connected node stores the slice, sends it on to the others and answers when enough have it on disk.
    pub(super) fn put_arrives(&mut self, mount: usize, life: Life, call: CallId, id: SliceId, data: Bytes) {
        if !self.mount_lives(mount, life) {
            return;
        }
        let outcome = match self.node_of(mount) {
            Some(node) => self.replicate(node, id, &data),
            None => Err(SliceFault::Unreachable),
        };
        // The answer may get lost though the slice was stored.
        let outcome = if self.rng.one_in(50) { Err(SliceFault::Unreachable) } else { outcome };
        let delay = self.rng.delay(self.net.delay_us + 1_000);
        self.after(delay, Event::PutDone(mount, life, call, id, outcome));
    }

    fn replicate(&mut self, primary: usize, id: SliceId, data: &Bytes) -> Result<Vec<NodeId>, SliceFault> {
        let staying = self.nodes[primary].members.as_ref().map(Members::staying).unwrap_or_default();
        let open: Vec<usize> = staying.iter().filter_map(|node| self.node_at(*node)).collect();
        let open = open.into_iter().filter(|n| self.nodes_talk(primary, *n) && !self.nodes[*n].full);
        let open: Vec<NodeId> = open.map(|n| NodeId(n as u64 + 1)).collect();
        let open: Vec<(NodeId, u64)> = open.into_iter().map(|node| (node, self.rng.next())).collect();
        let chosen = place(NodeId(primary as u64 + 1), &open, staying.len());
        let mut kept = Vec::new();
        for node in chosen {
            let Some(at) = self.node_at(node) else { continue };
            if at != primary && self.rng.one_in(20) {
                continue;
            }
            if self.plan.planted != Some(Planted::SliceNotStored) || self.rng.one_in(4) {
                self.nodes[at].disk.put_slice(id, data.clone());
            }
            kept.push(node);
        }
        if kept.len() >= enough_copies(staying.len()) {
            return Ok(kept);
        }
        let has_no_room = |node: &&NodeId| self.node_at(**node).is_some_and(|at| self.nodes[at].full);
        let full = staying.iter().filter(has_no_room).count();
        Err(if is_full(staying.len(), full) { SliceFault::Full } else { SliceFault::Unreachable })
    }

    /// What the shell does about an order to merge: it looks, and stores what it found.
    pub(super) fn merge_ordered(&mut self, node: usize, life: Life, order: MergeOrder) {
        if self.nodes[node].life != life {
            return;
        }
        let Some(reader) = self.nodes[node].machine.as_ref().map(|machine| machine.reader()) else { return };
        let merged = match reader.look_for_run(&order) {
            Ok(Looked { run: Some(run), next }) => match self.replicate(node, order.slice, &run.bytes) {
                Ok(nodes) => {
                    self.stats.count("small writes stored as a slice");
                    let slice = SliceRef { id: order.slice, len: run.bytes.len() as u32, nodes };
                    Merged::Looked { merge: Some(run.merge(slice)), next }
                }
                Err(_) => Merged::Failed,
            },
            Ok(Looked { run: None, next }) => Merged::Looked { merge: None, next },
            Err(_) => Merged::Failed,
        };
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
