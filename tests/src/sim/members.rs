//! Nodes come and go: what an operator orders, what the processes of nodes do about it, and how slices follow.

use super::faults::Fault;
use super::planted::Planted;
use super::world::{Event, Life, World};
use baton_core::meta::{Key, SliceInfo, Value};
use baton_core::node::{Input, Shares, Walk, missing, spare_copy, wants_copy};
use baton_core::types::{MemberChange, Members, NodeId, SessionId, SliceId};
use std::collections::{BTreeMap, BTreeSet};

/// Nodes that may join in one run.
const JOIN_MAX: usize = 3;
/// A copy that is not listed after so long is listed nowhere.
const LISTED_WITHIN_US: u64 = 10_000_000;

/// A copy that a node makes.
#[derive(Debug)]
pub(super) struct Copying {
    pub(super) id: SliceId,
    /// Who may have it.
    from: Vec<NodeId>,
    instead_of: Option<NodeId>,
}

impl World {
    pub(super) fn order_members(&mut self) {
        let Some(leader) = self.leaders().first().copied() else { return };
        // A cluster that shrinks to two can bear no loss of a disk, and one in a run is lost.
        if self.nodes.iter().any(|node| node.erased > 0 && !node.disk.votes()) {
            return;
        }
        let Some(members) = self.nodes[leader].members.clone() else { return };
        let staying = members.staying();
        let change = match self.rng.below(5) {
            0 | 1 if self.nodes.len() < self.plan.nodes + JOIN_MAX => {
                self.stats.count("order to join");
                MemberChange::Join { address: format!("host:{}", self.rng.below(1 << 20)) }
            }
            2 if !members.leaving().is_empty() => {
                self.stats.count("order to stay");
                MemberChange::Stay(members.leaving()[0])
            }
            _ if staying.len() > 2 => {
                self.stats.count("order to leave");
                MemberChange::Leave(staying[self.rng.below(staying.len())])
            }
            _ => return,
        };
        self.trace.note(self.now, || format!("an order: {change:?}"));
        self.give(leader, Input::ChangeMembers { request: 1, change });
    }

    /// A node has another list: it keeps it, and whoever is new on it is started.
    pub(super) fn members_known(&mut self, node: usize, members: Members) {
        let newest = members.nodes.keys().next_back().map_or(0, |id| id.0 as usize);
        while self.nodes.len() < newest {
            self.stats.count("node joined");
            let new = self.nodes.len();
            self.add_node(members.clone());
            let delay = self.rng.range(1_000, 3_000_000);
            self.after(delay, Event::Fault(Fault::Restart(new)));
        }
        if members.was_removed(NodeId(node as u64 + 1)) {
            self.after(0, Event::Fault(Fault::Ends(node)));
        }
        let before = self.nodes[node].members.replace(members);
        let is_away = |members: &Members, id: NodeId| members.nodes.get(&id).map(|member| member.away);
        if let (Some(before), Some(after)) = (&before, &self.nodes[node].members)
            && self.leaders().contains(&node)
        {
            for id in after.nodes.keys() {
                match (is_away(before, *id), is_away(after, *id)) {
                    (Some(false), Some(true)) => self.stats.count("node away for long"),
                    (Some(true), Some(false)) => self.stats.count("node back"),
                    _ => {}
                }
            }
        }
    }

    /// It is a node of the cluster no longer, and has heard so.
    pub(super) fn ends(&mut self, node: usize) {
        if !self.nodes[node].gone {
            self.stats.count("node removed");
            self.kill_node(node);
            self.nodes[node].gone = true;
        }
    }

    /// Whether one node does not talk to another any more, because that one was removed; it hears so.
    pub(super) fn refuses(&mut self, node: usize, from: usize) -> bool {
        let removed = |members: &Members| members.was_removed(NodeId(from as u64 + 1));
        let refuses = self.nodes[node].members.as_ref().is_some_and(removed);
        if refuses && self.nodes[from].machine.is_some() {
            self.after(0, Event::Fault(Fault::Ends(from)));
        }
        refuses
    }

