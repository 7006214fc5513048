//! Random trees of up to 50 vertices, random schedules.

use super::planted::Planted;
use super::world::{Event, Heard, OBJECT, World};
use crate::token::Mode::{Exclusive, Shared};
use crate::token::{Grant, Message, Mode, Say, Vertex};
use proptest::prelude::*;

/// Chance, from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) % bound as u64) as usize
    }

    fn mode(&mut self) -> Mode {
        if self.below(2) == 0 { Shared } else { Exclusive }
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

fn trees() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u16>(), 1..50)
        .prop_map(|draws| draws.iter().enumerate().map(|(at, draw)| (*draw as usize % (at + 1)) as u8).collect())
}

fn to_root(world: &World, mut v: u8) -> Vec<u8> {
    let mut path = vec![v];
    while v != 0 {
        v = world.parents[v as usize];
        path.push(v);
    }
    path
}

fn distance(world: &World, a: u8, b: u8) -> usize {
    let (a, b) = (to_root(world, a), to_root(world, b));
    let shared = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    a.len() + b.len() - 2 * shared
}

fn sent(world: &World) -> usize {
    let count = |heard: &Heard| if let Heard::Sent { messages, .. } = heard { messages.len() } else { 0 };
    world.heard.iter().map(count).sum()
}

/// Whether a want has been heard all the way: on each edge from the waiting vertex to the token's it was asked for, and what
/// asks for it has arrived.
fn heard_all_the_way(world: &World, mut v: u8, mode: Mode) -> bool {
    // While a token is on its way the holders point at each other across that edge.
    for _ in 0..world.vertices.len() {
        let Some(next) = world.vertex(v).and_then(|vertex| vertex.holder(OBJECT)) else { return true };
        let asked = world.record(v).is_some_and(|record| record.asked >= Some(mode));
        let wire = world.wires.get(&(v, next));
        if !asked || wire.into_iter().flatten().any(|message| matches!(message.say, Say::Want(_))) {
            return false;
        }
        v = next;
    }
    false
}

/// How often others were granted exclusive use past each waiting want, since it was heard all the way.
struct Passed {
    grants: Vec<usize>,
    /// What `grants` said when the want was heard.
    heard: Vec<[Option<Vec<usize>>; 2]>,
    /// The most that one vertex was granted past one want.
    most: usize,
}

impl Passed {
    fn new(count: usize) -> Passed {
        Passed { grants: vec![0; count], heard: vec![[None, None]; count], most: 0 }
    }

    fn note(&mut self, world: &mut World) {
        for heard in world.heard.drain(..) {
            if let Heard::Granted { to, mode, .. } = heard {
                self.heard[to as usize][mode as usize] = None;
                self.grants[to as usize] += mode as usize;
            }
        }
        for v in world.living() {
            for mode in [Shared, Exclusive] {
                let heard = &mut self.heard[v as usize][mode as usize];
                if heard.is_none() && world.owner(v).waiting[mode as usize] > 0 && heard_all_the_way(world, v, mode) {
                    *heard = Some(self.grants.clone());
                }
                let Some(before) = heard else { continue };
                let others = (0..before.len()).filter(|other| *other != v as usize);
                let most = others.map(|other| self.grants[other] - before[other]).max();
                self.most = self.most.max(most.unwrap_or(0));
            }
        }
    }
}

/// Rounds in which everybody may want, uses end, and all that was under way arrives, in any order; what was said in one
/// step arrives in one. The most exclusive grants to one vertex that passed a waiting want.
fn most_passed(parents: &[u8], seed: u64, rounds: usize, planted: Option<Planted>) -> Result<usize, String> {
    let mut world = World::new(parents);
    world.vertices.iter_mut().flatten().for_each(|vertex| vertex.out.planted = planted);
    let mut chance = Chance(seed);
    let mut passed = Passed::new(world.vertices.len());
    let eager = 1 + chance.below(4);
    for _ in 0..rounds {
        let mut batches: Vec<Vec<Event>> = Vec::new();
        for v in world.living() {
            if world.owner(v).waiting == [0, 0] && chance.below(eager) == 0 {
                batches.push(vec![Event::Want(v, chance.mode())]);
            }
        }
        for ((from, to), messages) in &world.wires {
            batches.push(vec![Event::Deliver(*from, *to); messages.len()]);
        }
        let due = world.due().into_iter().filter(|event| !matches!(event, Event::Deliver(..)));
        batches.extend(due.map(|event| vec![event]));
        chance.shuffle(&mut batches);
        for event in batches.into_iter().flatten() {
            // What was due when the round began may have been overtaken by a grant.
            let still = matches!(event, Event::Want(..) | Event::Deliver(..)) || world.due().contains(&event);
            if still {
                world.happen(event)?;
                passed.note(&mut world);
            }
        }
        world.check()?;
    }
    world.settle()?;
    passed.note(&mut world);
    Ok(passed.most)
}

