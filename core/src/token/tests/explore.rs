//! Every interleaving on small trees, breadth first. (An own explorer: besides what holds in each state it proves that every
//! state can still come to an end in which all wants are served, and it leaves the serials, which only grow, out of what
//! makes two states differ.)

use super::planted::Planted;
use super::world::{Event, OBJECT, Owner, World};
use crate::token::Mode::{Exclusive, Shared};
use crate::token::record::Place;
use crate::token::{Mode, Say};
use std::collections::{BTreeMap, VecDeque};

/// What may happen besides wants, their ends, and messages.
#[derive(Clone, Copy, Default)]
pub(super) struct Freely {
    /// Idle holds, copies and tokens are let go of, exclusive holds are brought down to shared ones.
    pub(super) tidy: bool,
    /// A shared user whose next want is exclusive may upgrade.
    pub(super) upgrade: bool,
    /// This leaf may be lost.
    pub(super) lose: Option<u8>,
}

pub(super) struct Explored {
    pub(super) states: usize,
}

/// All a state is, but for the numbers that only grow.
fn shape(world: &World) -> Vec<u8> {
    let mut shape = Vec::with_capacity(96);
    for (v, vertex) in world.vertices.iter().enumerate() {
        if vertex.is_none() {
            shape.push(255);
            continue;
        }
        let Owner { todo, waiting, using, told } = &world.owners[v];
        let told = told.map_or(0, |keep| 1 + keep.is_some() as u8);
        shape.extend([todo.len() as u8, waiting[0] as u8, waiting[1] as u8, using[0] as u8, using[1] as u8, told]);
        let Some(r) = world.record(v as u8) else {
            shape.push(254);
            continue;
        };
        let place = |p: Place<u8>| if let Place::Beyond(edge) = p { edge } else { 200 };
        let mode = |m: Option<Mode>| m.map_or(0, |m| 1 + m as u8);
        let set = |edges: &std::collections::BTreeSet<u8>| edges.iter().fold(0u8, |bits, edge| bits | 1 << edge);
        shape.extend([place(r.holder), r.copy as u8, mode(r.held), r.users.shared as u8, r.users.exclusive as u8]);
        shape.extend([r.revoking.map_or(9, mode), set(&r.copies), mode(r.asked), set(&r.recalling), r.owes as u8]);
        shape.push(r.queue.len() as u8);
        shape.extend(r.queue.iter().flat_map(|w| [place(w.who), w.mode as u8, w.users as u8]));
    }
    for ((from, to), messages) in &world.wires {
        shape.extend([250, *from, *to]);
        shape.extend(messages.iter().map(|m| match m.say {
            Say::Want(Shared) => 0,
            Say::Want(Exclusive) => 1,
            Say::Copy(_) => 2,
            Say::Token(_) => 3,
            Say::Recall => 4,
            Say::Recalled { .. } => 5,
            Say::Dropped { .. } => 6,
        }));
    }
    shape
}

/// What an owner may do of its own accord.
fn free(world: &World, freely: Freely) -> Vec<Event> {
    let mut free = Vec::new();
    for v in world.living() {
        let owner = world.owner(v);
        let next = owner.todo.front().copied();
        if owner.waiting == [0, 0] {
            free.extend(next.map(|mode| Event::Want(v, mode)));
            if freely.upgrade && owner.using[0] > 0 && next == Some(Exclusive) {
                free.push(Event::Upgrade(v));
            }
        }
        if owner.told == Some(Some(Shared)) && owner.using == [0, 0] {
            free.push(Event::Revoked(v));
        }
        if freely.tidy && owner.told.is_none() && owner.using == [0, 0] {
            let held = world.vertex(v).and_then(|x| x.held(OBJECT));
            free.extend((held == Some(Exclusive)).then_some(Event::Downgrade(v)));
            free.extend(held.is_some().then_some(Event::Revoked(v)));
            let at_root = v == 0 && world.vertex(0).is_some_and(|x| x.holder(OBJECT).is_none());
            let idle = !at_root && world.record(v).is_some_and(|r| r.is_idle() && r.copy);
            free.extend(idle.then_some(Event::Tidy(v)));
        }
    }
    free.extend(freely.lose.filter(|leaf| world.vertex(*leaf).is_some()).map(Event::Lose));
    free
}

fn after(world: &World, event: Event) -> Result<World, String> {
    let mut next = world.clone();
    next.heard.clear();
    if let Event::Want(v, _) | Event::Upgrade(v) = event {
        next.owners[v as usize].todo.pop_front();
    }
    next.happen(event)?;
    next.check()?;
    Ok(next)
}

struct Search {
    numbers: BTreeMap<Vec<u8>, u32>,
    /// How each state was first reached.
    paths: Vec<Option<(u32, Event)>>,
    before: Vec<Vec<u32>>,
    done: Vec<u32>,
}

impl Search {
    fn story(&self, mut state: u32, what: String) -> String {
        let mut events = Vec::new();
        while let Some((before, event)) = self.paths[state as usize] {
            events.push(format!("{event:?}"));
            state = before;
        }
        events.reverse();
        format!("{what}\nafter {}", events.join(", "))
    }

    /// Every state from which no path leads to an end.
    fn stuck(&self) -> Option<u32> {
        let mut good = vec![false; self.paths.len()];
        let mut todo: VecDeque<u32> = self.done.iter().copied().collect();
        while let Some(state) = todo.pop_front() {
            if !std::mem::replace(&mut good[state as usize], true) {
                todo.extend(self.before[state as usize].iter().filter(|b| !good[**b as usize]));
            }
        }
        good.iter().position(|good| !good).map(|state| state as u32)
    }
}

