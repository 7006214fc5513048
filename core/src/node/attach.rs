//! The mounts that are connected to this node, and the questions that wait.
//!
//! A node that does not lead answers what it holds ([`super::tokens`]) and lets commands on it in; other commands and
//! questions it hands on to the leader. When something may have been lost on that way (a new leader, a broken stream) the
//! mounts are told to send *again* what is unanswered; the session table makes that harmless.

use super::NodeMachine;
use super::drain::Walked;
use super::io::{Conn, Output};
use super::messages::{Item, ToPeer};
use super::view::{answer, answer_with_all_facts, answer_with_facts};
use crate::limits::SESSION_WINDOW;
use crate::meta::{Fact, Key, Query, Store, Value};
use crate::session::{Command, Reply, ToMount, ToNode};
use crate::types::{Cred, Errno, Ino, NodeId, SessionId};
use std::collections::{BTreeMap, BTreeSet};

/// A greeting is repeated to the leader after this long without an outcome.
const GREET_AGAIN_US: u64 = 500_000;
const REPORT_US: u64 = 1_000_000;
/// A question that was handed to the leader and not answered for so long was lost on the way.
const ASKED_US: u64 = 10_000_000;
/// Questions of one node that may wait; a mount asks again what nobody answered.
const WAITING_MAX: usize = 65_536;

#[derive(Default)]
pub(super) struct Attach {
    conns: BTreeMap<Conn, Attached>,
    by_session: BTreeMap<SessionId, Conn>,
    /// Which of its mount's connections each one is: what an old one said may come late.
    links: BTreeMap<Conn, u64>,
    /// Questions handed to the leader, under this node's own ids.
    asked: BTreeMap<u64, Asked>,
    next_ask: u64,
    /// Questions that this node, as the leader, cannot answer at this moment.
    waiting: Vec<(Asker, Cred, Query)>,
    last_report: u64,
    /// Mounts to be told that locks on an object passed on.
    moved_locks: BTreeSet<(Conn, Ino)>,
    /// Mounts that said that they have no copies, and were given no lease since.
    without_copies: BTreeSet<Conn>,
    /// By session, up to which number its commands are on their way to be let in by the leader.
    travelling: BTreeMap<SessionId, u64>,
    /// What these send next may have been sent before, by another way.
    again: BTreeSet<SessionId>,
}

impl Attach {
    /// Question ids start anywhere: an answer to a question of this node's last life must not fit one of this.
    pub(super) fn new(seed: u64) -> Attach {
        Attach { next_ask: seed >> 1, ..Attach::default() }
    }

    /// The session hangs here no longer; on which connection it did.
    fn detach(&mut self, session: SessionId) -> Option<Conn> {
        self.travelling.remove(&session);
        self.again.remove(&session);
        self.by_session.remove(&session)
    }
}

/// A mount's question, under its own id, and when it was handed on.
struct Asked {
    conn: Conn,
    id: u64,
    at: u64,
}

enum Attached {
    /// Has no session yet: the leader was asked for one.
    Opening { client: String, nonce: u64, asked: u64 },
    /// Says that it has this session, of which this node does not know (yet). Whether it still exists is known once this node
    /// has applied as much as the leader had when it was asked.
    Claiming { session: SessionId, nonce: u64, asked: u64, need: Option<u64> },
    /// `heard`: it said something since the last report to the leader. `answered`: up to this number, here.
    Open { session: SessionId, heard: bool, answered: u64 },
}

#[derive(Clone, Copy)]
enum Asker {
    Mount { conn: Conn, id: u64, keep: bool },
    Peer(NodeId, u64),
}

impl NodeMachine {
    pub(super) fn tell(&mut self, conn: Conn, message: ToMount) {
        self.out.push(Output::Mount { conn, message });
    }

