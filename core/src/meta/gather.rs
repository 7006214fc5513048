//! # Runs of small writes
//!
//! What programs write in small pieces lies inline in the state of every node. Where enough of it lies together, it can be put
//! into a slice ([`Merge`]). This looks for such runs: step by step, because the state is only held for a moment at a time. It
//! need not be true of any one moment what it finds: a merge is only done where the bytes are the same still.

use super::digest::Digest;
use super::ops::{Merge, SliceRef};
use super::{Content, Extent, Fault, Key, Store, Value};
use crate::types::Ino;
use bytes::{Bytes, BytesMut};

/// Extents looked at in one step.
const STEP: usize = 64;

/// A file, and an offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub ino: Ino,
    pub offset: u64,
}

impl Place {
    pub const FIRST: Place = Place { ino: Ino(0), offset: 0 };
    pub const LAST: Place = Place { ino: Ino(u64::MAX), offset: u64::MAX };
}

/// How many bytes must lie together to be merged, and how many are merged at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunSizes {
    pub least: u64,
    pub most: u64,
}

/// Inline bytes that lie together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub ino: Ino,
    pub offset: u64,
    pub bytes: Bytes,
}

impl Run {
    /// The command that puts them into this slice.
    pub fn merge(&self, slice: SliceRef) -> Merge {
        let mut digest = Digest::default();
        digest.add(&self.bytes);
        Merge { ino: self.ino, offset: self.offset, slice, digest: digest.end() }
    }
}

/// Looks for runs from one place on to before another one. An extent belongs to the place of its end.
pub struct Gather {
    sizes: RunSizes,
    at: Place,
    to: Place,
    run: Option<(Place, BytesMut)>,
}

/// What one step came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Gathered {
    Run(Run),
    More,
    End,
}

impl Gather {
    pub fn new(sizes: RunSizes, from: Place, to: Place) -> Gather {
        Gather { sizes, at: from, to, run: None }
    }

    /// Where another one goes on where this one is left; nowhere, if all was looked at.
    pub fn rest(&self) -> Option<Place> {
        let at = self.run.as_ref().map_or(self.at, |(start, _)| *start);
        Some(at).filter(|at| *at < self.to)
    }

    pub fn step(&mut self, store: &(impl Store + ?Sized)) -> Result<Gathered, Fault> {
        let from = Key::Extent(self.at.ino, self.at.offset.saturating_add(1));
        let found = store.range(&from, &Key::Extent(self.to.ino, self.to.offset), STEP)?;
        let is_all = found.len() < STEP;
        for (key, value) in found {
            let (Key::Extent(ino, end), Value::Extent(Extent { start, content })) = (key, value) else { continue };
            let bytes = match content {
                Content::Inline(bytes) => bytes,
                Content::Slice { .. } | Content::Zero => Bytes::new(),
            };
            if !self.goes_on(ino, start, &bytes)
                && let Some(run) = self.take()
            {
                return Ok(Gathered::Run(run));
            }
            self.at = Place { ino, offset: end };
            if !bytes.is_empty() {
                let start = Place { ino, offset: start };
                self.run.get_or_insert_with(|| (start, BytesMut::new())).1.extend_from_slice(&bytes);
            }
        }
        if !is_all {
            return Ok(Gathered::More);
        }
        self.at = self.to;
        Ok(self.take().map_or(Gathered::End, Gathered::Run))
    }

    /// Whether these bytes go on where the run has come to, and fit in.
    fn goes_on(&self, ino: Ino, start: u64, bytes: &[u8]) -> bool {
        let Some((place, run)) = &self.run else { return true };
        let together = run.len() as u64 + bytes.len() as u64;
        place.ino == ino && place.offset + run.len() as u64 == start && !bytes.is_empty() && together <= self.sizes.most
    }