/// Explores all that can happen to a tree (the parents of vertices 1, 2 …) whose vertices make these wants in their order.
pub(super) fn explore(
    parents: &[u8],
    wants: &[(u8, Mode)],
    freely: Freely,
    planted: Option<Planted>,
) -> Result<Explored, String> {
    let mut start = World::new(parents);
    for (v, mode) in wants {
        start.owners[*v as usize].todo.push_back(*mode);
    }
    for vertex in start.vertices.iter_mut().flatten() {
        vertex.out.planted = planted;
    }
    let mut search = Search {
        numbers: BTreeMap::from([(shape(&start), 0)]),
        paths: vec![None],
        before: vec![Vec::new()],
        done: Vec::new(),
    };
    let mut todo = VecDeque::from([(0u32, start)]);
    while let Some((number, world)) = todo.pop_front() {
        let due = world.due();
        if due.is_empty() {
            world.check_calm().map_err(|what| search.story(number, what))?;
            if world.owners.iter().all(|owner| owner.todo.is_empty()) {
                search.done.push(number);
            }
        }
        for event in due.into_iter().chain(free(&world, freely)) {
            let next = after(&world, event).map_err(|what| search.story(number, format!("{event:?}: {what}")))?;
            let fresh = search.paths.len() as u32;
            let reached = *search.numbers.entry(shape(&next)).or_insert(fresh);
            if reached == fresh {
                search.paths.push(Some((number, event)));
                search.before.push(Vec::new());
                todo.push_back((fresh, next));
            }
            search.before[reached as usize].push(number);
        }
    }
    match search.stuck() {
        Some(state) => Err(search.story(state, "no way leads to an end".into())),
        None => Ok(Explored { states: search.paths.len() }),
    }
}

pub(super) const TIDY: Freely = Freely { tidy: true, upgrade: false, lose: None };
pub(super) const UPGRADE: Freely = Freely { tidy: false, upgrade: true, lose: None };

fn explored(parents: &[u8], wants: &[(u8, Mode)], freely: Freely, at_least: usize) {
    match explore(parents, wants, freely, None) {
        Ok(Explored { states }) => {
            println!("{states} states");
            assert!(states > at_least, "only {states} states: was anything explored?");
        }
        Err(story) => panic!("{story}"),
    }
}

#[test]
fn line_of_three_with_tidying() {
    let wants = [(0, Shared), (0, Exclusive), (1, Exclusive), (1, Shared), (2, Shared), (2, Exclusive), (2, Shared)];
    explored(&[0, 1], &wants, TIDY, 15_000);
}

#[test]
fn star_of_four_with_tidying() {
    let wants = [(0, Exclusive), (1, Shared), (1, Exclusive), (2, Shared), (2, Exclusive), (3, Exclusive)];
    explored(&[0, 0, 0], &wants, TIDY, 30_000);
}

#[test]
fn line_of_four_with_tidying() {
    let wants = [(0, Exclusive), (1, Shared), (2, Exclusive), (2, Shared), (3, Shared), (3, Exclusive)];
    explored(&[0, 1, 2], &wants, TIDY, 20_000);
}

#[test]
fn everybody_wants_often_on_a_line_of_three() {
    let mut wants = Vec::new();
    for v in 0..3 {
        wants.extend([(v, Shared), (v, Exclusive), (v, Shared), (v, Exclusive)]);
    }
    explored(&[0, 1], &wants, UPGRADE, 30_000);
}

#[test]
fn everybody_wants_both_on_a_star_of_four() {
    let wants = [(0, Shared), (1, Shared), (1, Exclusive), (2, Shared), (2, Exclusive), (3, Shared), (3, Exclusive)];
    explored(&[0, 0, 0], &wants, UPGRADE, 30_000);
}

#[test]
fn everybody_wants_both_on_a_line_of_four() {
    let wants = [(0, Exclusive), (1, Shared), (1, Exclusive), (2, Shared), (2, Exclusive), (3, Shared), (3, Exclusive)];
    explored(&[0, 1, 2], &wants, UPGRADE, 30_000);
}

#[test]
fn two_copies_upgrade_at_once() {
    let wants = [(0, Shared), (1, Shared), (1, Exclusive), (2, Shared), (2, Exclusive), (2, Shared)];
    explored(&[0, 0], &wants, Freely { tidy: true, ..UPGRADE }, 5_000);
}

#[test]
fn a_leaf_of_a_line_is_lost() {
    let wants = [(0, Exclusive), (0, Shared), (1, Shared), (1, Exclusive), (2, Shared), (2, Exclusive), (2, Shared)];
    explored(&[0, 1], &wants, Freely { lose: Some(2), ..TIDY }, 10_000);
}

#[test]
fn a_leaf_of_a_star_is_lost() {
    let wants = [(0, Shared), (1, Shared), (1, Exclusive), (2, Shared), (2, Exclusive), (3, Exclusive)];
    explored(&[0, 0, 0], &wants, Freely { lose: Some(1), ..TIDY }, 10_000);
}

#[test]
fn a_leaf_is_lost_below_a_vertex_with_another() {
    let wants = [(0, Exclusive), (1, Shared), (2, Shared), (2, Exclusive), (3, Shared), (3, Exclusive)];
    explored(&[0, 1, 1], &wants, Freely { lose: Some(2), ..UPGRADE }, 15_000);
}