    pub(super) fn mount_says(&mut self, conn: Conn, message: ToNode) {
        if let Some(Attached::Open { heard, .. }) = self.attach.conns.get_mut(&conn) {
            *heard = true;
        }
        match message {
            ToNode::Hello { session, client, nonce, link } => {
                self.leave_session(conn);
                self.attach.links.insert(conn, link);
                let attached = match (session, self.attach.conns.remove(&conn)) {
                    (None, _) => Attached::Opening { client, nonce, asked: 0 },
                    // It greets again because it waits; so does this node.
                    (Some(session), Some(Attached::Claiming { session: same, nonce, asked, need }))
                        if same == session =>
                    {
                        Attached::Claiming { session, nonce, asked, need }
                    }
                    (Some(session), _) => Attached::Claiming { session, nonce, asked: 0, need: None },
                };
                self.attach.conns.insert(conn, attached);
                self.settle_claims();
                self.ask_for_sessions();
            }
            ToNode::Commands(commands) => self.commands_from_mount(conn, commands),
            ToNode::Ask { id, cred, query, keep } => self.ask_from_mount(conn, id, cred, query, keep),
            ToNode::Renew { sent } => self.renew(conn, sent),
            ToNode::GaveBack(objects) => self.copies.gave_back(conn, &objects),
            ToNode::Returned(objects) => self.copies.returned(conn, &objects),
            ToNode::Empty => {
                self.attach.without_copies.insert(conn);
                if self.tokens.is_member() {
                    self.copies.empty(conn);
                }
            }
            ToNode::Alive => {
                if let Some(session) = self.session_of(conn) {
                    self.lead.heard(session, self.now.mono);
                }
            }
            ToNode::Holds { round, inos } => self.mount_holds(conn, round, inos),
            ToNode::Goodbye => {
                if let Some(session) = self.session_of(conn) {
                    self.end_session(session);
                }
            }
        }
    }

    pub(super) fn mount_lost(&mut self, conn: Conn) {
        self.leave_session(conn);
        self.attach.conns.remove(&conn);
        self.attach.links.remove(&conn);
        self.attach.asked.retain(|_, asked| asked.conn != conn);
        self.attach.without_copies.remove(&conn);
        self.copies.lost(conn);
    }

    /// The session of this connection, if it has one, is not at it any more.
    fn leave_session(&mut self, conn: Conn) {
        if let Some(session) = self.session_of(conn)
            && self.attach.by_session.get(&session) == Some(&conn)
        {
            self.attach.detach(session);
            // What waits at the leader was counted; here it was not.
            if !self.is_leader() {
                self.nothing_waits_of(session);
            }
        }
    }

    /// The mount may have copies from now on.
    pub(super) fn may_have_copies(&mut self, conn: Conn) {
        self.attach.without_copies.remove(&conn);
    }

    /// This node is in a tree from now on: who has nothing may be given something.
    pub(super) fn begin_copies(&mut self) {
        for conn in &self.attach.without_copies {
            self.copies.empty(*conn);
        }
    }

    pub(super) fn conn_of(&self, session: SessionId) -> Option<Conn> {
        self.attach.by_session.get(&session).copied()
    }

    pub(super) fn session_of(&self, conn: Conn) -> Option<SessionId> {
        match self.attach.conns.get(&conn) {
            Some(Attached::Open { session, .. }) => Some(*session),
            _ => None,
        }
    }

    fn ask_for_sessions(&mut self) {
        let now = self.now.mono;
        let mut due = Vec::new();
        for attached in self.attach.conns.values_mut() {
            let (asked, message) = match attached {
                Attached::Opening { client, nonce, asked } => {
                    (asked, ToPeer::OpenSession { client: client.clone(), nonce: *nonce })
                }
                Attached::Claiming { session, asked, need: None, .. } => (asked, ToPeer::Claim(*session)),
                _ => continue,
            };
            if *asked == 0 || now >= *asked + GREET_AGAIN_US {
                *asked = now;
                due.push(message);
            }
        }
        for message in due {
            match (message, self.leader) {
                (ToPeer::OpenSession { client, nonce }, _) if self.is_leader() => self.open_session(client, nonce),
                (message, Some(leader)) if leader != self.config.id => self.send(leader, message),
                _ => {}
            }
        }
    }

