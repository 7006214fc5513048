//! Two builds in one cluster: by which version entries are written and carried out.
//!
//! One version is *in force* for the whole cluster. It stands in the state ([`Key::Version`]), is that of the founder at first, and
//! never goes back. The leader writes every entry by it and puts it in front of the entry, where any build can read it; and
//! every node carries an entry out by the version that is in force where the entry stands in the log. So all come to the same,
//! whatever builds they are of.
//!
//! ```text
//!   nodes --promise: I speak up to 11--> leader --Item::Raise(11), once all said so--> log --applied--> 11 is in force
//! ```
//!
//! The leader raises it when every node on the list was heard of a moment ago and speaks a newer one: also those that do not
//! vote, and those that are away, which may come back with what they were. One change of the list or of the version is under
//! way at a time, so nobody joins in between.
//!
//! Whoever meets what was written by a version that it does not speak, on its disk, from a leader or in a fetched state, stops
//! with [`Unspoken`]. It touches nothing and acknowledges nothing: the data is good, the build is the wrong one.

use super::NodeMachine;
use super::io::Output;
use super::messages::{Batch, Item};
use crate::meta::{Fault, Key, Store, Value};
use raft::eraftpb::{Entry, Message};
use std::collections::BTreeMap;
use std::fmt;

/// The versions that a build speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speaks {
    pub oldest: u32,
    pub newest: u32,
}

impl Speaks {
    pub fn knows(&self, version: u32) -> bool {
        (self.oldest..=self.newest).contains(&version)
    }

    /// Whether this build can use what was written by a version.
    pub fn can_use(self, what: Written, found: u32) -> Result<(), Unspoken> {
        if self.knows(found) { Ok(()) } else { Err(Unspoken { what, found, speaks: self }) }
    }
}

/// Something was written by a version that this build does not speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unspoken {
    pub what: Written,
    pub found: u32,
    pub speaks: Speaks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// This entry of the log.
    Entry(u64),
    State,
    /// Something in a data folder: it names the newest version.
    Folder,
}

impl fmt::Display for Unspoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unspoken { what, found, speaks: Speaks { oldest, newest } } = self;
        match what {
            Written::Entry(index) => {
                write!(f, "entry {index} of the log was written by version {found} of the format")?
            }
            Written::State => write!(f, "the state was written by version {found} of the format")?,
            Written::Folder => write!(f, "it holds what version {found} of the format wrote")?,
        }
        let again = "Nothing was touched";
        if found > newest {
            write!(f, ", and this baton knows {newest}: install the newer baton again. {again}")
        } else {
            write!(f, ", and this baton knows none before {oldest}: install the baton that wrote it. {again}")
        }
    }
}

impl std::error::Error for Unspoken {}

/// Why a machine cannot begin or go on with what there is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error(transparent)]
    Unspoken(#[from] Unspoken),
    #[error("{0}")]
    Damaged(String),
}

/// What came before entries said by which version they were written. Such an entry begins with its moment, whose first byte has its
/// highest bit set since 1970; a version's has not.
const UNNAMED: u32 = 9;
const NAME_BYTES: usize = 2;

/// By which version an entry was written; Raft's own have nothing in them. Any build can tell.
fn version_of(data: &[u8]) -> Option<u32> {
    let (name, _) = data.split_first_chunk::<NAME_BYTES>()?;
    let name = u16::from_be_bytes(*name);
    Some(if name >> 15 == 0 { u32::from(name) } else { UNNAMED })
}

/// An entry as it stands in the log; `None`: it cannot be encoded.
pub fn encode_batch(version: u32, batch: &Batch) -> Option<Vec<u8>> {
    let name = u16::try_from(version).ok().filter(|name| name >> 15 == 0)?;
    postcard::to_extend(batch, name.to_be_bytes().to_vec()).ok()
}

/// The version by which an entry was written, and what stands in it. Its version is one that this build speaks.
pub(super) fn decode_batch(data: &[u8]) -> Result<(u32, Batch), postcard::Error> {
    let version = version_of(data).ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
    Ok((version, postcard::from_bytes(&data[NAME_BYTES..])?))
}

/// Whether this build speaks the version of each of these entries. Those up to `applied` are not carried out any more: they may be
/// as old as they like.
pub fn all_spoken(entries: &[Entry], applied: u64, speaks: Speaks) -> Result<(), Unspoken> {
    let unknown = |entry: &Entry| {
        let is_unknown = |found: &u32| *found > speaks.newest || (*found < speaks.oldest && entry.index > applied);
        let found = version_of(&entry.data).filter(is_unknown)?;
        Some(Unspoken { what: Written::Entry(entry.index), found, speaks })
    };
    entries.iter().find_map(unknown).map_or(Ok(()), Err)
}

/// The newest version by which any of these was written; 0: there are none.
pub(super) fn newest_of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> u32 {
    entries.into_iter().filter_map(|entry| version_of(&entry.data)).max().unwrap_or(0)
}

/// The version in force in a state, if that is of a cluster that was formed.
pub fn in_force<S: Store + ?Sized>(state: &S) -> Result<Option<u32>, Fault> {
    match state.get(&Key::Version)? {
        Some(Value::Version(version)) => Ok(Some(version)),
        _ => match state.get(&Key::Volume)? {
            Some(Value::Volume(volume)) if volume.cluster.0 != 0 => Ok(Some(UNNAMED)),
            _ => Ok(None),
        },
    }
}

