//! # Copies: what mounts may answer without asking, and how that ends before it is wrong
//!
//! A node knows which of its mounts has a copy of what. A mount gets copies along with an answer, of objects that the node
//! holds ([`super::tokens`]); with them it answers its programs, and lets its kernel answer them. A command that may change an
//! object waits until this node holds it exclusively and none of its other mounts has a copy of it:
//!
//! ```text
//!   command --touches--> objects --tokens--+--> nobody has copies ------------------> let in, applied, answered
//!                                          +--> Recall to who has them --Returned--> -^
//!                                                             \--silent: when its lease is over
//! ```
//! From when a command waits until it is applied, no new copy of what it touches is given out. Questions never wait: they are
//! answered from the state as it is, then without a copy. So a mount that works off a recall can always have its programs'
//! questions answered, and what it has to wait for is at most the end of times it gave its own kernel.
//!
//! **Who asked.** A command's own mount gives back attributes and the like as everybody does, but keeps its copies of the
//! names that the command changes: its kernel is in the middle of changing them, with the directory locked, and could not let
//! go of them before it has the reply. For a rename, knowing the old name means knowing the new one afterwards.
//!
//! **Names** are changed by one command at a time, because what a command touches depends on what its names stand for. Where
//! it had to wait for tokens they may stand for something else by then: it is looked again.
//!
//! **Time.** Copies are good for as long as the leader is sure to lead ([`super::lease`]): a mount asks again and again, and
//! counts from when it asked; a node that does not lead asks the leader in the same way, and gives its mounts no more than it
//! was given. So a new leader owes nothing to what another node gave out: all that is over. Only a node that leads again must
//! wait for the end of what it gave out itself before ([`Copies::closed_until`]).
//!
//! **Peace.** What was just recalled is not given out again for a while: where many change one directory, everybody asks.
//!
//! Invariants:
//! * what a mount uses a copy of is in `of`, or the mount's lease is over;
//! * an object in `changing` is given to nobody;
//! * a copy that was asked back is not given to the same mount again before it said `Returned`.

use super::NodeMachine;
use super::io::Conn;
use super::messages::{Item, ToPeer};
use super::status::CopiesStatus;
use crate::meta::Fact;
use crate::session::{Command, ToMount};
use crate::types::{Ino, Name, Object, SessionId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// For so long after a recall an object is not given out again.
const PEACE_US: u64 = 1_000_000;
/// Commands in one message to the leader, and about the bytes in them. Few: looking whether there is room goes through them.
const COMMANDS_TOGETHER: usize = 64;
const BYTES_TOGETHER: usize = 1 << 20;
/// What was let in is sent to the leader again where nothing of its session was carried out for so long.
const HELD_AGAIN_US: u64 = 500_000;
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
    /// How many copies of a file's or directory's objects are given out.
    given_of: BTreeMap<Ino, u32>,
    /// How many commands that wait, or are not applied yet, touch an object.
    changing: BTreeMap<Object, u32>,
    /// Until when no copies are given out of an object; of a directory's names together.
    peace: BTreeMap<(Ino, bool), u64>,
    /// Commands that wait, and behind them all others of their session.
    waiting: BTreeMap<SessionId, VecDeque<Waiting>>,
    /// What the commands touch that were let in and not applied yet.
    under_way: BTreeMap<(SessionId, u64), LetIn>,
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
    /// Another node let it in: it waits for its turn alone.
    held_elsewhere: bool,
    /// What it touches, as far as is known.
    objects: Option<Vec<Object>>,
    /// What it has to hold for that, in the order in which it is taken.
    tokens: Vec<Ino>,
    /// How many of them it has, and whether the next one was wanted.
    has: usize,
    wants: bool,
    /// What it touches was looked at while it held all of it.
    sure: bool,
}

impl Waiting {
    fn new(item: Item, since: u64, held_elsewhere: bool) -> Waiting {
        let (tokens, has, wants, sure) = (Vec::new(), 0, false, held_elsewhere);
        Waiting { item, since, held_elsewhere, objects: None, tokens, has, wants, sure }
    }

    fn number(&self) -> u64 {
        if let Item::Command { command, .. } = &self.item { command.number } else { 0 }
    }
}

