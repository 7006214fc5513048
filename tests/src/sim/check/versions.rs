//! Every write took effect once: each acknowledged one left its file at a version of its own.

use super::super::history::{Act, History, Saw};
use std::collections::BTreeMap;

pub(super) fn check(history: &History) -> Result<(), String> {
    let mut seen = BTreeMap::new();
    for record in &history.records {
        if let (Act::Write { ino, .. }, Saw::Written { version, .. }) = (&record.act, &record.saw)
            && let Some(other) = seen.insert((*ino, *version), record)
        {
            return Err(format!("two writes left inode {ino} at version {version}: {record:?} and {other:?}"));
        }
    }
    Ok(())
}