/// The same, if this build speaks it.
pub fn spoken_in_force<S: Store + ?Sized>(state: &S, speaks: Speaks) -> Result<Option<u32>, Unfit> {
    let found = in_force(state).map_err(|_| Unfit::Damaged("the state store cannot be read".into()))?;
    found.map_or(Ok(()), |version| speaks.can_use(Written::State, version))?;
    Ok(found)
}

impl NodeMachine {
    /// By which version the next entry is written. Who founds a cluster writes by the newest that it speaks, unless somebody else
    /// has begun to.
    pub(super) fn writes_by(&self) -> u32 {
        let begun = || Some(newest_of(self.raw.store().all())).filter(|version| *version > 0);
        self.in_force.or_else(begun).unwrap_or(self.config.speaks.newest)
    }

    /// Whether this build may take the entries of an append; if not, it stops before it has done anything about them.
    pub(super) fn speaks_what_came(&mut self, message: &Message) -> bool {
        let spoken = all_spoken(&message.entries, self.applied.0, self.config.speaks);
        if let Err(unspoken) = spoken {
            self.out.push(Output::StopUnspoken(unspoken));
        }
        spoken.is_ok()
    }

    /// What this node keeps names the newest version of anything in it, before that is there.
    pub(super) fn about_to_keep(&mut self, entries: &[Entry]) {
        self.keeps_version(newest_of(entries));
    }

    pub(super) fn keeps_version(&mut self, version: u32) {
        if version > self.keeps {
            self.keeps = version;
            self.out.push(Output::Keeps(version));
        }
    }

    /// From here on entries are written and carried out by this version, or by the one that the state names.
    pub(super) fn is_in_force(&mut self, version: Option<u32>) {
        if let Some(version) = version {
            self.keeps_version(version);
            self.out.push(Output::InForce(version));
        }
        self.in_force = version;
    }

    /// The first version of a cluster is the one its first entry was written by.
    pub(super) fn found_version(&mut self, version: u32) {
        self.keep(BTreeMap::from([(Key::Version, Some(Value::Version(version)))]));
        self.is_in_force(Some(version));
    }

    pub(super) fn apply_raise(&mut self, version: u32) {
        self.lead.changing.is_over();
        if self.in_force >= Some(version) {
            return; // of a leader who did not know that it was raised
        }
        match self.config.speaks.can_use(Written::Entry(self.applied.0 + 1), version) {
            Ok(()) => self.found_version(version),
            Err(unspoken) => self.out.push(Output::StopUnspoken(unspoken)),
        }
    }

    /// The newest version that every node is known to speak: who was not heard of a moment ago may be anything.
    fn spoken_by_all(&self) -> Option<u32> {
        let newest = |node| self.speaks_up_to(node);
        self.members.nodes.keys().map(|node| newest(*node)).min().flatten()
    }

    pub(super) fn tick_version(&mut self) {
        if !self.lead.settled() || self.lead.changing.is_under_way() {
            return;
        }
        if let Some(version) = self.spoken_by_all()
            && self.in_force.is_some_and(|in_force| in_force < version)
        {
            self.begin_change(Item::Raise(version));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Stamp;

    const SPEAKS: Speaks = Speaks { oldest: 10, newest: 11 };

    fn entry(data: Vec<u8>) -> Entry {
        Entry { index: 7, term: 1, data: data.into(), ..Entry::default() }
    }

    fn batch(secs: i64) -> Batch {
        Batch { stamp: Stamp::new(secs, 5), items: vec![Item::Raise(11)] }
    }

    #[test]
    fn an_entry_names_the_version_it_was_written_by() {
        for version in [10, 11] {
            let data = encode_batch(version, &batch(-3)).unwrap();
            assert_eq!(decode_batch(&data), Ok((version, batch(-3))));
            assert_eq!(all_spoken(&[entry(data), entry(Vec::new())], 0, SPEAKS), Ok(()));
        }
        assert_eq!(encode_batch(1 << 15, &batch(0)), None);
        assert!(decode_batch(&[0]).is_err());
    }

    #[test]
    fn what_another_build_wrote_is_named_whatever_stands_in_it() {
        let later = entry([&12u16.to_be_bytes()[..], &[0xff; 30]].concat());
        let unspoken = all_spoken(&[later], 7, SPEAKS).unwrap_err();
        assert_eq!((unspoken.what, unspoken.found), (Written::Entry(7), 12));
        let said = unspoken.to_string();
        assert!(said.contains("version 12") && said.contains("knows 11: install the newer baton again"), "{said}");
        // A batch of today, by a build that named no version.
        let earlier = entry(postcard::to_allocvec(&batch(1_790_000_000)).unwrap());
        let unspoken = all_spoken(std::slice::from_ref(&earlier), 6, SPEAKS).unwrap_err();
        assert_eq!(unspoken.found, UNNAMED);
        assert!(unspoken.to_string().contains("knows none before 10"), "{unspoken}");
        assert_eq!(all_spoken(&[earlier], 7, SPEAKS), Ok(()), "it was carried out");
    }
}