    /// The run so far, if it is long enough.
    fn take(&mut self) -> Option<Run> {
        let (Place { ino, offset }, bytes) = self.run.take()?;
        (bytes.len() as u64 >= self.sizes.least).then(|| Run { ino, offset, bytes: bytes.freeze() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::ops::{ReadLayout, Write, WriteAt, WriteData};
    use crate::meta::testing::{World, slice};
    use crate::meta::{Answer, PieceSource};
    use crate::types::{Cred, SliceId};
    use proptest::prelude::*;

    const SIZES: RunSizes = RunSizes { least: 10_000, most: 20_000 };

    fn runs(world: &World, from: Place, to: Place) -> Vec<(Ino, u64, usize)> {
        let mut gather = Gather::new(SIZES, from, to);
        let mut runs = Vec::new();
        loop {
            match gather.step(&world.store).unwrap() {
                Gathered::Run(run) => runs.push((run.ino, run.offset, run.bytes.len())),
                Gathered::More => {}
                Gathered::End => return runs,
            }
            if gather.rest().is_none() {
                return runs;
            }
        }
    }

    fn all(world: &World) -> Vec<(Ino, u64, usize)> {
        runs(world, Place::FIRST, Place::LAST)
    }

    #[test]
    fn what_lies_together_is_a_run_and_what_is_short_is_none() {
        let mut world = World::new();
        let (short, long, holes) = (world.file("short"), world.file("long"), world.file("holes"));
        world.write(short, 0, &[1; 9_999]);
        world.write(long, 0, &[2; 50_000]);
        world.write(holes, 0, &[3; 8_192]);
        world.write(holes, 12_288, &[3; 12_000]);
        let most = (SIZES.most / 4096 * 4096) as usize;
        assert_eq!(
            all(&world),
            [
                (long, 0, most),
                (long, most as u64, most),
                (long, 2 * most as u64, 50_000 - 2 * most),
                (holes, 12_288, 12_000)
            ]
        );
        let place = |offset| Place { ino: long, offset };
        assert_eq!(runs(&world, place(0), place(12_289)), [(long, 0, 12_288)]);
        assert_eq!(
            runs(&world, place(20_000), place(u64::MAX)),
            [(long, 16_384, most), (long, 32_768, 50_000 - 32_768)]
        );
    }

    #[test]
    fn it_ends_with_a_step_that_finds_nothing_and_goes_on_where_it_was_left() {
        let mut world = World::new();
        let ino = world.file("f");
        for page in 0..200 {
            world.write(ino, page * 8_192, &[1; 100]);
        }
        let mut gather = Gather::new(SIZES, Place::FIRST, Place::LAST);
        let mut steps = 0;
        while gather.step(&world.store).unwrap() == Gathered::More {
            gather = Gather::new(SIZES, gather.rest().unwrap(), Place::LAST);
            steps += 1;
        }
        assert_eq!((steps, gather.rest()), (3, None));
    }

    proptest! {
        /// Whatever was written how, and wherever the looking was left off: everything merged is what it was, and nothing long
        /// is left.
        #[test]
        fn merged_files_read_as_they_did(
            writes in prop::collection::vec((0_u64..60_000, 1_usize..9_000, any::<u8>()), 1..30),
            slices in prop::collection::vec((0_u64..60_000, 1_u32..9_000), 0..4),
        ) {
            let mut world = World::new();
            let ino = world.file("f");
            let mut bytes = Vec::new();
            for (offset, len, with) in writes {
                world.write(ino, offset, &vec![with; len]);
                let end = offset as usize + len;
                bytes.resize(bytes.len().max(end), 0);
                bytes[offset as usize..end].fill(with);
            }
            for (number, (offset, len)) in (1..).zip(slices) {
                let data = WriteData::Slice(slice(number, len));
                world.run(&Cred::ROOT, Write { ino, at: WriteAt::Offset(offset), data, kill_suid: false }).unwrap();
                let end = offset as usize + len as usize;
                bytes.resize(bytes.len().max(end), 0);
                bytes[offset as usize..end].fill(0xEE);
            }
            let mut merged = std::collections::BTreeMap::<SliceId, Bytes>::new();
            let mut from = Place::FIRST;
            loop {
                let mut gather = Gather::new(SIZES, from, Place::LAST);
                match gather.step(&world.store).unwrap() {
                    Gathered::Run(run) => {
                        let slice = slice(100 + merged.len() as u64, run.bytes.len() as u32);
                        merged.insert(slice.id, run.bytes.clone());
                        world.run(&Cred::ROOT, run.merge(slice)).unwrap();
                    }
                    Gathered::More | Gathered::End => {}
                }
                let Some(rest) = gather.rest() else { break };
                from = rest;
            }
            let read = ReadLayout { ino, offset: 0, len: 1 << 20 };
            let Ok(Answer::Layout(layout)) = world.ask(&Cred::ROOT, read) else { panic!("no layout") };
            let mut there = Vec::new();
            let mut inline = 0;
            for piece in layout.pieces {
                match piece.source {
                    PieceSource::Inline(bytes) => {
                        inline += bytes.len();
                        there.extend(bytes);
                        prop_assert!(inline < SIZES.least as usize + SIZES.most as usize);
                    }
                    PieceSource::Zeros => {
                        inline = 0;
                        there.resize(there.len() + piece.len as usize, 0);
                    }
                    PieceSource::Slice { id, at, .. } => {
                        inline = 0;
                        let all = merged.get(&id).cloned().unwrap_or_else(|| vec![0xEE; 10_000].into());
                        there.extend(&all[at as usize..at as usize + piece.len as usize]);
                    }
                }
            }
            prop_assert!(there == bytes);
            prop_assert_eq!(all(&world), []);
        }
    }
}
