//! # Which slices on a node's disk are of no use
//!
//! A slice is stored before the command that refers to it, and may be stored by a node that has not applied that command yet. So
//! what nothing refers to is garbage only if nothing ever will: when the session that wrote it has ended, or, of a merged one,
//! when a later merge was applied, or anything of a later term ([`super::merging`]).

use super::merging::is_decided;
use super::view::Reader;
use crate::meta::{Fault, Key, Value};
use crate::types::SliceId;

impl Reader {
    /// Those of these that nothing refers to, nor ever will.
    pub fn garbage(&self, ids: &[SliceId]) -> Result<Vec<SliceId>, Fault> {
        // Before the state is looked at, which is as new as that or newer.
        let (term, merged) = (self.applied_term(), self.merged());
        self.with_state(|state| {
            let Some(Value::Volume(volume)) = state.get(&Key::Volume)? else { return Ok(Vec::new()) };
            let is_over = |id: SliceId| match is_decided(id, term, merged) {
                Some(decided) => Ok(decided),
                // A session that this node has not heard of yet is not one that ended.
                None => Ok(id.session < volume.next_session && state.get(&Key::Session(id.session))?.is_none()),
            };
            let mut garbage = Vec::new();
            for id in ids {
                if is_over(*id)? && state.get(&Key::Slice(*id))?.is_none() {
                    garbage.push(*id);
                }
            }
            Ok(garbage)
        })
    }
}
