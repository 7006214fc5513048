//! What a node does about broken locks: it proposes the breaking when its operator asks, says what came of it, and tells the
//! mounts. Whoever is not told, or late, is refused by the state all the same.

use super::NodeMachine;
use super::io::Output;
use super::messages::Item;
use crate::meta::ops::BreakLocks;
use crate::meta::{Key, Store, Value};
use crate::session::{Reply, ToMount};
use crate::types::{Ino, SessionId};

impl NodeMachine {
    /// Only the leader proposes it, and nobody hands it on: what is sent between nodes may come twice, and the second time
    /// would take the lock from who was given it.
    pub(super) fn break_locks(&mut self, order: BreakLocks) {
        if self.is_leader() {
            self.lead.queue.push(Item::Own(order.into()));
        }
    }

    pub(super) fn locks_were_broken(&mut self, order: &BreakLocks, reply: Reply) {
        self.out.push(Output::Broke { request: order.request, reply });
    }

    /// The mount whose session lost its locks on an object hears of it, if it is attached here.
    pub(super) fn tell_of_broken(&mut self, session: SessionId, ino: Ino) {
        if let Some(conn) = self.conn_of(session) {
            self.tell(conn, ToMount::LocksBroken { ino });
        }
    }

    /// A mount came, or this node's state is another: whatever it may not have heard.
    pub(super) fn tell_of_all_broken(&mut self, session: SessionId) {
        let (from, to) = (Key::LockUse(session, Ino(0)), Key::LockUse(session, Ino(u64::MAX)));
        let found = self.shared.read().range(&from, &to, usize::MAX).unwrap_or_default();
        for (key, value) in found {
            if let (Key::LockUse(_, ino), Value::LocksBroken) = (key, value) {
                self.tell_of_broken(session, ino);
            }
        }
    }
}