    /// A session that a mount has was opened before the mount could know of it. So a leader that may read knows of it, or it is
    /// over; and so does who has applied as much.
    pub(super) fn claim_from_peer(&mut self, from: NodeId, session: SessionId) {
        if self.may_read() {
            self.send(from, ToPeer::Claimed { session, applied: self.applied.0 });
        }
    }

    pub(super) fn claimed(&mut self, session: SessionId, applied: u64) {
        for attached in self.attach.conns.values_mut() {
            if let Attached::Claiming { session: claimed, need: need @ None, .. } = attached
                && *claimed == session
            {
                *need = Some(applied);
            }
        }
        self.settle_claims();
    }

    pub(super) fn session_opened(&mut self, session: SessionId, nonce: u64) {
        let waiting = |a: &Attached| matches!(a, Attached::Opening { nonce: n, .. } if *n == nonce);
        let conns: Vec<Conn> = self.attach.conns.iter().filter(|(_, a)| waiting(a)).map(|(c, _)| *c).collect();
        for conn in conns {
            self.welcome(conn, session);
        }
    }

    fn welcome(&mut self, conn: Conn, session: SessionId) {
        let Some((nonce, last)) = self.sessions.get(&session).map(|s| (s.nonce, s.last)) else { return };
        let link = |conn: &Conn| self.attach.links.get(conn);
        if self.attach.by_session.get(&session).is_some_and(|other| link(other) > link(&conn)) {
            // The mount has another connection by now.
            self.attach.conns.remove(&conn);
            return;
        }
        self.attach.conns.insert(conn, Attached::Open { session, heard: true, answered: last });
        self.attach.by_session.insert(session, conn);
        self.attach.again.insert(session);
        self.lead.heard(session, self.now.mono);
        self.tell(conn, ToMount::Welcome { session, nonce, last, node: self.config.id });
        self.tell_of_all_broken(session);
    }

    fn settle_claims(&mut self) {
        let (applied, leads) = (self.applied.0, self.may_read());
        let claims: Vec<(Conn, SessionId, u64, bool)> = self
            .attach
            .conns
            .iter()
            .filter_map(|(conn, attached)| match attached {
                Attached::Claiming { session, nonce, need, .. } => {
                    Some((*conn, *session, *nonce, leads || need.is_some_and(|need| applied >= need)))
                }
                _ => None,
            })
            .collect();
        for (conn, session, nonce, sure) in claims {
            let known = self.sessions.get(&session).map(|known| known.nonce);
            // With another nonce it is another's session: of the same number, in another cluster.
            if known == Some(nonce) {
                self.welcome(conn, session);
            } else if sure || known.is_some() {
                self.attach.conns.remove(&conn);
                self.tell(conn, ToMount::Gone { session });
            }
        }
    }

    /// The state was replaced as a whole: sessions that ended meanwhile are gone, the others send again what is unanswered.
    pub(super) fn settle_after_snapshot(&mut self) {
        let ended: Vec<SessionId> =
            self.attach.by_session.keys().filter(|id| !self.sessions.contains_key(id)).copied().collect();
        for session in ended {
            self.session_gone(session);
        }
        self.settle_carried_out();
        for session in self.attached_sessions() {
            self.tell_of_all_broken(session);
        }
        self.all_again();
    }

    /// The session is over: whoever claims it must start a new one.
    pub(super) fn session_gone(&mut self, session: SessionId) {
        if let Some(conn) = self.attach.detach(session) {
            self.attach.conns.remove(&conn);
            self.tell(conn, ToMount::Gone { session });
        }
    }

