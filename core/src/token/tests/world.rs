//! A tree of vertices, their owners, and the wires between them, for one object; what every test stands on.
//!
//! A vertex's edges are named by the vertex beyond them. Vertex 0 is the root. Messages wait on their wire until they are
//! delivered one by one.

use crate::token::record::{Place, Record, Waiting};
use crate::token::{Message, Mode, Output, Refusal, Say, Vertex, Wanted};
use crate::types::Ino;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(super) const OBJECT: Ino = Ino(7);

/// Something that can happen in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Want(u8, Mode),
    Done(u8, Mode),
    Upgrade(u8),
    Downgrade(u8),
    Revoked(u8),
    Tidy(u8),
    Deliver(u8, u8),
    Lose(u8),
}

/// What vertices said, for the tests that read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Sent { from: u8, to: u8, messages: Vec<Message> },
    Granted { to: u8, mode: Mode, stamp: u64 },
    Revoke { from: u8, keep: Option<Mode> },
}

/// What a vertex's owner has on its mind.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    pub(super) todo: VecDeque<Mode>,
    /// Wants not granted yet: shared, exclusive.
    pub(super) waiting: [u32; 2],
    pub(super) using: [u32; 2],
    pub(super) told: Option<Option<Mode>>,
}

#[derive(Clone, Debug)]
pub(super) struct World {
    /// `None` is a vertex that was lost.
    pub(super) vertices: Vec<Option<Vertex<u8>>>,
    pub(super) owners: Vec<Owner>,
    pub(super) parents: Vec<u8>,
    pub(super) wires: BTreeMap<(u8, u8), VecDeque<Message>>,
    pub(super) heard: Vec<Heard>,
    /// Grows with each change that an owner makes under an exclusive use: what a stamp must have reached.
    pub(super) index: u64,
    /// The serial of the last token that went anywhere.
    last_token: u64,
}

type Line = Vec<(Place<u8>, Mode)>;

impl World {
    /// The parent of vertex 1, of vertex 2, and so on.
    pub(super) fn new(parents: &[u8]) -> World {
        let parents: Vec<u8> = std::iter::once(0).chain(parents.iter().copied()).collect();
        let count = parents.len();
        let up = |v: usize| (v > 0).then(|| parents[v]);
        let mut vertices: Vec<Option<Vertex<u8>>> = (0..count).map(|v| Some(Vertex::new(up(v)))).collect();
        for v in 1..count {
            vertices[parents[v] as usize].as_mut().unwrap().edge_added(v as u8);
        }
        let owners = vec![Owner::default(); count];
        World { vertices, owners, parents, wires: BTreeMap::new(), heard: Vec::new(), index: 0, last_token: 0 }
    }

    pub(super) fn vertex(&self, v: u8) -> Option<&Vertex<u8>> {
        self.vertices[v as usize].as_ref()
    }

    pub(super) fn record(&self, v: u8) -> Option<&Record<u8>> {
        self.vertex(v)?.records.get(&OBJECT)
    }