/// What a command touches, and holds, until it is applied.
struct LetIn {
    objects: Vec<Object>,
    tokens: Vec<Ino>,
    /// At a node that does not lead: the command itself, and when it was sent to the leader last. Its mount may go elsewhere
    /// and send it by another way, and there it would wait for what is held here for it.
    sent: Option<(Command, u64)>,
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
            if by.remove(&conn).is_some()
                && let Some(given) = self.given_of.get_mut(&object.ino())
            {
                *given -= 1;
                if *given == 0 {
                    self.given_of.remove(&object.ino());
                }
            }
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
    pub(super) fn expire(&mut self, now: u64) {
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
        if self.asked_back(conn, object) == Some(true) {
            return false;
        }
        self.insert(conn, object, now);
        true
    }

    fn insert(&mut self, conn: Conn, object: &Object, now: u64) {
        let Some(holder) = self.holders.get_mut(&conn) else { return };
        if holder.has.insert(object.clone()) {
            let given = Given { since: now, asked_back: None };
            self.of.entry(object.clone()).or_default().insert(conn, given);
            *self.given_of.entry(object.ino()).or_default() += 1;
            self.given += 1;
        }
    }

    /// Whether any mount has a copy of anything of this.
    pub(super) fn are_given(&self, ino: Ino) -> bool {
        self.given_of.contains_key(&ino)
    }

    /// Everything of this that mounts have copies of.
    fn given_objects(&self, ino: Ino) -> Vec<Object> {
        if !self.are_given(ino) {
            return Vec::new();
        }
        let whole = [Object::Whole(ino), Object::Rights(ino)];
        let mut given: Vec<Object> = whole.into_iter().filter(|object| self.of.contains_key(object)).collect();
        let names = Object::Entry(ino, Name::first())..;
        let of_dir = |object: &&Object| matches!(object, Object::Entry(dir, _) if *dir == ino);
        given.extend(self.of.range(names).map(|(object, _)| object).take_while(of_dir).cloned());
        given
    }

    /// Whether anything of this is about to change.
    pub(super) fn is_changing(&self, object: &Object) -> bool {
        self.changing.contains_key(object)
    }

    pub(super) fn given_inos(&self) -> Vec<Ino> {
        self.given_of.keys().copied().collect()
    }

    pub(super) fn is_let_in(&self, session: SessionId, number: u64) -> bool {
        self.under_way.contains_key(&(session, number))
    }

    /// Something of the session was carried out: what comes behind it is not lost.
    fn hears_of(&mut self, session: SessionId, now: u64) {
        let mut of_session = self.under_way.range_mut((session, 0)..=(session, u64::MAX));
        if let Some((_, LetIn { sent: Some((_, at)), .. })) = of_session.next() {
            *at = now;
        }
    }

    pub(super) fn is_waiting(&self, session: SessionId) -> bool {
        self.waiting.contains_key(&session)
    }

    fn waits(&self, session: SessionId, number: u64) -> bool {
        self.waiting.get(&session).is_some_and(|list| list.iter().any(|waiting| waiting.number() == number))
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
        let names = objects.iter().filter(|object| matches!(object, Object::Entry(..)));
        if names.clone().any(|name| self.of.get(name).is_some_and(|holders| holders.contains_key(&conn))) {
            for name in names {
                self.insert(conn, name, now);
            }
        }
    }

    /// The mounts of a node that is in another tree from now on: what they have ends with their leases, which are not renewed
    /// before they said that they have nothing.
    pub(super) fn begin_anew_in_another_tree(&mut self) {
        *self = Copies { given: self.given, recalled: self.recalled, ..Copies::closed_until(self.closed_until) };
    }
}

/// Whether another command may go into the same message: not so many that the other side would not take it.
fn has_room(commands: &[Command]) -> bool {
    commands.len() < COMMANDS_TOGETHER && commands.iter().map(Command::weight).sum::<usize>() < BYTES_TOGETHER
}

/// A command's own mount keeps its names.
fn keeps(object: &Object, conn: Conn, by: Option<Conn>) -> bool {
    matches!(object, Object::Entry(..)) && by == Some(conn)
}

fn quiet(object: &Object) -> (Ino, bool) {
    (object.ino(), !matches!(object, Object::Whole(_)))
}

