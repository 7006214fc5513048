use super::SliceRef;
use crate::meta::{Answer, Content, Run, Step, Store, Txn};
use crate::meta::{access, content, digest};
use crate::types::{Cred, Errno, Ino};
use serde::{Deserialize, Serialize};

/// Puts a slice in the place of inline bytes that are the same: what the background merging of small writes ends in
/// ([`Gather`](crate::meta::Gather) finds them). Refused with EAGAIN where anything else is there by now. Nobody who reads the
/// file can tell: no byte, no time, no version and no count of anything changes. So nobody's copies are taken back for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merge {
    pub ino: Ino,
    pub offset: u64,
    pub slice: SliceRef,
    /// Of the bytes in the slice.
    pub digest: u64,
}

/// Extents that may lie in the range: inline ones are pieces of some hundred bytes and more, but for a few.
const EXTENTS_MAX: usize = 1 << 16;

impl Step for Merge {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        access::must_be_root(cred)?;
        let mut inode = txn.file(self.ino)?;
        content::check_slice(txn, &self.slice)?;
        let end = content::end_of(self.offset, u64::from(self.slice.len))?;
        if self.digest_there(txn, end)? != Some(self.digest) {
            return Err(Errno::EAGAIN.into());
        }
        // The inode is the same afterwards: as much is allocated.
        content::write_slice(txn, self.ino, &mut inode, self.offset, &self.slice)?;
        Ok(Answer::Done)
    }
}

impl Merge {
    /// Of the bytes that are there, if all of them are inline ones.
    fn digest_there<S: Store + ?Sized>(&self, txn: &Txn<'_, S>, end: u64) -> Run<Option<u64>> {
        let mut there = digest::Digest::default();
        let mut at = self.offset;
        for span in content::spans(txn, self.ino, self.offset, end, EXTENTS_MAX)? {
            match span.clip(at, end)? {
                Some(content::Span { start, end, content: Content::Inline(bytes) }) if start == at => {
                    there.add(&bytes);
                    at = end;
                }
                _ => return Ok(None),
            }
        }
        Ok((at == end).then(|| there.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::ops::{ReadLayout, SetAttr};
    use crate::meta::testing::{SET_NOTHING, World, fails, slice, user};
    use crate::meta::{Key, PieceSource, Stop};

    fn digest_of(bytes: &[u8]) -> u64 {
        let mut digest = digest::Digest::default();
        digest.add(bytes);
        digest.end()
    }

    fn merge(ino: Ino, offset: u64, number: u64, bytes: &[u8]) -> Merge {
        Merge { ino, offset, slice: slice(number, bytes.len() as u32), digest: digest_of(bytes) }
    }

    fn sources(world: &World, ino: Ino) -> Vec<(u64, bool)> {
        let layout = world.ask(&Cred::ROOT, ReadLayout { ino, offset: 0, len: 1 << 20 });
        let Ok(Answer::Layout(layout)) = layout else { panic!("{layout:?}") };
        layout.pieces.iter().map(|piece| (piece.len, matches!(piece.source, PieceSource::Slice { .. }))).collect()
    }

    #[test]
    fn nothing_but_where_the_bytes_lie_is_changed() {
        let mut world = World::new();
        let ino = world.file("f");
        world.write(ino, 0, &[1; 100]);
        world.write(ino, 4096, &[2; 5000]);
        let before = (world.attr(ino), world.inode(ino));
        let pieces = [vec![2; 4096], vec![2; 904]].concat();
        assert_eq!(world.run(&user(5), merge(ino, 4096, 1, &pieces)), fails(Errno::EPERM));
        world.run(&Cred::ROOT, merge(ino, 4096, 1, &pieces)).unwrap();
        assert_eq!((world.attr(ino), world.inode(ino)), before);
        assert_eq!(sources(&world, ino), [(100, false), (3996, false), (5000, true)]);
    }

    #[test]
    fn a_part_of_a_piece_can_be_merged_and_the_rest_stays() {
        let mut world = World::new();
        let ino = world.file("f");
        world.write(ino, 0, &[7; 300]);
        world.run(&Cred::ROOT, merge(ino, 100, 1, &[7; 100])).unwrap();
        assert_eq!(sources(&world, ino), [(100, false), (100, true), (100, false)]);
    }

    #[test]
    fn what_is_otherwise_by_now_stays_as_it_is() {
        let mut world = World::new();
        let ino = world.file("f");
        world.write(ino, 0, &[1; 9000]);
        let wanted = merge(ino, 0, 1, &[1; 9000]);
        for (offset, bytes) in [(0, &b"x"[..]), (4100, b"y"), (8999, b"z")] {
            world.write(ino, offset, bytes);
            assert_eq!(world.run(&Cred::ROOT, wanted.clone()), fails(Errno::EAGAIN));
            world.write(ino, offset, &[1]);
        }
        let beyond = Merge { slice: slice(1, 9001), ..wanted.clone() };
        assert_eq!(world.run(&Cred::ROOT, beyond), fails(Errno::EAGAIN));
        let cut = SetAttr { ino, size: Some(8000), ..SET_NOTHING };
        world.run(&Cred::ROOT, cut).unwrap();
        assert_eq!(world.run(&Cred::ROOT, wanted.clone()), fails(Errno::EAGAIN));
        world.write(ino, 8000, &[1; 1000]);
        world.run(&Cred::ROOT, wanted.clone()).unwrap();
        assert_eq!(world.run(&Cred::ROOT, wanted), fails(Errno::EAGAIN), "it is a slice already");
    }

    #[test]
    fn bytes_appended_behind_do_not_matter() {
        let mut world = World::new();
        let ino = world.file("log");
        world.write(ino, 0, &[1; 5000]);
        world.write(ino, 5000, &[2; 50]);
        world.run(&Cred::ROOT, merge(ino, 0, 1, &[1; 5000])).unwrap();
        assert_eq!(sources(&world, ino), [(5000, true), (50, false)]);
    }

    #[test]
    fn a_merged_slice_goes_with_the_last_of_its_bytes() {
        let mut world = World::new();
        let ino = world.file("f");
        world.write(ino, 0, &[1; 5000]);
        world.run(&Cred::ROOT, merge(ino, 0, 1, &[1; 5000])).unwrap();
        world.write(ino, 0, &[3; 5000]);
        let gone = world.store.get(&Key::Slice(slice(1, 1).id)).unwrap();
        assert_eq!(gone, None);
        assert!(matches!(world.run(&Cred::ROOT, merge(Ino(99), 0, 2, &[1; 5])), Err(Stop::Errno(_))));
    }
}
