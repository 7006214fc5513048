//! In the calm: every node has the same state, that state is whole, the sessions of dead mounts are over, and what nobody
//! has open is gone.

use super::super::world::World;
use baton_core::meta::{Key, Memory, Value, check};
use baton_core::node::{copies_wanted, spare_copy};
use baton_core::types::{Ino, NodeId, SessionId, SliceId};
use std::collections::BTreeMap;

pub(in super::super) enum Unsettled {
    /// It may come right with time.
    NotYet(String),
    /// It never will.
    Wrong(String),
}

pub(in super::super) fn nodes(world: &World) -> Result<(), Unsettled> {
    let mut statuses = Vec::new();
    for (at, sim) in world.nodes.iter().enumerate().filter(|(_, sim)| !sim.gone) {
        let Some(machine) = &sim.machine else { return Err(Unsettled::NotYet(format!("node {} is down", at + 1))) };
        statuses.push(machine.status());
    }
    if let Some(status) = statuses.iter().find(|s| s.tokens.refused > 0) {
        let (node, tokens) = (status.node, &status.tokens);
        return Err(Unsettled::Wrong(format!("node {node} was told of tokens what cannot be: {tokens:?}")));
    }
    let newest = world.newest_build();
    if let Some(status) = statuses.iter().find(|s| s.in_force != Some(newest)) {
        let (node, in_force) = (status.node, status.in_force);
        return Err(Unsettled::NotYet(format!("node {node} has {in_force:?} in force and all speak {newest}")));
    }
    let applied: Vec<u64> = statuses.iter().map(|s| s.applied).collect();
    if applied.iter().any(|a| *a != applied[0]) {
        return Err(Unsettled::NotYet(format!("the nodes have applied {applied:?}")));
    }
    if let Some(outside) = statuses.iter().find(|s| !s.member) {
        return Err(Unsettled::NotYet(format!("node {} is no member", outside.node)));
    }
    let states: Vec<BTreeMap<Key, Value>> = world.nodes.iter().filter_map(whole_state).collect();
    for (at, state) in states.iter().enumerate().skip(1) {
        if *state != states[0] {
            return Err(Unsettled::Wrong(difference(at, &states[0], state)));
        }
    }
    let Some(state) = states.into_iter().next() else { return Ok(()) };
    members(world)?;
    whole(world, state)
}

/// Every node knows the same list, those who were to leave are gone, and as many vote as should.
fn members(world: &World) -> Result<(), Unsettled> {
    let mut lists = world.nodes.iter().filter(|node| !node.gone).map(|node| &node.members);
    let Some(Some(first)) = lists.next() else { return Ok(()) };
    if lists.any(|list| list.as_ref() != Some(first)) {
        return Err(Unsettled::NotYet("the nodes know different lists of each other".into()));
    }
    if let Some((away, _)) = first.nodes.iter().find(|(_, member)| member.away) {
        return Err(Unsettled::NotYet(format!("node {away} counts as away")));
    }
    let everybody = first.nodes.keys().copied().collect();
    match first.next_step(NodeId(0), &everybody, &first.leaving().into_iter().collect()) {
        Some(step) => Err(Unsettled::NotYet(format!("{step:?} is still to be done"))),
        None => Ok(()),
    }
}

fn whole_state(sim: &super::super::node::SimNode) -> Option<BTreeMap<Key, Value>> {
    let reader = sim.machine.as_ref()?.reader();
    let last = Key::Session(SessionId(u64::MAX));
    reader
        .with_state(|state| state.range(&Key::Volume, &last, usize::MAX))
        .ok()
        .map(|pairs| pairs.into_iter().collect())
}

fn difference(at: usize, one: &BTreeMap<Key, Value>, other: &BTreeMap<Key, Value>) -> String {
    let key = one.keys().chain(other.keys()).find(|key| one.get(key) != other.get(key));
    let (a, b) = key.map(|k| (one.get(k), other.get(k))).unwrap_or_default();
    format!("node {} and node 1 differ at {key:?}: {b:?} and {a:?}", at + 1)
}

fn whole(world: &World, state: BTreeMap<Key, Value>) -> Result<(), Unsettled> {
    let alive: Vec<SessionId> =
        world.mounts.iter().filter_map(|m| m.machine.as_ref().and_then(|m| m.session())).collect();
    for key in state.keys() {
        match key {
            Key::Session(session) if !alive.contains(session) => {
                return Err(Unsettled::NotYet(format!("session {session} of a dead mount is not over")));
            }
            Key::Orphan(Ino(ino)) => return Err(Unsettled::NotYet(format!("orphan {ino} is open nowhere and there"))),
            _ => {}
        }
    }
    let members = world.nodes.iter().filter(|node| !node.gone).find_map(|node| node.members.as_ref());
    for (key, value) in &state {
        if let (Key::Slice(id), Value::Slice(info)) = (key, value) {
            let kept = info.nodes.iter().filter(|n| has_slice(world, **n, *id)).count();
            if kept == 0 {
                return Err(Unsettled::Wrong(format!("no node has slice {id}, which files refer to")));
            }
            if let Some(node) = members.and_then(|members| spare_copy(members, *id, info)) {
                return Err(Unsettled::NotYet(format!("slice {id} has a copy too many, at node {node}")));
            }
            let nodes = world.nodes.iter().filter(|node| !node.gone).count();
            if kept < copies_wanted(nodes) {
                return Err(Unsettled::NotYet(format!("slice {id} has {kept} copies")));
            }
        }
    }
    for (at, sim) in world.nodes.iter().enumerate().filter(|(_, sim)| !sim.gone) {
        let Some(mut shares) = sim.repair.shares().cloned() else {
            return Err(Unsettled::NotYet(format!("node {} does not look what should move", at + 1)));
        };
        let Some(members) = members else { continue };
        let slices = state.values().filter_map(|value| if let Value::Slice(info) = value { Some(info) } else { None });
        if let Some(takeover) = slices.filter_map(|info| shares.takeover(members, info)).next() {
            return Err(Unsettled::NotYet(format!("by what node {} found, {takeover:?} is to be done", at + 1)));
        }
    }
    let report =
        check::check(&Memory(state)).map_err(|e| Unsettled::Wrong(format!("the state cannot be walked: {e:?}")))?;
    match report.problems.first() {
        Some(problem) => Err(Unsettled::Wrong(format!("the state is not whole: {problem}"))),
        None => Ok(()),
    }
}

fn has_slice(world: &World, node: NodeId, id: SliceId) -> bool {
    let sim = &world.nodes[node.0 as usize - 1];
    !sim.gone && sim.disk.sound(id).is_some()
}