    fn commands_from_mount(&mut self, conn: Conn, commands: Vec<Command>) {
        let Some(session) = self.session_of(conn) else { return };
        // A mount speaks for its own session only, and has to wait for answers before it goes on: no word to who does not.
        let answered = self.answered_up_to(conn, session);
        let in_window = |command: &Command| command.number <= answered.max(self.acked(command)) + SESSION_WINDOW as u64;
        let commands: Vec<Command> = commands.into_iter().filter(|c| c.session == session && in_window(c)).collect();
        let again = self.attach.again.remove(&session);
        if !self.is_leader() {
            for command in commands {
                self.pass_on(command, again);
            }
        } else if self.lead.settled() {
            for command in commands {
                self.queue_command(command, false);
            }
        } else {
            self.attach_again_later(conn);
        }
    }

    /// What the mount says it was answered counts where it may be true: at a node that is behind.
    fn acked(&self, command: &Command) -> u64 {
        if self.is_leader() { 0 } else { command.acked.min(command.number) }
    }

    /// This node may not have carried out yet what the leader has answered.
    fn answered_up_to(&self, conn: Conn, session: SessionId) -> u64 {
        let answered = match self.attach.conns.get(&conn) {
            Some(Attached::Open { answered, .. }) => *answered,
            _ => 0,
        };
        self.sessions.get(&session).map_or(answered, |known| known.last.max(answered))
    }

    /// A command goes to the leader: let in here, if this node holds anything of what it touches, or as it came. `again`: it
    /// may be there already.
    fn pass_on(&mut self, command: Command, again: bool) {
        // Without a leader it is dropped: every mount is told to send again when there is one.
        if self.leader.is_none() {
            return;
        }
        let (session, number) = (command.session, command.number);
        if self.is_carried_out(&command) {
            self.send_as_it_came(command);
        } else if self.copies.is_let_in(session, number) {
            self.send_held(command);
        } else if self.copies.is_waiting(session) || !(again || self.travels(&command)) {
            self.let_in(Item::Command { command, deny: None }, false);
        } else {
            let travelling = self.attach.travelling.entry(session).or_default();
            *travelling = number.max(*travelling);
            self.send_as_it_came(command);
        }
    }

    /// Whether the leader is to let it in: where nothing of it is held here, or something before it is on that way.
    fn travels(&self, command: &Command) -> bool {
        if !self.tokens.is_member() || self.attach.travelling.contains_key(&command.session) {
            return true;
        }
        let Ok(objects) = command.op.touches(&*self.shared.read()) else { return true };
        !objects.iter().any(|object| self.tokens.holds(object.ino()))
    }

    fn ask_from_mount(&mut self, conn: Conn, id: u64, cred: Cred, query: Query, keep: bool) {
        if self.is_leader() {
            self.ask(Asker::Mount { conn, id, keep }, cred, query);
        } else if let Some((reply, facts)) = self.answer_what_is_held(conn, &cred, &query, keep) {
            self.tell(conn, ToMount::Answer { id, reply, facts });
        } else if let Some(leader) = self.leader
            && self.attach.asked.len() < WAITING_MAX
        {
            let own = self.attach.next_ask;
            self.attach.next_ask += 1;
            self.attach.asked.insert(own, Asked { conn, id, at: self.now.mono });
            self.send(leader, ToPeer::Ask { id: own, cred, query });
        }
    }

    /// The answer of a node that does not lead: if it holds all that the answer rests on, and its state has all of it. What it
    /// would have needed for that it wants for the next time, if the mount asks for copies.
    fn answer_what_is_held(
        &mut self,
        conn: Conn,
        cred: &Cred,
        query: &Query,
        keep: bool,
    ) -> Option<(Reply, Vec<Fact>)> {
        let (now, applied) = (self.now.mono, self.applied.0);
        if !self.tokens.is_member() || !(keep || self.tokens.holds(query.subject()?)) {
            return None;
        }
        self.tokens.is_used(now);
        let (reply, facts) = answer_with_all_facts(&self.shared.read(), cred, query)?;
        let mut held = now < self.copies_last_until();
        for fact in &facts {
            let ino = fact.object.ino();
            let here = if keep { self.tokens.share(ino, now) } else { self.tokens.holds(ino) };
            held &= here && self.tokens.is_current(ino, applied) && !self.copies.is_changing(&fact.object);
        }
        // Only the leader knows what may still be opened though it has no name.
        if !held || matches!(reply, Reply::Failed(Errno::ESTALE)) {
            return None;
        }
        let facts = if keep { self.give_copies(conn, facts) } else { Vec::new() };
        Some((reply, facts))
    }