/// Any order at all, with tidying and the loss of leaves; then calm; then everything is tidied.
fn wild(parents: &[u8], seed: u64, events: usize) -> Result<World, String> {
    let mut world = World::new(parents);
    let mut chance = Chance(seed);
    for _ in 0..events {
        let v = chance.below(world.vertices.len()) as u8;
        let alive = world.vertex(v).is_some();
        let leaf = alive && v != 0 && !world.living().any(|other| other != 0 && world.parents[other as usize] == v);
        let due = world.due();
        match chance.below(20) {
            0..5 if alive => world.happen(Event::Want(v, chance.mode()))?,
            5 if alive && world.owner(v).using[0] > 0 => world.happen(Event::Upgrade(v))?,
            6 if alive => world.happen(Event::Tidy(v))?,
            7 if leaf && chance.below(8) == 0 => world.happen(Event::Lose(v))?,
            8 if alive && world.owner(v).using == [0, 0] => world.happen(Event::Revoked(v))?,
            _ if !due.is_empty() => world.happen(due[chance.below(due.len())])?,
            _ => {}
        }
        world.heard.clear();
        world.check()?;
    }
    world.settle()?;
    Ok(world)
}

fn tidy_all(world: &mut World) -> Result<(), String> {
    // A copy goes before the copy it came from, and the last copy before the token: no longer way than the tree is deep.
    for _ in 0..2 * world.vertices.len() {
        for v in world.living().collect::<Vec<_>>() {
            world.happen(Event::Revoked(v))?;
            world.happen(Event::Tidy(v))?;
        }
        world.settle()?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn alone_an_exclusive_want_costs_two_messages_an_edge(parents in trees(), seed: u64) {
        let mut world = World::new(&parents);
        let mut chance = Chance(seed);
        for _ in 0..20 {
            let holder = world.living().find(|v| world.vertex(*v).unwrap().holder(OBJECT).is_none()).unwrap();
            let v = chance.below(world.vertices.len()) as u8;
            world.heard.clear();
            world.happen(Event::Want(v, Exclusive)).unwrap();
            world.settle().unwrap();
            prop_assert!(sent(&world) <= 2 * distance(&world, v, holder), "{} messages from {v} to {holder}", sent(&world));
            prop_assert_eq!(world.vertex(v).unwrap().held(OBJECT), Some(Exclusive));
        }
    }

    /// While a want waits that was heard all the way, the token crosses each edge away from it at most once: whoever sends
    /// it away asks for it back in the same breath, and only what waited there before is served first. What is asked for
    /// meanwhile comes behind that.
    #[test]
    fn nobody_changes_twice_past_a_waiting_want(parents in trees(), seed: u64) {
        prop_assert!(most_passed(&parents, seed, 60, None).unwrap() <= 1);
    }

    #[test]
    fn after_tidying_nobody_remembers_anything(parents in trees(), seed: u64) {
        let mut world = wild(&parents, seed, 400).unwrap();
        tidy_all(&mut world).unwrap();
        for v in world.living() {
            prop_assert_eq!(world.vertex(v).unwrap().records(), 0, "{} still has {:?}", v, world.record(v));
        }
    }

    #[test]
    fn what_is_refused_changes_nothing(script in prop::collection::vec(any::<u64>(), 1..200)) {
        let mut vertex = Vertex::new(Some(0u8));
        vertex.edge_added(1);
        vertex.edge_added(2);
        for draw in script {
            let mut chance = Chance(draw);
            let (edge, object) = (chance.below(4) as u8, crate::types::Ino(chance.below(2) as u64));
            let serial = [0, 1, 5, u64::MAX][chance.below(4)].max(chance.below(9) as u64);
            let grant = Grant { serial, stamp: draw };
            let say = match chance.below(8) {
                0 => Say::Copy(grant),
                1 => Say::Token(grant),
                2 => Say::Recall,
                3 => Say::Recalled { serial },
                4 => Say::Dropped { serial },
                5 => { let _ = vertex.want(object, chance.mode()); continue }
                6 => { let _ = vertex.done(object, chance.mode()); let _ = vertex.revoked(object, 0); continue }
                _ => Say::Want(chance.mode()),
            };
            let before = format!("{vertex:?}");
            if vertex.receive(edge, Message { object, say }).is_err() {
                prop_assert_eq!(before, format!("{vertex:?}"));
            }
        }
    }
}

/// Where an exclusive want asks late, others pass it again and again.
#[test]
fn asking_late_is_found_by_how_many_pass() {
    let parents = [0, 0, 2, 2, 1, 3, 2, 2, 0, 6, 5, 10, 2];
    let most = |planted| (0..40).map(move |seed| most_passed(&parents, seed, 100, planted).unwrap()).max().unwrap();
    assert_eq!(most(None), 1);
    assert!(most(Some(Planted::AsksForTheHeadAlone)) > 1);
}
