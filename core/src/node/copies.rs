//! # Copies: what mounts may answer without asking, and how that ends before it is wrong
//!
//! The leader knows who has a copy of what. A mount gets copies along with an answer; with them it answers its programs, and
//! lets its kernel answer them. A command that may change an object waits until nobody else has a copy of it:
//!
//! ```text
//!   command --touches--> objects --+--> nobody has copies ----------------------> proposed, applied, answered
//!                                  +--> Recall to who has them --Returned--> ... -^
//!                                                     \--silent: when its lease is over
//! ```
//! From when a command waits until it is applied, no new copy of what it touches is given out. Questions never wait: they are
//! answered from the state as it is, then without a copy. So a mount that works off a recall can always have its programs'
//! questions answered, and what it has to wait for is at most the end of times it gave its own kernel.
//!
//! **Who asked.** A command's own mount gives back attributes and the like as everybody does, but keeps its copies of the
//! names that the command changes: its kernel is in the middle of changing them, with the directory locked, and could not let
//! go of them before it has the reply. For a rename, knowing the old name means knowing the new one afterwards.
//!
//! **Names** are changed by one command at a time, because what a command touches depends on what its names stand for.
//!
//! **Time.** Copies are good for as long as the leader is sure to lead ([`super::lease`]): a mount asks again and again, and
//! counts from when it asked. So a new leader owes nothing to what another node gave out: all that is over. Only a node that
//! leads again must wait for the end of what it gave out itself before ([`Copies::closed_until`]).
//!
//! **Peace.** What was just recalled is not given out again for a while: where many change one directory, everybody asks.
//!
//! Invariants:
//! * what a mount uses a copy of is in `of`, or the mount's lease is over;
//! * an object in `changing` is given to nobody;
//! * a copy that was asked back is not given to the same mount again before it said `Returned`.

use super::NodeMachine;
use super::io::Conn;
use super::messages::Item;
use super::status::CopiesStatus;
use crate::meta::Fact;
use crate::session::ToMount;
use crate::types::{Ino, Object, SessionId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// For so long after a recall an object is not given out again.
const PEACE_US: u64 = 1_000_000;
/// Copies given out at most: some hundred megabytes of memory.
const COPIES_MAX: usize = 1_000_000;

/// One copy that a mount has, or one object that a command waits to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyRow {
    pub object: Object,
    /// The mount.
    pub client: String,
    /// For so long, in microseconds.
    pub since: u64,
    /// It was asked back so long ago.
    pub asked_back: Option<u64>,
    /// The command that waits.
    pub waits: Option<&'static str>,
}

#[derive(Default)]
pub(super) struct Copies {
    /// By object, who has a copy.
    of: BTreeMap<Object, BTreeMap<Conn, Given>>,
    holders: BTreeMap<Conn, Holder>,
    /// How many commands that wait, or are not applied yet, touch an object.
    changing: BTreeMap<Object, u32>,
    /// Until when no copies are given out of an object; of a directory's names together.
    peace: BTreeMap<(Ino, bool), u64>,
    /// Commands that wait, and behind them all others of their session.
    waiting: BTreeMap<SessionId, VecDeque<Waiting>>,
    /// What the commands touch that were proposed and not applied yet.
    under_way: BTreeMap<(SessionId, u64), Vec<Object>>,
    /// What this node gave out before it led last is over then; commands wait for it.
    closed_until: u64,
    given: u64,
    recalled: u64,
}

/// A copy that a mount has.
#[derive(Clone, Copy)]
struct Given {
    since: u64,
    /// When it was asked back, if it was.
    asked_back: Option<u64>,
}

/// A mount that said that it had no copies, when it came or when its lease was over last, and what it was given since.
#[derive(Default)]
struct Holder {
    has: BTreeSet<Object>,
    /// When its lease is over, on this node's clock; 0: it has none yet.
    until: u64,
}

struct Waiting {
    item: Item,
    since: u64,
    /// What it touches, once that is certain.
    objects: Option<Vec<Object>>,
}