    pub(super) fn ask_from_peer(&mut self, from: NodeId, id: u64, cred: Cred, query: Query) {
        if self.is_leader() {
            self.ask(Asker::Peer(from, id), cred, query);
        } else {
            self.send(from, ToPeer::Answer { id, reply: None });
        }
    }

    fn ask(&mut self, asker: Asker, cred: Cred, query: Query) {
        if self.may_read() {
            self.answer(asker, &cred, &query);
        } else if self.attach.waiting.len() < WAITING_MAX {
            self.attach.waiting.push((asker, cred, query));
        }
    }

    /// Questions that came before the lease did, or while it had lapsed.
    pub(super) fn answer_waiting(&mut self) {
        if self.attach.waiting.is_empty() {
            return;
        }
        self.publish_lease();
        if self.may_read() {
            for (asker, cred, query) in std::mem::take(&mut self.attach.waiting) {
                self.answer(asker, &cred, &query);
            }
        } else if !self.is_leader() {
            for (asker, _, _) in std::mem::take(&mut self.attach.waiting) {
                self.answered(asker, None);
            }
        }
    }

    fn answer(&mut self, asker: Asker, cred: &Cred, query: &Query) {
        let Asker::Mount { conn, id, keep: true } = asker else {
            let reply = answer(&self.shared.read(), cred, query);
            return self.answered(asker, Some(reply));
        };
        let (reply, facts) = answer_with_facts(&self.shared.read(), cred, query);
        let facts = self.give_copies(conn, facts);
        self.tell(conn, ToMount::Answer { id, reply, facts });
    }

    fn answered(&mut self, asker: Asker, reply: Option<Reply>) {
        match (asker, reply) {
            (Asker::Mount { conn, id, .. }, Some(reply)) => {
                self.tell(conn, ToMount::Answer { id, reply, facts: Vec::new() });
            }
            (Asker::Mount { conn, .. }, None) => self.attach_again_later(conn),
            (Asker::Peer(node, id), reply) => self.send(node, ToPeer::Answer { id, reply }),
        }
    }

    pub(super) fn answer_from_leader(&mut self, id: u64, reply: Option<Reply>) {
        if let Some(Asked { conn, id, .. }) = self.attach.asked.remove(&id) {
            self.answered(Asker::Mount { conn, id, keep: false }, reply);
        }
    }

    /// Whoever is attached here and waits for a lock on this object may have got it: they are told to ask. A hint only; who
    /// waits asks now and then by itself.
    pub(super) fn locks_changed(&mut self, ino: Ino) {
        let waiting = match self.shared.read().get(&Key::Locks(ino)) {
            Ok(Some(Value::Locks(locks))) => locks.waiting,
            _ => return,
        };
        let sessions: BTreeSet<SessionId> = waiting.iter().map(|waiting| waiting.lock.by.session).collect();
        let conns: Vec<Conn> = sessions.iter().filter_map(|id| self.attach.by_session.get(id)).copied().collect();
        self.attach.moved_locks.extend(conns.into_iter().map(|conn| (conn, ino)));
    }

    /// Only now, when those who ask get the answer of after the change.
    pub(super) fn tell_moved_locks(&mut self) {
        for (conn, ino) in std::mem::take(&mut self.attach.moved_locks) {
            self.tell(conn, ToMount::LocksMoved { ino });
        }
    }

    pub(super) fn replies_from_leader(&mut self, replies: Vec<(SessionId, u64, Reply)>) {
        for (session, number, reply) in replies {
            self.reply_here(session, number, &reply);
        }
    }