    /// What the shell's repair does: copies that this node should have and has not are made, and what nobody needs of those
    /// that leave is said.
    pub(super) fn repair(&mut self, node: usize, life: Life) {
        if self.nodes[node].life != life {
            return;
        }
        let Some(reader) = self.nodes[node].machine.as_ref().map(|machine| machine.reader()) else { return };
        let began = reader.applied();
        let first = Key::Slice(SliceId { session: SessionId(0), number: 0 });
        let found = reader.with_state(|state| {
            let slices = state.range(&first, &Key::Session(SessionId(0)), usize::MAX).ok()?;
            match state.get(&Key::Members).ok()?? {
                Value::Members(members) => Some((slices, members)),
                _ => None,
            }
        });
        let Some((slices, members)) = found else { return };
        let now = self.now;
        let sim = &mut self.nodes[node];
        let (old, young): (BTreeMap<_, _>, _) =
            std::mem::take(&mut sim.begun).into_iter().partition(|(_, at)| *at + LISTED_WITHIN_US < now);
        sim.begun = young;
        sim.spare.extend(old.into_keys());
        let begun = |id: &SliceId| sim.begun.contains_key(id);
        let (later, spare) = std::mem::take(&mut sim.spare).into_iter().partition::<BTreeSet<_>, _>(begun);
        sim.spare = later;
        for id in spare {
            let info = slices.iter().find_map(|(key, value)| match value {
                Value::Slice(info) if *key == Key::Slice(id) => Some(info),
                _ => None,
            });
            if info.is_none_or(|info| !info.nodes.contains(&NodeId(node as u64 + 1))) {
                self.stats.count(if info.is_some() {
                    "copy too many dropped"
                } else {
                    "copy dropped after a snapshot"
                });
                self.nodes[node].disk.drop_slice(id);
            }
        }
        let kept: Vec<SliceId> = self.nodes[node].disk.slices.keys().copied().collect();
        let mut garbage = reader.garbage(&kept).unwrap_or_default();
        if self.plan.planted == Some(Planted::MergedDropped) {
            let is_unused = |id: &&SliceId| reader.with_state(|state| matches!(state.get(&Key::Slice(**id)), Ok(None)));
            garbage = kept.iter().filter(|id| id.session == SessionId::CLUSTER).filter(is_unused).copied().collect();
        }
        for id in garbage {
            self.stats.count("slice dropped that nothing refers to");
            self.nodes[node].disk.drop_slice(id);
        }
        let me = NodeId(node as u64 + 1);
        let mut walk = Walk { began, lacks: 0, drained: members.leaving().into_iter().collect(), spare: Vec::new() };
        let mut shares = self.nodes[node].shares.take();
        let mut now_kept = Shares::new(&members);
        let spaces = reader.spaces();
        for (key, value) in slices {
            let (Key::Slice(id), Value::Slice(info)) = (key, value) else { continue };
            walk.spare.extend(spare_copy(&members, id, &info).map(|_| id));
            now_kept.count(&info);
            if missing(&members, &info) > 0 {
                walk.drained.retain(|node| !info.nodes.contains(node));
            }
            let takeover = shares.as_mut().and_then(|shares| shares.takeover(&members, &info));
            let takeover = takeover.filter(|takeover| takeover.to == me && !self.nodes[node].begun.contains_key(&id));
            if let Some(takeover) = takeover {
                now_kept.moves(takeover, info.len);
            }
            let listed = info.nodes.contains(&me);
            if listed {
                self.nodes[node].begun.remove(&id);
            }
            let wanted = wants_copy(me, &members, &spaces, id, &info);
            self.repair_slice(node, &members, id, info, wanted, takeover.map(|takeover| takeover.from));
            walk.lacks += u64::from(listed && self.nodes[node].disk.slice(id).is_none());
        }
        let may_move = walk.lacks == 0 && members.leaving().is_empty();
        self.nodes[node].shares = may_move.then(|| now_kept.with_room(&spaces));
        self.give(node, Input::Walked(walk));
        self.tell_room(node);
    }

    /// What is listed here is there again at once; of what is to be listed here the copy takes its time.
    fn repair_slice(
        &mut self,
        node: usize,
        members: &Members,
        id: SliceId,
        mut info: SliceInfo,
        wanted: bool,
        instead_of: Option<NodeId>,
    ) {
        info.nodes.retain(|node| members.nodes.contains_key(node));
        let life = self.nodes[node].life;
        if info.nodes.contains(&NodeId(node as u64 + 1)) {
            if self.nodes[node].disk.slice(id).is_none() {
                self.copy_slice(node, id, &info.nodes, None);
            }
        } else if wanted || instead_of.is_some() {
            let takes = if self.rng.one_in(20) { 3_000_000 } else { 100_000 };
            let takes = self.rng.range(100, takes);
            self.nodes[node].begun.insert(id, self.now);
            let copying = Copying { id, from: info.nodes, instead_of };
            self.after(takes, Event::SliceCopied(node, life, Box::new(copying)));
        }
    }

    /// The copy that a node began to make some time ago is there, if somebody had one to give and there is room.
    pub(super) fn slice_copied(&mut self, node: usize, life: Life, copying: &Copying) {
        let Copying { id, from, instead_of } = copying;
        if self.nodes[node].life != life || self.nodes[node].machine.is_none() {
            return;
        }
        if self.nodes[node].disk.slice(*id).is_some() || self.copy_slice(node, *id, from, *instead_of) {
            self.give(node, Input::Copied { slice: *id, instead_of: *instead_of });
        }
    }

    fn copy_slice(&mut self, node: usize, id: SliceId, nodes: &[NodeId], instead_of: Option<NodeId>) -> bool {
        let mended = self.nodes[node].disk.damaged.contains(&id);
        if self.nodes[node].full && !mended {
            return false;
        }
        let from = nodes.iter().filter_map(|from| self.node_at(*from)).filter(|from| self.nodes_talk(node, *from));
        let Some(data) = from.filter_map(|from| self.nodes[from].disk.slice(id)).next().cloned() else { return false };
        self.stats.count(match instead_of {
            _ if mended => "slice mended",
            Some(_) => "slice taken over",
            None => "slice copied",
        });
        self.nodes[node].disk.put_slice(id, data);
        true
    }
}
