//! What the owner of a vertex asks of it and tells it.

use super::message::{Misuse, Mode, Say, Wanted};
use super::record::{Outbox, Place, Record, Waiting};
use crate::types::Ino;

impl<E: Copy + Ord> Record<E> {
    pub(super) fn want(&mut self, mode: Mode, object: Ino, out: &mut Outbox<E>) -> Wanted {
        if let Some(stamp) = self.use_at_once(mode) {
            return Wanted::Granted { stamp };
        }
        match self.queue.iter_mut().find(|w| w.who == Place::Here && w.mode == mode) {
            Some(waiting) => waiting.users += 1,
            None => self.queue.push_back(Waiting { who: Place::Here, mode, users: 1 }),
        }
        self.work_off(object, out);
        Wanted::Queued
    }

    /// One user less. What was granted stays with the owner until it lets go of it.
    pub(super) fn done(&mut self, mode: Mode, object: Ino) -> Result<(), Misuse> {
        let users = self.users.of(mode);
        *users = users.checked_sub(1).ok_or(Misuse::NotUsed(object))?;
        Ok(())
    }

    pub(super) fn downgrade(&mut self, stamp: u64, object: Ino, out: &mut Outbox<E>) -> Result<(), Misuse> {
        if self.users.exclusive > 0 {
            return Err(Misuse::StillUsed(object));
        }
        self.held = self.held.min(Some(Mode::Shared));
        if self.revoking == Some(Some(Mode::Shared)) {
            self.revoking = None;
        }
        self.known.stamp = self.known.stamp.max(stamp);
        self.work_off(object, out);
        Ok(())
    }

    pub(super) fn revoked(&mut self, stamp: u64, object: Ino, out: &mut Outbox<E>) -> Result<(), Misuse> {
        if self.users.exclusive > 0 || self.users.shared > 0 {
            return Err(Misuse::StillUsed(object));
        }
        self.held = None;
        self.revoking = None;
        self.known.stamp = self.known.stamp.max(stamp);
        self.work_off(object, out);
        Ok(())
    }

    /// Lets go of an idle copy, or of an idle token towards the root. Whether there was one.
    pub(super) fn tidy(&mut self, to_root: Option<E>, object: Ino, out: &mut Outbox<E>) -> bool {
        if !self.is_idle() {
            return false;
        }
        match (self.holder, to_root) {
            (Place::Here, Some(root)) => self.give_token(root, object, out),
            (Place::Beyond(holder), _) if self.copy => {
                self.copy = false;
                out.send(holder, object, Say::Dropped { serial: self.known.serial });
            }
            _ => return false,
        }
        true
    }
}
