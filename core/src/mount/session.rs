//! The mount's end of its session: greeting, sending until answered, starting anew when it was fenced.

use super::flow::{Got, Running, Want};
use super::{Asked, CallId, MountMachine, Output};
use crate::limits::KEEPALIVE_MS;
use crate::meta::Query;
use crate::session::{Command, ToMount, ToNode};
use crate::types::{Cred, Errno, Ino};
use std::collections::BTreeSet;

/// A question that is unanswered for this long is sent again, and so are all commands when the first waits for so long: nothing
/// on the way tells of every loss.
const RESEND_US: u64 = 2_000_000;
/// Being told to send again counts once in this time: several messages that were lost together each have it said.
const AGAIN_US: u64 = 50_000;
/// A slice that nobody took or had is tried again after this long.
const RETRY_SLICE_US: u64 = 200_000;

#[derive(Default)]
pub(super) struct Link {
    connected: bool,
    /// Counts streams.
    number: u64,
    /// Nothing was asked on this stream yet.
    is_new: bool,
    welcome: bool,
    last_alive: u64,
    /// When everything was sent again last, and whether that was asked for since.
    last_again: u64,
    again: bool,
    last_hello: u64,
}

impl Link {
    pub(super) fn is_up(&self) -> bool {
        self.welcome
    }
}

impl Asked {
    fn tell(&self, id: u64) -> Output {
        let (cred, query, keep) = (self.cred.clone(), self.query.clone(), self.keep);
        Output::Tell(ToNode::Ask { id, cred, query, keep })
    }
}

impl MountMachine {
    pub(super) fn linked(&mut self) {
        self.link.connected = true;
        self.link.number += 1;
        self.link.is_new = true;
        self.link.welcome = false;
        self.greet();
    }

    pub(super) fn unlinked(&mut self) {
        self.link.connected = false;
        self.link.welcome = false;
    }

    fn greet(&mut self) {
        self.link.last_hello = self.now;
        let (session, client, nonce) = (self.session, self.config.client.clone(), self.config.nonce);
        self.out.push(Output::Tell(ToNode::Hello { session, client, nonce, link: self.link.number }));
    }

    pub(super) fn node_says(&mut self, message: ToMount) {
        match message {
            // A greeting of before this mount was fenced, which is answered late.
            ToMount::Welcome { nonce, .. } if nonce != self.config.nonce => {}
            // The session of this greeting is another by now: the one that this mount has is over.
            ToMount::Welcome { session, .. } if self.session.is_some_and(|mine| mine != session) => self.fenced(),
            ToMount::Welcome { session, .. } => {
                self.session = Some(session);
                self.link.welcome = true;
                if std::mem::take(&mut self.link.is_new) {
                    self.without_copies();
                    self.out.push(Output::Tell(ToNode::Empty));
                }
                self.send_again();
                self.retry_slices(0);
            }
            ToMount::Gone { session } => {
                if self.session == Some(session) {
                    self.fenced();
                }
            }
            ToMount::Replies(replies) => {
                for (number, reply) in replies {
                    if let Some((call, command)) = self.unanswered.answered(number, self.now) {
                        self.names_changed(&command.op);
                        self.replied(call, reply);
                        self.shut_behind(&command.op);
                    }
                }
                self.send_held_back();
            }
            ToMount::Answer { id, reply, facts } => {
                if let Some(asked) = self.asks.remove(&id) {
                    let kept = !facts.is_empty() && self.take_facts(id, facts);
                    self.answered(asked.call, reply, kept);
                }
            }
            ToMount::Lease { sent, lasts } => self.lease_came(sent, lasts),
            ToMount::Recall(objects) => self.recalled(objects),
            ToMount::Again => {
                self.link.again = true;
                self.send_again_if_asked();
            }
            ToMount::LocksMoved { ino } => self.ask_for_turns(Some(ino)),
            ToMount::LocksBroken { ino } => self.locks_broken(ino),
            ToMount::WhoHolds { round, inos } => {
                self.who_holds.push((round, inos, self.last_call));
                self.answer_who_holds();
            }
        }
    }

    /// The next command of this call, if the window has room.
    pub(super) fn send_command(&mut self, id: CallId) {
        if self.held_back.is_empty() && self.has_room(id) {
            self.send_command_now(id);
        } else {
            self.held_back.push_back(id);
        }
    }

    fn has_room(&self, id: CallId) -> bool {
        let weight = match self.running.get(&id) {
            Some(Running { want: Some(Want::Do(op)), cred, .. }) => op.weight() + cred.weight(),
            _ => 0,
        };
        self.session.is_some() && self.unanswered.has_room(weight)
    }

    fn send_command_now(&mut self, id: CallId) {
        let (Some(running), Some(session)) = (self.running.get(&id), self.session) else { return };
        let Some(Want::Do(op)) = &running.want else { return };
        let number = self.next_number;
        self.next_number += 1;
        let acked = self.unanswered.first().unwrap_or(number) - 1;
        let command = Command { session, number, acked, cred: running.cred.clone(), op: op.clone() };
        if self.link.is_up() {
            self.give_back_before(&command.op);
            match self.out.last_mut() {
                Some(Output::Tell(ToNode::Commands(commands))) => commands.push(command.clone()),
                _ => self.out.push(Output::Tell(ToNode::Commands(vec![command.clone()]))),
            }
        }
        self.unanswered.sent(id, command, self.now);
    }

