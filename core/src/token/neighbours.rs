//! What comes over an edge, and the loss of one. Each event first says whether it can be true, then changes the record.

use super::message::{Grant, Mode, Refusal, Say};
use super::record::{Outbox, Place, Record, Waiting, planted};
use crate::types::Ino;

/// A vertex with no other edge grants over that one alone, in answer to a want or to give back. The other side asks it at most
/// for a copy and then for the token, and what the token follows was heard: so two of its grants at most are on their way
/// when the edge is lost.
const UNHEARD_GRANTS_MAX: u64 = 2;
/// More grants than happen below one edge in a century. A serial that is so far ahead is a lie: believing it would use the
/// numbers up.
const SERIAL_LEAP: u64 = 1 << 48;

impl<E: Copy + Ord> Record<E> {
    pub(super) fn hear(
        &mut self,
        edge: E,
        to_root: Option<E>,
        say: Say,
        object: Ino,
        out: &mut Outbox<E>,
    ) -> Result<(), Refusal> {
        match say {
            Say::Want(mode) => self.hear_want(edge, mode, object, out)?,
            Say::Copy(grant) => self.hear_copy(edge, to_root, grant)?,
            Say::Token(grant) => self.hear_token(edge, to_root, grant)?,
            Say::Recall => self.hear_recall(edge, object, out)?,
            Say::Recalled { serial } => self.hear_recalled(edge, to_root, serial)?,
            Say::Dropped { serial } => self.hear_dropped(edge, to_root, serial)?,
        }
        self.work_off(object, out);
        Ok(())
    }

    fn hear_want(&mut self, edge: E, mode: Mode, object: Ino, out: &mut Outbox<E>) -> Result<(), Refusal> {
        let who = Place::Beyond(edge);
        if self.holder == who {
            // It crossed with the token that is on its way there.
            return Ok(());
        }
        if self.queue.iter().any(|w| w.who == who && w.mode >= mode) {
            return Err(Refusal::AskedTwice);
        }
        let shareable =
            mode == Mode::Shared && self.copy && self.held < Some(Mode::Exclusive) && self.recalling.is_empty();
        if planted!(out, CopiesPastTheQueue) && shareable {
            self.give_copy(edge, object, out);
            return Ok(());
        }
        self.queue.push_back(Waiting { who, mode, users: 1 });
        Ok(())
    }

    fn hear_copy(&mut self, edge: E, to_root: Option<E>, grant: Grant) -> Result<(), Refusal> {
        if self.holder != Place::Beyond(edge) || self.asked.is_none() || self.copy || self.owes {
            return Err(Refusal::CopyNotAsked);
        }
        self.believe_grant(edge, to_root, grant)?;
        self.copy = true;
        if self.asked == Some(Mode::Shared) {
            self.asked = None;
        }
        Ok(())
    }

    fn hear_token(&mut self, edge: E, to_root: Option<E>, grant: Grant) -> Result<(), Refusal> {
        let given_back = Some(edge) != to_root;
        if self.holder != Place::Beyond(edge) || self.owes || !(given_back || self.asked == Some(Mode::Exclusive)) {
            return Err(Refusal::TokenNotAsked);
        }
        self.believe_grant(edge, to_root, grant)?;
        self.holder = Place::Here;
        self.copy = true;
        self.asked = None;
        Ok(())
    }

    fn hear_recall(&mut self, edge: E, object: Ino, out: &mut Outbox<E>) -> Result<(), Refusal> {
        if self.holder != Place::Beyond(edge) || self.owes {
            return Err(Refusal::RecallOutOfPlace);
        }
        // Without a copy here it crossed with a drop, and is answered all the same.
        self.copy = false;
        self.owes = true;
        self.recall_copies(None, object, out);
        self.revoke(None, object, out);
        Ok(())
    }

    fn hear_recalled(&mut self, edge: E, to_root: Option<E>, serial: u64) -> Result<(), Refusal> {
        if !self.recalling.contains(&edge) {
            return Err(Refusal::NotRecalled);
        }
        self.believe_serial(edge, to_root, serial)?;
        self.recalling.remove(&edge);
        self.copies.remove(&edge);
        Ok(())
    }

    fn hear_dropped(&mut self, edge: E, to_root: Option<E>, serial: u64) -> Result<(), Refusal> {
        // From the holder's edge it crossed with the token that is on its way there.
        if !self.copies.contains(&edge) && self.holder != Place::Beyond(edge) {
            return Err(Refusal::NoCopyThere);
        }
        self.believe_serial(edge, to_root, serial)?;
        self.copies.remove(&edge);
        Ok(())
    }

    fn believe_grant(&mut self, edge: E, to_root: Option<E>, grant: Grant) -> Result<(), Refusal> {
        if grant.serial <= self.floor {
            return Err(Refusal::Serial { said: grant.serial, known: self.floor });
        }
        self.believe_serial(edge, to_root, grant.serial)?;
        self.floor = grant.serial;
        self.known.stamp = self.known.stamp.max(grant.stamp);
        Ok(())
    }

    /// What lies towards the root is older than this record, and may be any number ahead of it.
    fn believe_serial(&mut self, edge: E, to_root: Option<E>, serial: u64) -> Result<(), Refusal> {
        let known = self.known.serial;
        if Some(edge) != to_root && serial > known.saturating_add(SERIAL_LEAP) {
            return Err(Refusal::Serial { said: serial, known });
        }
        self.known.serial = known.max(serial);
        Ok(())
    }

    /// The vertex beyond the edge is gone, and its lease is over: it uses nothing any more. If the token was there, it is here
    /// again, and its serials go on behind any that the lost vertex can have given out. `stamp` is an index behind its last
    /// command.
    pub(super) fn lose(&mut self, edge: E, stamp: u64, object: Ino, out: &mut Outbox<E>) {
        let there = Place::Beyond(edge);
        self.copies.remove(&edge);
        self.recalling.remove(&edge);
        self.queue.retain(|w| w.who != there);
        if self.holder == there && !planted!(out, LeavesTheTokenLost) {
            self.holder = Place::Here;
            self.copy = true;
            self.asked = None;
            // What it recalled from here still ends, but nobody is to be told.
            self.owes = false;
            self.known.serial = self.known.serial.saturating_add(UNHEARD_GRANTS_MAX);
            self.known.stamp = self.known.stamp.max(stamp);
        }
        self.work_off(object, out);
    }
}