    /// Answers whether the session's mount is connected here.
    pub(super) fn reply_here(&mut self, session: SessionId, number: u64, reply: &Reply) -> bool {
        let Some(conn) = self.attach.by_session.get(&session).copied() else { return false };
        if self.attach.travelling.get(&session).is_some_and(|last| *last <= number) {
            self.attach.travelling.remove(&session);
        }
        if let Some(Attached::Open { answered, .. }) = self.attach.conns.get_mut(&conn) {
            *answered = number.max(*answered);
        }
        match self.out.last_mut() {
            Some(Output::Mount { conn: last, message: ToMount::Replies(replies) }) if *last == conn => {
                replies.push((number, reply.clone()));
            }
            _ => self.tell(conn, ToMount::Replies(vec![(number, reply.clone())])),
        }
        true
    }

    /// These sessions must send again what is unanswered.
    pub(super) fn again(&mut self, sessions: &[SessionId]) {
        for session in sessions {
            if let Some(conn) = self.attach.by_session.get(session).copied() {
                self.attach_again_later(conn);
            } else if let Some(to) = self.lead.route(*session) {
                self.send(to, ToPeer::Again(vec![*session]));
            }
        }
    }

    fn attach_again_later(&mut self, conn: Conn) {
        if let Some(session) = self.session_of(conn) {
            self.attach.again.insert(session);
        }
        let told = |o: &Output| matches!(o, Output::Mount { conn: to, message: ToMount::Again } if *to == conn);
        if !self.out.iter().any(told) {
            self.tell(conn, ToMount::Again);
        }
    }

    pub(super) fn all_again(&mut self) {
        self.attach.asked.clear();
        let conns: Vec<Conn> = self.attach.by_session.values().copied().collect();
        for conn in conns {
            self.attach_again_later(conn);
        }
        for attached in self.attach.conns.values_mut() {
            if let Attached::Opening { asked, .. } | Attached::Claiming { asked, .. } = attached {
                *asked = 0;
            }
        }
    }

    pub(super) fn tick_attach(&mut self) {
        self.ask_for_sessions();
        self.settle_claims();
        // The oldest come first. Their mounts have asked again meanwhile.
        while let Some(oldest) = self.attach.asked.first_entry().filter(|o| self.now.mono >= o.get().at + ASKED_US) {
            oldest.remove();
        }
        if self.now.mono >= self.attach.last_report + REPORT_US {
            self.attach.last_report = self.now.mono;
            let space = self.space.get(&self.config.id).map(|(space, _)| *space).unwrap_or_default();
            if let Some(leader) = self.leader.filter(|l| *l != self.config.id) {
                let mut sessions = Vec::new();
                for attached in self.attach.conns.values_mut() {
                    if let Attached::Open { session, heard: heard @ true, .. } = attached {
                        sessions.push(*session);
                        *heard = false;
                    }
                }
                let (life, fetching) = (self.config.seed, self.fetching);
                let walked = Walked { life, began: self.walk.began, lacks: self.walk.lacks, fetching };
                self.send(leader, ToPeer::Report { sessions, space, applied: self.applied.0, walked });
            }
            self.tell_spaces();
        }
    }

    pub(super) fn ask_mounts_who_holds(&mut self, round: u64, inos: Vec<Ino>) {
        let conns: Vec<Conn> = self.attach.by_session.values().copied().collect();
        for conn in conns {
            self.tell(conn, ToMount::WhoHolds { round, inos: inos.clone() });
        }
    }

    fn mount_holds(&mut self, conn: Conn, round: u64, inos: Vec<Ino>) {
        let Some(session) = self.session_of(conn) else { return };
        if self.is_leader() {
            self.session_holds(round, session, &inos);
        } else if let Some(leader) = self.leader {
            self.send(leader, ToPeer::Holds { round, session, inos });
        }
    }

    pub(super) fn attached_sessions(&self) -> Vec<SessionId> {
        self.attach.by_session.keys().copied().collect()
    }
}