impl Copies {
    pub(super) fn closed_until(until: u64) -> Copies {
        Copies { closed_until: until, ..Copies::default() }
    }

    pub(super) fn status(&self) -> CopiesStatus {
        CopiesStatus {
            given_out: self.holders.values().map(|holder| holder.has.len() as u64).sum(),
            given: self.given,
            recalled: self.recalled,
            waiting: self.waiting.values().map(|list| list.len() as u64).sum(),
        }
    }

    pub(super) fn gave_back(&mut self, conn: Conn, objects: &[Object]) {
        for object in objects {
            if self.asked_back(conn, object) == Some(false) {
                self.remove(conn, object);
            }
        }
    }

    pub(super) fn returned(&mut self, conn: Conn, objects: &[Object]) {
        for object in objects {
            if self.asked_back(conn, object) == Some(true) {
                self.remove(conn, object);
            }
        }
    }

    /// Whether this mount's copy was asked back, if it has one.
    fn asked_back(&self, conn: Conn, object: &Object) -> Option<bool> {
        Some(self.of.get(object)?.get(&conn)?.asked_back.is_some())
    }

    pub(super) fn empty(&mut self, conn: Conn) {
        self.forget(conn);
        self.holders.insert(conn, Holder::default());
    }

    fn remove(&mut self, conn: Conn, object: &Object) {
        if let Some(by) = self.of.get_mut(object) {
            by.remove(&conn);
            if by.is_empty() {
                self.of.remove(object);
            }
        }
        if let Some(holder) = self.holders.get_mut(&conn) {
            holder.has.remove(object);
        }
    }

    fn forget(&mut self, conn: Conn) {
        let Some(holder) = self.holders.remove(&conn) else { return };
        for object in &holder.has {
            self.remove(conn, object);
        }
    }

    /// The stream is gone: what was given out on it is used until its time is over.
    pub(super) fn lost(&mut self, conn: Conn) {
        if self.holders.get(&conn).is_some_and(|h| h.until == 0) {
            self.forget(conn);
        }
    }

    /// The time is over of those who did not ask for more.
    fn expire(&mut self, now: u64) {
        let is_over = |h: &Holder| h.until > 0 && h.until <= now;
        let over: Vec<Conn> = self.holders.iter().filter(|(_, h)| is_over(h)).map(|(conn, _)| *conn).collect();
        for conn in over {
            self.forget(conn);
        }
        self.peace.retain(|_, until| *until > now);
    }

    /// The mount may use its copies until then; answers whether it may at all.
    fn renew(&mut self, conn: Conn, until: u64) -> bool {
        let Some(holder) = self.holders.get_mut(&conn) else { return false };
        holder.until = holder.until.max(until);
        true
    }

    /// Gives out a copy, if nothing speaks against it.
    fn give(&mut self, conn: Conn, object: &Object, now: u64) -> bool {
        let Some(holder) = self.holders.get_mut(&conn) else { return false };
        let peace = self.peace.get(&quiet(object)).is_some_and(|until| *until > now);
        if holder.until <= now || peace || self.changing.contains_key(object) || self.of.len() >= COPIES_MAX {
            return false;
        }
        let given = Given { since: now, asked_back: None };
        let asked_back = self.of.entry(object.clone()).or_default().entry(conn).or_insert(given).asked_back.is_some();
        if !asked_back && holder.has.insert(object.clone()) {
            self.given += 1;
        }
        !asked_back
    }

    fn begin(&mut self, objects: &[Object]) {
        for object in objects {
            *self.changing.entry(object.clone()).or_default() += 1;
        }
    }

    fn end(&mut self, objects: &[Object]) {
        for object in objects {
            if let Some(commands) = self.changing.get_mut(object) {
                *commands -= 1;
                if *commands == 0 {
                    self.changing.remove(object);
                }
            }
        }
    }