    fn send_held_back(&mut self) {
        while let Some(id) = self.held_back.front().copied()
            && self.has_room(id)
        {
            self.held_back.pop_front();
            self.send_command_now(id);
        }
    }

    /// Asks until it is answered.
    pub(super) fn ask_node(&mut self, call: CallId, cred: Cred, query: Query, keep: bool) {
        let id = self.next_ask;
        self.next_ask += 1;
        let asked = Asked { call, cred, query, keep, at: self.now };
        if self.link.is_up() {
            self.out.push(asked.tell(id));
        }
        self.asks.insert(id, asked);
    }

    /// At most once in a while: else each of many questions, told to come again, would bring all of them back, and those
    /// all of them again.
    fn send_again_if_asked(&mut self) {
        if self.link.again && self.now >= self.link.last_again + AGAIN_US {
            self.send_again();
        }
    }

    /// Everything unanswered, in order.
    fn send_again(&mut self) {
        if !self.link.is_up() {
            return;
        }
        self.link.again = false;
        self.link.last_again = self.now;
        self.send_commands_again();
        self.ask_again(0);
        self.send_held_back();
    }

    fn send_commands_again(&mut self) {
        let acked = self.unanswered.first().unwrap_or(self.next_number) - 1;
        let again = |command: &Command| Command { acked, ..command.clone() };
        let commands: Vec<Command> = self.unanswered.commands().map(again).collect();
        if !commands.is_empty() {
            self.out.push(Output::Tell(ToNode::Commands(commands)));
        }
        self.unanswered.sent_again(self.now);
    }

    /// What was asked so long ago and has no answer.
    fn ask_again(&mut self, after: u64) {
        for (id, asked) in self.asks.iter_mut().filter(|(_, asked)| self.now >= asked.at + after) {
            asked.at = self.now;
            self.out.push(asked.tell(*id));
        }
    }

    /// The session is over. What was under way may have happened or not: the programs are told so. A new one begins.
    fn fenced(&mut self) {
        self.session = None;
        let mut lost = self.unanswered.give_up();
        // Slices of the old session may be collected at any time: a call that stored one and has not used it yet is lost too.
        let stored = |r: &Running| r.known.iter().any(|got| matches!(got, Got::Stored { .. }));
        lost.extend(self.running.iter().filter(|(_, r)| stored(r)).map(|(id, _)| *id));
        let unlocked = self.lose_locks();
        self.out.push(Output::Fenced { lost: lost.len(), unlocked });
        self.next_number = 1;
        self.link.welcome = false;
        self.config.nonce = self.config.nonce.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
        // Nor may anything be written that relied on locks which others have by now.
        let locks_lost = |r: &Running| r.call.relies_on_locks().is_some_and(|ino| self.has_lost_locks_on(ino));
        lost.extend(self.running.iter().filter(|(_, r)| locks_lost(r)).map(|(id, _)| *id));
        for call in lost {
            self.finish(call, Err(Errno::EIO));
        }
        // What is being stored is stored anew, under the new session's name.
        for running in self.running.values_mut() {
            if matches!(running.want, Some(Want::Put(_))) {
                running.slice = None;
                running.lost_at = Some(self.now);
            }
        }
        self.who_holds.clear();
        self.queue_for_locks_again();
        self.greet();
    }

    pub(super) fn tick(&mut self) {
        if self.link.connected && !self.link.welcome && self.now >= self.link.last_hello + RESEND_US {
            self.greet();
        }
        if self.link.is_up() && self.now >= self.link.last_alive + KEEPALIVE_MS * 1000 {
            self.link.last_alive = self.now;
            self.out.push(Output::Tell(ToNode::Alive));
        }
        self.send_again_if_asked();
        if self.link.is_up() {
            if self.unanswered.is_stuck(RESEND_US, self.now) {
                self.send_commands_again();
            }
            self.ask_again(RESEND_US);
        }
        self.retry_slices(RETRY_SLICE_US);
        self.tick_locks();
        self.tick_copies();
        self.tick_places();
        self.tick_patience();
    }

    fn retry_slices(&mut self, after: u64) {
        let now = self.now;
        let due = |lost: Option<u64>| lost.is_some_and(|at| now >= at + after);
        let calls: Vec<CallId> = self.running.iter().filter(|(_, r)| due(r.lost_at)).map(|(id, _)| *id).collect();
        for id in calls {
            let Some(running) = self.running.get_mut(&id) else { continue };
            running.lost_at = None;
            match running.want {
                // What could not be read may be gone meanwhile, or lie elsewhere.
                Some(Want::Get(_)) => self.begin_again(id),
                _ => self.fetch(id),
            }
        }
    }

    /// "Not open here" is final, so it is said only when nothing that began before the question can still open the object.
    pub(super) fn answer_who_holds(&mut self) {
        let oldest_open = self.running.iter().find(|(_, r)| r.call.opens()).map(|(id, _)| *id);
        if self.who_holds.is_empty() {
            return;
        }
        let open: BTreeSet<Ino> = self.handles.values().map(|opened| opened.ino).collect();
        let mut waiting = Vec::new();
        for (round, inos, before) in std::mem::take(&mut self.who_holds) {
            if oldest_open.is_some_and(|open| open <= before) {
                waiting.push((round, inos, before));
                continue;
            }
            let held: Vec<Ino> = inos.into_iter().filter(|ino| open.contains(ino)).collect();
            self.out.push(Output::Tell(ToNode::Holds { round, inos: held }));
        }
        self.who_holds = waiting;
    }
}