impl NodeMachine {
    /// Takes a command in: it is proposed as soon as nobody else has a copy of what it touches, and after all that its session
    /// sent before it.
    ///
    /// `held_elsewhere`: another node let it in, and it waits for nothing but its turn.
    pub(super) fn let_in(&mut self, item: Item, held_elsewhere: bool) {
        let Item::Command { command, .. } = &item else { return self.lead.queue.push(item) };
        let (session, number) = (command.session, command.number);
        let mut waiting = Waiting::new(item, self.now.mono, held_elsewhere);
        if self.copies.waits(session, number) {
            return;
        }
        if let Some(before) = self.copies.waiting.get_mut(&session) {
            before.push_back(waiting);
        } else if self.may_change(&mut waiting) {
            self.propose_soon(waiting);
        } else {
            self.copies.waiting.insert(session, VecDeque::from([waiting]));
        }
    }

    /// Takes in what waited and need not any longer.
    pub(super) fn let_in_waiting(&mut self) {
        // Who waits longest first, or others could keep a name from it for ever.
        let waiting = self.copies.waiting.iter();
        let mut sessions: Vec<(u64, SessionId)> =
            waiting.filter_map(|(session, list)| Some((list.front()?.since, *session))).collect();
        sessions.sort_unstable();
        for (_, session) in sessions {
            let Some(mut list) = self.copies.waiting.remove(&session) else { continue };
            while let Some(first) = list.front_mut()
                && self.may_change(first)
            {
                if let Some(first) = list.pop_front() {
                    self.propose_soon(first);
                }
            }
            if !list.is_empty() {
                self.copies.waiting.insert(session, list);
            }
        }
    }

    /// Whether it came by another way too, and that was faster; or it has no session any more.
    pub(super) fn is_carried_out(&self, command: &Command) -> bool {
        self.sessions.get(&command.session).is_none_or(|session| command.number <= session.last)
    }

    /// The command is let in: here it is proposed, or sent to the leader.
    fn propose_soon(&mut self, mut waiting: Waiting) {
        if let Item::Command { command, .. } = &waiting.item
            && !self.is_leader()
            && self.is_carried_out(command)
        {
            let command = command.clone();
            self.wants_nothing(&mut waiting);
            return self.send_as_it_came(command);
        }
        let Waiting { item, objects, tokens, .. } = waiting;
        if let (Item::Command { command, .. }, Some(objects)) = (&item, objects) {
            let sent = (!self.is_leader()).then(|| (command.clone(), self.now.mono));
            self.copies.under_way.insert((command.session, command.number), LetIn { objects, tokens, sent });
        }
        match item {
            Item::Command { command, .. } if !self.is_leader() => self.send_held(command),
            item => self.lead.queue.push(item),
        }
    }

    /// The leader lets it in, or answers it.
    pub(super) fn send_as_it_came(&mut self, command: Command) {
        let Some(leader) = self.leader else { return };
        match self.out.last_mut() {
            Some(super::Output::Peer { to, message: ToPeer::Commands(commands) })
                if *to == leader && has_room(commands) =>
            {
                commands.push(command);
            }
            _ => self.send(leader, ToPeer::Commands(vec![command])),
        }
    }

    pub(super) fn send_held(&mut self, command: Command) {
        let Some(leader) = self.leader else { return };
        let view = self.tokens.view();
        match self.out.last_mut() {
            Some(super::Output::Peer { to, message: ToPeer::Held { view: v, commands } })
                if (*to, *v) == (leader, view) && has_room(commands) =>
            {
                commands.push(command);
            }
            _ => self.send(leader, ToPeer::Held { view, commands: vec![command] }),
        }
    }

    /// Whether a command can be carried out now; if not, whatever is in its way was told to go.
    fn may_change(&mut self, waiting: &mut Waiting) -> bool {
        let Item::Command { command, deny: None } = &waiting.item else { return true };
        if waiting.held_elsewhere || self.is_carried_out(command) {
            return true;
        }
        let (now, by) = (self.now.mono, self.conn_of(command.session));
        if now < self.copies.closed_until {
            return false;
        }
        let taken = |(dir, name): (Ino, &Name)| self.copies.is_changing(&Object::Entry(dir, name.clone()));
        if waiting.objects.is_none() && command.op.names().into_iter().any(taken) {
            return false;
        }
        while !waiting.sure {
            // First of all; and again when it holds what it needed then, for its names may stand for something else by now.
            if (waiting.objects.is_none() || self.has_tokens(waiting)) && self.look_what_it_touches(waiting).is_err() {
                self.stop("the state store cannot be read");
                return false;
            }
            if !self.has_tokens(waiting) {
                return false;
            }
        }
        let Some(objects) = &waiting.objects else { return true };
        let asked = self.copies.ask_back(objects, by, now);
        if asked.is_empty() {
            self.copies.share_names(objects, by, now);
            return true;
        }
        self.tell_recalls(asked);
        false
    }

