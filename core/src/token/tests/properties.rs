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

/// How many grants to others each waiting want has seen since it was heard all the way.
struct Passed {
    grants: Vec<usize>,
    heard: Vec<[Option<usize>; 2]>,
    most: usize,
}

impl Passed {
    fn new(count: usize) -> Passed {
        Passed { grants: vec![0; count], heard: vec![[None; 2]; count], most: 0 }
    }

    /// How many grants were made to others than this one.
    fn others(&self, v: usize) -> usize {
        self.grants.iter().sum::<usize>() - self.grants[v]
    }

    fn note(&mut self, world: &mut World) {
        for heard in world.heard.drain(..) {
            if let Heard::Granted { to, mode, .. } = heard {
                self.grants[to as usize] += 1;
                self.count(to as usize, mode);
                self.heard[to as usize][mode as usize] = None;
            }
        }
        for v in world.living() {
            for mode in [Shared, Exclusive] {
                let heard = self.heard[v as usize][mode as usize].is_some();
                if !heard && world.owner(v).waiting[mode as usize] > 0 && heard_all_the_way(world, v, mode) {
                    self.heard[v as usize][mode as usize] = Some(self.others(v as usize));
                }
                self.count(v as usize, mode);
            }
        }
    }

    fn count(&mut self, v: usize, mode: Mode) {
        let passed = self.heard[v][mode as usize].map_or(0, |before| self.others(v) - before);
        self.most = self.most.max(passed);
    }
}

/// Rounds in which everybody may want, uses end, and all that was under way arrives, in any order; what was said in one
/// step arrives in one. The most grants that passed a waiting want.
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

    /// Not a theorem (single vertices were seen granted up to four times): 80,000 such trees showed no more than this.
    #[test]
    fn few_pass_a_waiting_want(parents in trees(), seed: u64) {
        let vertices = parents.len() + 1;
        let most = most_passed(&parents, seed, 60, None).unwrap();
        prop_assert!(most <= 2 * vertices, "{most} grants passed a want among {vertices} vertices");
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

/// The bound above is not met by chance: where an exclusive want asks late, more than that pass it.
#[test]
fn asking_late_is_found_by_how_many_pass() {
    let parents = [0, 0, 2, 2, 1, 3, 2, 2, 0, 6, 5, 10, 2];
    let most = |planted| (0..40).map(move |seed| most_passed(&parents, seed, 100, planted).unwrap()).max().unwrap();
    let bound = 2 * (parents.len() + 1);
    let (kept, missed) = (most(None), most(Some(Planted::AsksForTheHeadAlone)));
    assert!(kept <= bound && missed > bound, "{kept} passed, with the mistake {missed}; the bound is {bound}");
}
