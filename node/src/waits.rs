//! Commands that wait long for mounts to give copies back: each is said once, with who keeps it waiting.
//!
//! A mount that is silent is waited for no longer than its lease lasts. So what is told here is one that lives and does not
//! give back, because its kernel does not let go.

use baton_core::node::{CopyRow, NodeMachine};
use baton_core::types::Object;

/// What waits longer is told of.
const WORTH_TELLING_US: u64 = 2_000_000;
/// Not every second: where many mounts change the same things, something waits at any moment, though nothing for long.
const LOOK_AGAIN_US: u64 = 5_000_000;
/// Where there are more copies than these, nobody looks: all of them are gone through, on the node's own thread, which takes
/// some hundred nanoseconds each.
const COPIES_MAX: u64 = 100_000;
/// Commands told of at once: what keeps many is most likely one thing.
const TOLD_MAX: usize = 20;

/// Who looks, once a second.
#[derive(Default)]
pub(crate) struct Watch {
    waited: bool,
    looked: u64,
}

impl Watch {
    pub(crate) fn look(&mut self, machine: &NodeMachine, now: u64) {
        let copies = machine.status().copies;
        let waited = std::mem::replace(&mut self.waited, copies.waiting > 0);
        let since_last = now.saturating_sub(self.looked);
        if !waited || copies.waiting == 0 || copies.given_out > COPIES_MAX || since_last < LOOK_AGAIN_US {
            return;
        }
        self.looked = now;
        for stuck in stuck(&machine.copies(None, usize::MAX), since_last) {
            let Stuck { command, object, mount, waits, keeper, asked_back } = stuck;
            let (seconds, asked) = (waits / 1_000_000, asked_back / 1_000_000);
            tracing::warn!(
                command,
                ?object,
                mount,
                seconds,
                "waiting for {keeper} to give its copy back, which it was asked to {asked} s ago"
            );
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Stuck<'r> {
    command: &'static str,
    object: &'r Object,
    /// Whose command it is.
    mount: &'r str,
    waits: u64,
    /// Who has the copy.
    keeper: &'r str,
    asked_back: u64,
}

/// What has come to wait for long since the last look, which was so long ago.
fn stuck(rows: &[CopyRow], since_last: u64) -> Vec<Stuck<'_>> {
    let is_new = |row: &&CopyRow| (WORTH_TELLING_US..WORTH_TELLING_US + since_last).contains(&row.since);
    let waiting = rows.iter().filter_map(|row| Some((row.waits?, row))).filter(|(_, row)| is_new(row)).take(TOLD_MAX);
    let of = waiting.flat_map(|(command, waits)| {
        let keepers = rows.iter().filter(|row| row.waits.is_none() && row.object == waits.object);
        keepers.filter_map(move |keeper| Some((command, waits, keeper, keeper.asked_back?)))
    });
    let told = of.map(|(command, waits, keeper, asked_back)| Stuck {
        command,
        object: &waits.object,
        mount: &waits.client,
        waits: waits.since,
        keeper: &keeper.client,
        asked_back,
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_core::types::Ino;

    #[test]
    fn what_waits_is_told_once_and_with_who_has_what_it_waits_for() {
        let copy = |ino, client: &str, asked_back| CopyRow {
            object: Object::Whole(Ino(ino)),
            client: client.into(),
            since: 9_000_000,
            asked_back,
            waits: None,
        };
        let waits = |ino, since| CopyRow {
            object: Object::Whole(Ino(ino)),
            client: "c".into(),
            since,
            asked_back: None,
            waits: Some("Write"),
        };
        let rows =
            |since| vec![copy(5, "a", Some(3_000_000)), copy(5, "c", None), copy(6, "b", Some(1)), waits(5, since)];
        assert_eq!(stuck(&rows(1_900_000), 5_000_000), []);
        let object = &Object::Whole(Ino(5));
        let told = Stuck { command: "Write", object, mount: "c", waits: 3_000_000, keeper: "a", asked_back: 3_000_000 };
        assert_eq!(stuck(&rows(3_000_000), 5_000_000), [told]);
        assert_eq!(stuck(&rows(8_000_000), 5_000_000), [], "it was told the last time");
    }
}