    /// Sets down what a command touches and has to hold. It is sure of that if it needs nothing that it did not hold when it
    /// looked; else what it holds is given back, for everybody takes what he needs in the same order.
    fn look_what_it_touches(&mut self, waiting: &mut Waiting) -> Result<(), crate::meta::Fault> {
        let Item::Command { command, .. } = &waiting.item else { return Ok(()) };
        let objects = command.op.touches(&*self.shared.read())?;
        let mut tokens = waiting.tokens.clone();
        tokens.extend(objects.iter().map(Object::ino));
        tokens.sort_unstable();
        tokens.dedup();
        self.copies.begin(&objects);
        self.copies.end(&waiting.objects.replace(objects).unwrap_or_default());
        waiting.sure = tokens == waiting.tokens;
        if !waiting.sure {
            let before = std::mem::replace(&mut waiting.tokens, tokens);
            for ino in before.into_iter().take(std::mem::take(&mut waiting.has)) {
                self.end_use(ino);
            }
        }
        Ok(())
    }

    /// Whether it holds all that it needs, and the state here is as these tokens say.
    fn has_tokens(&mut self, waiting: &mut Waiting) -> bool {
        let at_once = waiting.has == 0 && !waiting.wants;
        while let Some(&ino) = waiting.tokens.get(waiting.has) {
            let has = if waiting.wants { self.tokens.take(ino) } else { self.tokens.want(ino, self.now.mono) };
            waiting.wants = !has;
            if !has {
                return false;
            }
            waiting.has += 1;
        }
        let applied = self.applied.0;
        let current = waiting.tokens.iter().all(|ino| self.tokens.is_current(*ino, applied));
        // Nothing happened since it looked.
        waiting.sure |= at_once && current;
        current
    }

    fn tell_recalls(&mut self, asked: BTreeMap<Conn, Vec<Object>>) {
        for (conn, objects) in asked {
            if !objects.is_empty() {
                self.tell(conn, ToMount::Recall(objects));
            }
        }
    }

    /// Every copy of anything of this is asked back, from every mount here.
    pub(super) fn recall_all_of(&mut self, ino: Ino) {
        let objects = self.copies.given_objects(ino);
        let asked = self.copies.ask_back(&objects, None, self.now.mono);
        self.tell_recalls(asked);
    }

    /// An exclusive use is over. The root keeps nothing that none of its mounts has a copy of.
    fn end_use(&mut self, ino: Ino) {
        self.tokens.end_use(ino);
        if self.is_leader() && !self.copies.are_given(ino) {
            self.tokens.let_go(ino, self.raw.raft.raft_log.committed);
        }
    }

    /// The command was carried out, or never will be.
    pub(super) fn settled(&mut self, session: SessionId, number: u64) {
        if let Some(LetIn { objects, tokens, .. }) = self.copies.under_way.remove(&(session, number)) {
            self.copies.end(&objects);
            for ino in tokens {
                self.end_use(ino);
            }
            self.copies.hears_of(session, self.now.mono);
        }
    }

    /// It will not be let in here.
    fn wants_nothing(&mut self, waiting: &mut Waiting) {
        self.copies.end(&waiting.objects.take().unwrap_or_default());
        let tokens = std::mem::take(&mut waiting.tokens);
        if std::mem::take(&mut waiting.wants)
            && let Some(ino) = tokens.get(waiting.has)
        {
            self.tokens.withdraw(*ino);
        }
        for ino in tokens.into_iter().take(std::mem::take(&mut waiting.has)) {
            self.end_use(ino);
        }
    }

    /// At the leader: another node let in what waits here, and holds what it needs. Whether it waits here.
    pub(super) fn was_let_in_elsewhere(&mut self, session: SessionId, number: u64) -> bool {
        let Some(mut list) = self.copies.waiting.remove(&session) else { return false };
        let found = list.iter_mut().find(|waiting| waiting.number() == number);
        let waits = found.is_some();
        if let Some(waiting) = found {
            self.wants_nothing(waiting);
            (waiting.held_elsewhere, waiting.sure) = (true, true);
        }
        self.copies.waiting.insert(session, list);
        waits
    }

