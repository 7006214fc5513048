//! Nodes come and go: what an operator orders, what the processes of nodes do about it, and how slices follow.

use super::faults::Fault;
use super::node::SimNode;
use super::planted::Planted;
use super::world::{Event, Life, World};
use baton_core::meta::Key;
use baton_core::node::{Copying, Input, Made};
use baton_core::types::{MemberChange, Members, NodeId, SessionId, SliceId};

/// Nodes that may join in one run.
const JOIN_MAX: usize = 3;
/// Slices read back with each walk.
const SCRUB: usize = 4;
/// A copy that is not listed after so long is listed nowhere.
pub(super) const LISTED_WITHIN_US: u64 = 10_000_000;

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

    /// What the shell's repair does: a walk over all slices at once.
    pub(super) fn repair(&mut self, node: usize, life: Life) {
        if self.nodes[node].life != life {
            return;
        }
        let Some(reader) = self.nodes[node].machine.as_ref().map(|machine| machine.reader()) else { return };
        let now = self.now;
        let Ok(Some(mut walking)) = self.nodes[node].repair.begin(&reader, now) else { return };
        for id in self.nodes[node].repair.to_drop(&reader, usize::MAX).unwrap_or_default() {
            let is_known = reader.with_state(|state| matches!(state.get(&Key::Slice(id)), Ok(Some(_))));
            self.stats.count(if is_known { "copy too many dropped" } else { "copy dropped after a snapshot" });
            self.nodes[node].disk.drop_slice(id);
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
        let SimNode { repair, disk, .. } = &mut self.nodes[node];
        let is_here = |id| disk.is_good(id);
        let orders = repair.step(&mut walking, &reader, now, usize::MAX, true, is_here);
        for copying in orders.ok().flatten().unwrap_or_default() {
            if copying.listed {
                let made = if self.copy_slice(node, &copying) { Made::Copy } else { Made::Nothing };
                walking.made(&copying, made);
            } else {
                // What is listed here is there again at once, of what is to be listed the copy takes its time.
                let takes = if self.rng.one_in(20) { 3_000_000 } else { 100_000 };
                let takes = self.rng.range(100, takes);
                self.after(takes, Event::SliceCopied(node, life, Box::new(copying)));
            }
        }
        self.nodes[node].disk.scrub(SCRUB);
        let ended = self.nodes[node].repair.end(walking, &reader, now);
        self.give(node, Input::Walked(ended.walk));
        self.give(node, Input::Fetching(ended.fetching));
        self.tell_room(node);
    }

    /// The copy that a node began to make some time ago is there, if somebody had one to give and there is room.
    pub(super) fn slice_copied(&mut self, node: usize, life: Life, copying: &Copying) {
        if self.nodes[node].life != life || self.nodes[node].machine.is_none() {
            return;
        }
        let is_here = self.nodes[node].disk.is_good(copying.id) || self.copy_slice(node, copying);
        if let Some(news) = copying.news().filter(|_| is_here) {
            self.give(node, news);
        }
    }

    fn copy_slice(&mut self, node: usize, copying: &Copying) -> bool {
        let Copying { id, nodes, instead_of, .. } = copying;
        let mended = self.nodes[node].disk.damaged.contains(id);
        if self.nodes[node].full && !mended {
            return false;
        }
        let from = nodes.iter().filter_map(|from| self.node_at(*from)).filter(|from| self.nodes_talk(node, *from));
        let Some(data) = from.filter_map(|from| self.nodes[from].disk.slice(*id)).next().cloned() else { return false };
        self.stats.count(match instead_of {
            _ if mended => "slice mended",
            Some(_) => "slice taken over",
            None => "slice copied",
        });
        self.nodes[node].disk.put_slice(*id, data);
        true
    }
}
