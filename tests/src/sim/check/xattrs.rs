//! An extended attribute is a register: the simplest object, and so the one whose stale reads are easiest to see.

use super::super::data::WriteId;
use super::super::history::{Act, History, Saw};
use super::linear::{Call, Found, Model, search};
use baton_core::types::Ino;
use std::collections::BTreeMap;

enum What {
    Set(WriteId),
    Get(Option<WriteId>),
}

struct Register;

impl Model for Register {
    type State = Option<WriteId>;
    type What = What;

    fn start(&self) -> Self::State {
        None
    }

    fn apply(&self, state: &Self::State, what: &What, _: usize) -> Option<Self::State> {
        match what {
            What::Set(id) => Some(Some(*id)),
            What::Get(seen) => (seen == state).then_some(*state),
        }
    }
}

pub(super) fn check(history: &History, undecided: &mut u64) -> Result<(), String> {
    let mut by_file: BTreeMap<Ino, Vec<Call<What>>> = BTreeMap::new();
    for record in &history.records {
        let (ino, what) = match (&record.act, &record.saw) {
            (Act::SetXattr { .. }, Saw::Failed(_)) => continue,
            (Act::SetXattr { ino, id }, _) => (*ino, What::Set(*id)),
            (Act::GetXattr { ino }, Saw::Xattr(seen)) => (*ino, What::Get(*seen)),
            _ => continue,
        };
        by_file.entry(ino).or_default().push(Call { began: record.began, ended: record.ended, what });
    }
    for (ino, calls) in by_file {
        match search(&Register, &calls) {
            Found::Order => {}
            Found::GaveUp => *undecided += 1,
            Found::None { placed, stuck_at } => {
                let (began, ended) = (calls[stuck_at].began, calls[stuck_at].ended);
                return Err(format!(
                    "an attribute of inode {ino} is not linearizable: {placed} of {} calls fit, then that of {began}..{ended}",
                    calls.len()
                ));
            }
        }
    }
    Ok(())
}