    /// What was let in here is sent again where nothing of its session was carried out for a while.
    pub(super) fn send_held_again(&mut self) {
        let now = self.now.mono;
        let mut again = Vec::new();
        let mut silent = None;
        let mut before = None;
        for ((session, _), let_in) in &mut self.copies.under_way {
            let Some((command, at)) = &mut let_in.sent else { continue };
            let is_first = before.replace(*session) != Some(*session);
            if is_first && now >= *at + HELD_AGAIN_US {
                silent = Some(*session);
            }
            if silent == Some(*session) {
                *at = now;
                again.push(command.clone());
            }
        }
        for command in again {
            self.send_held(command);
        }
    }

    /// The session's mount sends again what waits here, perhaps somewhere else.
    pub(super) fn nothing_waits_of(&mut self, session: SessionId) {
        for mut waiting in self.copies.waiting.remove(&session).into_iter().flatten() {
            self.wants_nothing(&mut waiting);
        }
    }

    /// Nothing more of this session will be carried out.
    pub(super) fn nothing_more_of(&mut self, session: SessionId) {
        self.nothing_waits_of(session);
        self.settle_all(|id, _| id == session);
    }

    /// The state was replaced as a whole.
    pub(super) fn settle_carried_out(&mut self) {
        let sessions: BTreeMap<SessionId, u64> =
            self.sessions.iter().map(|(id, session)| (*id, session.last)).collect();
        self.settle_all(|id, number| sessions.get(&id).is_none_or(|last| number <= *last));
    }

    fn settle_all(&mut self, which: impl Fn(SessionId, u64) -> bool) {
        let done: Vec<(SessionId, u64)> =
            self.copies.under_way.keys().filter(|(id, number)| which(*id, *number)).copied().collect();
        for (id, number) in done {
            self.settled(id, number);
        }
    }

    /// What waits to be let in is not, and is sent again by whoever waits for it.
    pub(super) fn nothing_waits(&mut self) {
        for mut waiting in std::mem::take(&mut self.copies.waiting).into_values().flatten() {
            self.wants_nothing(&mut waiting);
        }
    }

    /// At the root, at the beginning of a tree in which nobody else has anything: what is under way and what its mounts have
    /// is held in it too, and what waits begins to wait anew.
    pub(super) fn hold_anew(&mut self) {
        let now = self.now.mono;
        let in_use: Vec<Ino> = self.copies.under_way.values().flat_map(|let_in| let_in.tokens.clone()).collect();
        for ino in in_use {
            let _at_once = self.tokens.want(ino, now);
        }
        for ino in self.copies.given_inos() {
            self.tokens.hold(ino, now);
        }
        for waiting in self.copies.waiting.values_mut().flatten() {
            // What another node let in it let in under the tokens of the last tree.
            (waiting.has, waiting.wants, waiting.sure, waiting.held_elsewhere) = (0, false, false, false);
        }
    }

    /// Copies of what an answer rests on, as many as can be given out.
    pub(super) fn give_copies(&mut self, conn: Conn, facts: Vec<Fact>) -> Vec<Fact> {
        let (now, applied) = (self.now.mono, self.applied.0);
        let mut given = Vec::with_capacity(facts.len());
        for fact in facts {
            let ino = fact.object.ino();
            if self.tokens.share(ino, now)
                && self.tokens.is_current(ino, applied)
                && self.copies.give(conn, &fact.object, now)
            {
                given.push(fact);
            }
        }
        given
    }

    /// Says for how long a mount may use its copies: for as long as this node may.
    pub(super) fn renew(&mut self, conn: Conn, sent: u64) {
        let now = self.now.mono;
        self.tokens.is_used(now);
        let until = self.copies_last_until();
        if until > now && self.copies.renew(conn, until) {
            self.copies_until = self.copies_until.max(until);
            self.may_have_copies(conn);
            self.tell(conn, ToMount::Lease { sent, lasts: until - now });
        }
    }

    /// Who has copies (of one object, or of all), and which commands wait for some to come back. Each node knows of its own mounts.
    pub fn copies(&self, of: Option<Ino>, max: usize) -> Vec<CopyRow> {
        let now = self.now.mono;
        let client = |session: SessionId| self.sessions.get(&session).map_or(String::new(), |s| s.client.clone());
        let wanted = |object: &Object| of.is_none_or(|ino| object.ino() == ino);
        let copies = &self.copies;
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
}
