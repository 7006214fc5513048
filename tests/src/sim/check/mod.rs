//! Whether what happened was right: one file a checker.

mod appends;
mod files;
mod linear;
mod locks;
mod names;
mod nodes;
mod versions;
mod xattrs;

pub(super) use nodes::{Unsettled, nodes};

use super::history::History;

/// Everything that can be said from what programs saw alone.
pub(super) fn history(history: &History, undecided: &mut u64) -> Result<(), String> {
    appends::check(history)?;
    versions::check(history)?;
    locks::check(history)?;
    files::check(history, undecided)?;
    xattrs::check(history, undecided)?;
    names::check(history, undecided)
}