    pub(super) fn living(&self) -> impl Iterator<Item = u8> + '_ {
        (0..self.vertices.len() as u8).filter(|v| self.vertex(*v).is_some())
    }

    pub(super) fn owner(&self, v: u8) -> &Owner {
        &self.owners[v as usize]
    }

    fn line(&self, v: u8) -> Line {
        self.record(v).map_or(Vec::new(), |r| r.queue.iter().map(|w: &Waiting<u8>| (w.who, w.mode)).collect())
    }

    /// Lets it happen, and complains about what no vertex may do.
    pub(super) fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Want(v, mode) => self.want(v, mode),
            Event::Upgrade(v) => {
                self.done(v, Mode::Shared)?;
                self.want(v, Mode::Exclusive)
            }
            Event::Done(v, mode) => self.done(v, mode),
            Event::Downgrade(v) => self.let_go(v, true),
            Event::Revoked(v) => self.let_go(v, false),
            Event::Tidy(v) => {
                self.at(v).tidy(OBJECT);
                self.carry(v).map(|_| ())
            }
            Event::Deliver(from, to) => self.deliver(from, to),
            Event::Lose(leaf) => self.lose(leaf),
        }
    }

    pub(super) fn at(&mut self, v: u8) -> &mut Vertex<u8> {
        self.vertices[v as usize].as_mut().expect("a vertex that was not lost")
    }

    fn want(&mut self, v: u8, mode: Mode) -> Result<(), String> {
        let mut line = self.line(v);
        match self.at(v).want(OBJECT, mode) {
            Wanted::Granted { stamp } => {
                if !line.is_empty() {
                    return Err(format!("{v} overtakes {line:?}"));
                }
                self.begin(v, mode, 1, stamp)?;
                let none = self.carry(v)?;
                if none.is_empty() { Ok(()) } else { Err(format!("a grant at once also served {none:?}")) }
            }
            Wanted::Queued => {
                self.owners[v as usize].waiting[mode as usize] += 1;
                if !line.contains(&(Place::Here, mode)) {
                    line.push((Place::Here, mode));
                }
                self.carry_in_turn(v, line)
            }
        }
    }

    fn done(&mut self, v: u8, mode: Mode) -> Result<(), String> {
        if mode == Mode::Exclusive {
            self.index += 1;
        }
        self.owners[v as usize].using[mode as usize] -= 1;
        self.at(v).done(OBJECT, mode).map_err(|e| e.to_string())
    }

    /// The owner answers what it was told, or lets go of its own accord.
    fn let_go(&mut self, v: u8, keeps_sharing: bool) -> Result<(), String> {
        let (line, index) = (self.line(v), self.index);
        let owner = &mut self.owners[v as usize];
        if !keeps_sharing || owner.told == Some(Some(Mode::Shared)) {
            owner.told = None;
        }
        let vertex = self.at(v);
        let outcome = if keeps_sharing { vertex.downgrade(OBJECT, index) } else { vertex.revoked(OBJECT, index) };
        outcome.map_err(|e| e.to_string())?;
        self.carry_in_turn(v, line)
    }

    fn deliver(&mut self, from: u8, to: u8) -> Result<(), String> {
        let wire = self.wires.get_mut(&(from, to)).ok_or("an empty wire")?;
        let message = wire.pop_front().ok_or("an empty wire")?;
        if wire.is_empty() {
            self.wires.remove(&(from, to));
        }
        let mut line = self.line(to);
        if let Say::Want(mode) = message.say
            && self.at(to).holder(OBJECT) != Some(from)
        {
            line.push((Place::Beyond(from), mode));
        }
        let refused = |e: Refusal| format!("{to} refuses {message:?} from {from}: {e}");
        self.at(to).receive(from, message).map_err(refused)?;
        self.carry_in_turn(to, line)
    }

    fn lose(&mut self, leaf: u8) -> Result<(), String> {
        let parent = self.parents[leaf as usize];
        let lost = self.vertices[leaf as usize].take().ok_or("it was lost before")?;
        if lost.held(OBJECT) == Some(Mode::Exclusive) {
            self.index += 1;
        }
        self.owners[leaf as usize] = Owner::default();
        self.wires.retain(|(from, to), _| *from != leaf && *to != leaf);
        let index = self.index;
        let mut line = self.line(parent);
        line.retain(|(who, _)| *who != Place::Beyond(leaf));
        self.at(parent).edge_lost(leaf, index).map_err(|e| e.to_string())?;
        self.carry_in_turn(parent, line)
    }

    /// Carries the outputs, and checks that of those in line, from the first on, just those were served who left it.
    fn carry_in_turn(&mut self, v: u8, mut line: Line) -> Result<(), String> {
        let served = self.carry(v)?;
        let waiting = self.line(v);
        let left =
            line.len().checked_sub(waiting.len()).ok_or_else(|| format!("{v}: who else waits in {waiting:?}?"))?;
        if line.split_off(left) != waiting {
            return Err(format!("{v}: the line is {waiting:?}, after {line:?} left it"));
        }
        let left: BTreeSet<_> = line.into_iter().collect();
        if left != served {
            return Err(format!("{v}: {left:?} left the line, {served:?} was served"));
        }
        Ok(())
    }

    /// Puts on wires what a vertex says, tells its owner what it is told; who was served by it?
    fn carry(&mut self, v: u8) -> Result<BTreeSet<(Place<u8>, Mode)>, String> {
        let mut served = BTreeSet::new();
        for output in self.at(v).outputs() {
            match output {
                Output::Send { edge, messages } => {
                    for message in &messages {
                        if let Say::Token(grant) = message.say
                            && std::mem::replace(&mut self.last_token, grant.serial) >= grant.serial
                        {
                            return Err(format!("{v}: the token's serial goes back to {}", grant.serial));
                        }
                        match message.say {
                            Say::Copy(_) => served.insert((Place::Beyond(edge), Mode::Shared)),
                            Say::Token(_) => served.insert((Place::Beyond(edge), Mode::Exclusive)),
                            _ => false,
                        };
                        self.wires.entry((v, edge)).or_default().push_back(*message);
                    }
                    self.heard.push(Heard::Sent { from: v, to: edge, messages });
                }
                Output::Granted { mode, stamp, users, .. } => {
                    served.insert((Place::Here, mode));
                    let waiting = &mut self.owners[v as usize].waiting[mode as usize];
                    if *waiting != users {
                        return Err(format!("{v}: {waiting} waited, {users} were granted"));
                    }
                    *waiting = 0;
                    self.heard.push(Heard::Granted { to: v, mode, stamp });
                    self.begin(v, mode, users, stamp)?;
                }
                Output::Revoke { keep, .. } => {
                    if self.owners[v as usize].told.replace(keep).is_some() {
                        return Err(format!("{v}: revoked twice"));
                    }
                    self.heard.push(Heard::Revoke { from: v, keep });
                }
            }
        }
        Ok(served)
    }

    fn begin(&mut self, v: u8, mode: Mode, users: u32, stamp: u64) -> Result<(), String> {
        let owner = &mut self.owners[v as usize];
        owner.using[mode as usize] += users;
        if owner.told.is_some() {
            return Err(format!("{v}: granted while it is to end what it holds"));
        }
        // Exclusive uses of one vertex overlap, and their changes are no news to each other.
        let own = owner.using[1] > 0 || self.vertex(v).is_some_and(|x| x.held(OBJECT) == Some(Mode::Exclusive));
        if stamp < self.index && !own {
            return Err(format!("{v}: granted at {stamp}, the object is at {}", self.index));
        }
        Ok(())
    }

    /// The invariants that span vertices.
    pub(super) fn check(&self) -> Result<(), String> {
        let held = |v: &u8| self.vertex(*v).and_then(|x| x.held(OBJECT));
        let copy = |v: u8| self.record(v).map_or(v == 0, |r| r.copy);
        let exclusive: Vec<u8> = self.living().filter(|v| held(v) == Some(Mode::Exclusive)).collect();
        if let [one, others @ ..] = &exclusive[..] {
            if !others.is_empty() {
                return Err(format!("{exclusive:?} hold exclusively"));
            }
            if let Some(v) = self.living().find(|v| v != one && (held(v).is_some() || copy(*v))) {
                return Err(format!("{v} shares beside {one}"));
            }
            if self.wires.values().flatten().any(|m| matches!(m.say, Say::Copy(_))) {
                return Err(format!("a copy is under way beside {one}"));
            }
        }
        let here = self.living().filter(|v| self.at_rest(*v)).count();
        let moving = self.wires.values().flatten().filter(|m| matches!(m.say, Say::Token(_))).count();
        if here + moving != 1 {
            return Err(format!("{} tokens", here + moving));
        }
        for v in self.living() {
            self.check_vertex(v)?;
        }
        Ok(())
    }

    fn at_rest(&self, v: u8) -> bool {
        self.vertex(v).is_some_and(|x| x.holder(OBJECT).is_none())
    }

    fn check_vertex(&self, v: u8) -> Result<(), String> {
        let Some(r) = self.record(v) else { return Ok(()) };
        let here = r.holder == Place::Here;
        let edge_waits = |w: &Waiting<u8>| r.queue.iter().filter(|other| other.who == w.who).count();
        let rules = [
            (!here || (r.copy && !r.owes && r.asked.is_none()), "who has the token has a copy, owes and asks nothing"),
            (
                r.held != Some(Mode::Exclusive) || (here && r.copies.is_empty()),
                "exclusive without the token, or with copies",
            ),
            (r.held.is_none() || r.copy || r.owes, "held without a copy"),
            (r.revoking.is_none() || r.held > r.revoking.flatten(), "nothing to revoke"),
            (r.users.exclusive == 0 || r.held == Some(Mode::Exclusive), "exclusive users of nothing"),
            (r.users.shared == 0 || r.held.is_some(), "users of nothing"),
            (r.queue.iter().all(|w| edge_waits(w) <= 2), "a queue with three of one edge"),
            (r.copies.is_empty() || r.copy || r.owes, "copies of nothing"),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(format!("{v}: {what}: {r:?}")),
            None => Ok(()),
        }
    }

    /// What has to happen, sooner or later: uses end, revocations are answered, messages arrive.
    pub(super) fn due(&self) -> Vec<Event> {
        let mut due: Vec<Event> = self.wires.keys().map(|(from, to)| Event::Deliver(*from, *to)).collect();
        for v in self.living() {
            let Owner { using: [shared, exclusive], told, .. } = *self.owner(v);
            due.extend((shared > 0).then_some(Event::Done(v, Mode::Shared)));
            due.extend((exclusive > 0).then_some(Event::Done(v, Mode::Exclusive)));
            match told {
                Some(Some(_)) if exclusive == 0 => due.push(Event::Downgrade(v)),
                Some(_) if shared + exclusive == 0 => due.push(Event::Revoked(v)),
                _ => {}
            }
        }
        due
    }

    /// Nothing is due: then nobody may be waiting.
    pub(super) fn check_calm(&self) -> Result<(), String> {
        for v in self.living() {
            if self.owner(v).waiting != [0, 0] {
                return Err(format!("{v} waits for ever"));
            }
            let at_rest = self.record(v).is_none_or(|r| {
                let nothing_due = r.recalling.is_empty() && r.revoking.is_none() && !r.owes;
                r.queue.is_empty() && r.asked.is_none() && nothing_due
            });
            if !at_rest {
                return Err(format!("{v} is not at rest: {:?}", self.record(v)));
            }
        }
        Ok(())
    }

    /// Lets everything due happen, in an order of its own.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        while let Some(event) = self.due().first().copied() {
            self.happen(event)?;
            self.check()?;
        }
        self.check_calm()
    }
}
