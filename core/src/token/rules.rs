//! The rules: after every event a vertex works off its queue, head first, until it has to wait.

use super::message::{Grant, Mode, Output, Say};
use super::record::{Outbox, Place, Record, Waiting, planted};
use crate::types::Ino;

impl<E: Copy + Ord> Record<E> {
    pub(super) fn work_off(&mut self, object: Ino, out: &mut Outbox<E>) {
        loop {
            if !self.recalling.is_empty() || self.waits_for_owner(out) {
                return;
            }
            if self.owes {
                self.answer(object, out);
                continue;
            }
            let Some(&head) = self.queue.front() else { return };
            let served = match head.mode {
                Mode::Shared => self.serve_shared(head, object, out),
                Mode::Exclusive => self.serve_exclusive(head, object, out),
            };
            if !served {
                return;
            }
        }
    }

    fn waits_for_owner(&self, out: &Outbox<E>) -> bool {
        self.revoking.is_some() && !planted!(out, AnswersTooEarly)
    }

    /// All on this side of the edge has ended.
    fn answer(&mut self, object: Ino, out: &mut Outbox<E>) {
        self.owes = false;
        if let Place::Beyond(holder) = self.holder {
            out.send(holder, object, Say::Recalled { serial: self.known.serial });
        }
    }

    fn serve_shared(&mut self, head: Waiting<E>, object: Ino, out: &mut Outbox<E>) -> bool {
        if let (Place::Beyond(holder), false) = (self.holder, self.copy) {
            self.ask(holder, Mode::Shared, object, out);
            // The one behind takes its place in the holder's queue now. If it asked only when its turn has come here, all
            // that wanted meanwhile elsewhere would pass it.
            let behind = self.queue.iter().any(|waiting| waiting.mode == Mode::Exclusive);
            if behind && !planted!(out, AsksForTheHeadAlone) {
                self.ask(holder, Mode::Exclusive, object, out);
            }
            return false;
        }
        if head.who != Place::Here && self.held == Some(Mode::Exclusive) {
            self.revoke(Some(Mode::Shared), object, out);
            return false;
        }
        self.queue.pop_front();
        match head.who {
            Place::Here => self.grant_here(head, object, out),
            Place::Beyond(edge) => self.give_copy(edge, object, out),
        }
        true
    }

    fn serve_exclusive(&mut self, head: Waiting<E>, object: Ino, out: &mut Outbox<E>) -> bool {
        if let Place::Beyond(holder) = self.holder {
            self.ask(holder, Mode::Exclusive, object, out);
            return false;
        }
        self.recall_copies(Some(head.who), object, out);
        if head.who != Place::Here {
            self.revoke(None, object, out);
        }
        if !self.recalling.is_empty() || self.waits_for_owner(out) {
            return false;
        }
        self.queue.pop_front();
        self.copies.clear();
        match head.who {
            Place::Here => self.grant_here(head, object, out),
            Place::Beyond(edge) => self.give_token(edge, object, out),
        }
        true
    }

    fn ask(&mut self, holder: E, mode: Mode, object: Ino, out: &mut Outbox<E>) {
        if self.asked < Some(mode) {
            self.asked = Some(mode);
            out.send(holder, object, Say::Want(mode));
        }
    }

    fn grant_here(&mut self, head: Waiting<E>, object: Ino, out: &mut Outbox<E>) {
        let Waiting { mode, users, .. } = head;
        self.begin(mode, users);
        out.tell(Output::Granted { object, mode, stamp: self.known.stamp, users });
    }

    pub(super) fn give_copy(&mut self, edge: E, object: Ino, out: &mut Outbox<E>) {
        if !planted!(out, ForgetsACopy) {
            self.copies.insert(edge);
        }
        let grant = self.next_grant();
        out.send(edge, object, Say::Copy(grant));
    }

    /// The copy goes with it: only who has the token knows from whom to recall.
    pub(super) fn give_token(&mut self, edge: E, object: Ino, out: &mut Outbox<E>) {
        let grant = self.next_grant();
        self.floor = grant.serial;
        self.holder = Place::Beyond(edge);
        self.copy = false;
        out.send(edge, object, Say::Token(grant));
    }

    fn next_grant(&mut self) -> Grant {
        self.known.serial = self.known.serial.saturating_add(1);
        Grant { serial: self.known.serial, stamp: self.known.stamp }
    }

    /// From every edge that has one and has not been asked, but for one place's.
    pub(super) fn recall_copies(&mut self, except: Option<Place<E>>, object: Ino, out: &mut Outbox<E>) {
        for &edge in &self.copies {
            if except != Some(Place::Beyond(edge)) && self.recalling.insert(edge) {
                out.send(edge, object, Say::Recall);
            }
        }
    }

    /// Tells the owner to end what it holds beyond `keep`, unless it was told as much.
    pub(super) fn revoke(&mut self, keep: Option<Mode>, object: Ino, out: &mut Outbox<E>) {
        let told = self.revoking.is_some_and(|before| before <= keep);
        if self.held > keep && !told {
            self.revoking = Some(keep);
            out.tell(Output::Revoke { object, keep });
        }
    }
}