    /// What has to come back before these change, by who has it: whatever was not asked back yet is, now.
    fn ask_back(&mut self, objects: &[Object], by: Option<Conn>, now: u64) -> BTreeMap<Conn, Vec<Object>> {
        let mut asked: BTreeMap<Conn, Vec<Object>> = BTreeMap::new();
        for object in objects {
            let Some(holders) = self.of.get_mut(object) else { continue };
            for (conn, given) in holders {
                if !keeps(object, *conn, by) {
                    let new = given.asked_back.is_none();
                    given.asked_back.get_or_insert(now);
                    let list = asked.entry(*conn).or_default();
                    if new {
                        list.push(object.clone());
                        self.recalled += 1;
                        self.peace.insert(quiet(object), now + PEACE_US);
                    }
                }
            }
        }
        asked
    }

    /// Whoever knows one of the names knows all of them after a rename.
    fn share_names(&mut self, objects: &[Object], by: Option<Conn>, now: u64) {
        let Some(conn) = by else { return };
        let names = || objects.iter().filter(|object| matches!(object, Object::Entry(..)));
        if !names().any(|name| self.of.get(name).is_some_and(|holders| holders.contains_key(&conn))) {
            return;
        }
        let Some(holder) = self.holders.get_mut(&conn) else { return };
        for name in names() {
            holder.has.insert(name.clone());
            let given = Given { since: now, asked_back: None };
            self.of.entry(name.clone()).or_default().entry(conn).or_insert(given);
        }
    }

    /// The command was carried out, or never will be.
    pub(super) fn settled(&mut self, session: SessionId, number: u64) {
        if let Some(objects) = self.under_way.remove(&(session, number)) {
            self.end(&objects);
        }
    }

    pub(super) fn session_ended(&mut self, session: SessionId) {
        for waiting in self.waiting.remove(&session).into_iter().flatten() {
            self.end(&waiting.objects.unwrap_or_default());
        }
    }

    /// Nothing that was proposed is certain to come: whoever waits sends it again.
    pub(super) fn begin_anew(&mut self) {
        self.waiting.clear();
        self.under_way.clear();
        self.changing.clear();
    }
}

/// A command's own mount keeps its names.
fn keeps(object: &Object, conn: Conn, by: Option<Conn>) -> bool {
    matches!(object, Object::Entry(..)) && by == Some(conn)
}

fn quiet(object: &Object) -> (Ino, bool) {
    match object {
        Object::Whole(ino) => (*ino, false),
        Object::Rights(dir) | Object::Entry(dir, _) => (*dir, true),
    }
}

impl NodeMachine {
    /// Takes a command in: it is proposed as soon as nobody else has a copy of what it touches, and after all that its session
    /// sent before it.
    pub(super) fn let_in(&mut self, item: Item) {
        let Item::Command { command, .. } = &item else { return self.lead.queue.push_back(item) };
        let session = command.session;
        let mut waiting = Waiting { item, since: self.now.mono, objects: None };
        if let Some(before) = self.lead.copies.waiting.get_mut(&session) {
            before.push_back(waiting);
        } else if self.may_change(&mut waiting) {
            self.propose_soon(waiting);
        } else {
            self.lead.copies.waiting.insert(session, VecDeque::from([waiting]));
        }
    }

    /// Takes in what waited and need not any longer.
    pub(super) fn let_in_waiting(&mut self) {
        // Who waits longest first, or others could keep a name from it for ever.
        let waiting = self.lead.copies.waiting.iter();
        let mut sessions: Vec<(u64, SessionId)> =
            waiting.filter_map(|(session, list)| Some((list.front()?.since, *session))).collect();
        sessions.sort_unstable();
        for (_, session) in sessions {
            let Some(mut list) = self.lead.copies.waiting.remove(&session) else { continue };
            while let Some(first) = list.front_mut()
                && self.may_change(first)
            {
                if let Some(first) = list.pop_front() {
                    self.propose_soon(first);
                }
            }
            if !list.is_empty() {
                self.lead.copies.waiting.insert(session, list);
            }
        }
    }

    fn propose_soon(&mut self, waiting: Waiting) {
        if let (Item::Command { command, .. }, Some(objects)) = (&waiting.item, waiting.objects) {
            self.lead.copies.under_way.insert((command.session, command.number), objects);
        }
        self.lead.queue.push_back(waiting.item);
    }

    /// Whether a command can be carried out now; if not, whatever is in its way was told to go.
    fn may_change(&mut self, waiting: &mut Waiting) -> bool {
        let Item::Command { command, deny: None } = &waiting.item else { return true };
        let (now, by) = (self.now.mono, self.conn_of(command.session));
        let copies = &mut self.lead.copies;
        if now < copies.closed_until {
            return false;
        }
        if waiting.objects.is_none() {
            let taken = |(dir, name): (Ino, &_)| copies.changing.contains_key(&Object::Entry(dir, Clone::clone(name)));
            if command.op.names().into_iter().any(taken) {
                return false;
            }
            let Ok(objects) = command.op.touches(&*self.shared.read()) else { return true };
            copies.begin(&objects);
            waiting.objects = Some(objects);
        }
        let Some(objects) = &waiting.objects else { return true };
        let asked = copies.ask_back(objects, by, now);
        if asked.is_empty() {
            copies.share_names(objects, by, now);
            return true;
        }
        for (conn, objects) in asked {
            if !objects.is_empty() {
                self.tell(conn, ToMount::Recall(objects));
            }
        }
        false
    }

    /// Copies of what an answer rests on, as many as can be given out.
    pub(super) fn give_copies(&mut self, conn: Conn, facts: Vec<Fact>) -> Vec<Fact> {
        let now = self.now.mono;
        facts.into_iter().filter(|fact| self.lead.copies.give(conn, &fact.object, now)).collect()
    }

    /// Says for how long a mount may use its copies: for as long as this node is sure to lead.
    pub(super) fn renew(&mut self, conn: Conn, sent: u64) {
        let now = self.now.mono;
        if !self.is_leader() || !self.lead.settled() {
            return;
        }
        let until = self.lead.lease.until(self.config.id, &self.voters, now);
        if until > now && self.lead.copies.renew(conn, until) {
            self.copies_until = self.copies_until.max(until);
            self.may_have_copies(conn);
            self.tell(conn, ToMount::Lease { sent, lasts: until - now });
        }
    }

    /// Who has copies (of one object, or of all), and which commands wait for some to come back. Only the leader knows.
    pub fn copies(&self, of: Option<Ino>, max: usize) -> Vec<CopyRow> {
        let now = self.now.mono;
        let client = |session: SessionId| self.sessions.get(&session).map_or(String::new(), |s| s.client.clone());
        let wanted = |object: &Object| of.is_none_or(|ino| quiet(object).0 == ino);
        let copies = &self.lead.copies;
        let held = copies.of.iter().filter(|(object, _)| wanted(object)).flat_map(|(object, holders)| {
            holders.iter().map(move |(conn, given)| CopyRow {
                object: object.clone(),
                client: self.session_of(*conn).map_or(String::new(), client),
                since: now - given.since,
                asked_back: given.asked_back.map(|at| now - at),
                waits: None,
            })
        });
        let waiting =
            copies.waiting.iter().flat_map(|(session, list)| list.iter().map(move |waiting| (*session, waiting)));
        let waiting = waiting.flat_map(|(session, waiting)| {
            let op = if let Item::Command { command, .. } = &waiting.item { command.op.name() } else { "" };
            let objects = waiting.objects.iter().flatten().filter(|object| wanted(object));
            objects.map(move |object| CopyRow {
                object: object.clone(),
                client: client(session),
                since: now - waiting.since,
                asked_back: None,
                waits: Some(op),
            })
        });
        held.chain(waiting).take(max).collect()
    }

    pub(super) fn tick_copies(&mut self) {
        let now = self.now.mono;
        self.lead.copies.expire(now);
    }
}
