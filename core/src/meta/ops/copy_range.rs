use crate::limits::{COPY_MAX, LAYOUT_EXTENTS_MAX};
use crate::meta::content::{self, Span};
use crate::meta::txn::damaged;
use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::meta::{locks, privileges};
use crate::types::{Cred, Errno, Ino};
use serde::{Deserialize, Serialize};

/// Copies a range between files, or within one, without moving a byte of what lies in slices: the extents are shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRange {
    pub from: Ino,
    pub from_offset: u64,
    pub to: Ino,
    pub to_offset: u64,
    pub len: u64,
}

impl Step for CopyRange {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let source = txn.file(self.from)?;
        let mut target = txn.file(self.to)?;
        locks::must_not_be_broken(txn, self.to)?;
        let there = self.len.min(source.size.saturating_sub(self.from_offset));
        if self.from == self.to && overlap(self.from_offset, self.to_offset, there) {
            return Err(Errno::EINVAL.into());
        }
        let len = there.min(COPY_MAX);
        if len == 0 {
            return Ok(Answer::Copied(0));
        }
        content::end_of(self.to_offset, len)?;
        let (spans, copied) = self.taken(txn, len)?;
        let end = self.to_offset + copied;
        content::cut(txn, self.to, &mut target, self.to_offset, end)?;
        for span in spans {
            content::write_span(txn, self.to, &mut target, span)?;
        }
        target.size = target.size.max(end);
        target.modified(txn.now);
        privileges::withdraw(txn, self.to, &mut target, cred.is_root())?;
        txn.put_inode(self.to, target)?;
        Ok(Answer::Copied(copied))
    }
}

impl CopyRange {
    /// The source's extents, moved to where they go, and how many bytes they stand for, the holes between them included.
    /// Where there are very many, the copy is short.
    fn taken<S: Store + ?Sized>(&self, txn: &Txn<'_, S>, len: u64) -> Run<(Vec<Span>, u64)> {
        let end = self.from_offset + len;
        let found = content::spans(txn, self.from, self.from_offset, end, LAYOUT_EXTENTS_MAX)?;
        let copied = match found.last() {
            Some(last) if found.len() == LAYOUT_EXTENTS_MAX => last.end.min(end) - self.from_offset,
            _ => len,
        };
        let move_there = |span: Span| {
            let mut span = span.clip(self.from_offset, end)?.ok_or_else(damaged)?;
            span.start = span.start - self.from_offset + self.to_offset;
            span.end = span.end - self.from_offset + self.to_offset;
            Ok(span)
        };
        let spans = found.into_iter().map(move_there).collect::<Run<_>>()?;
        Ok((spans, copied))
    }
}

fn overlap(a: u64, b: u64, len: u64) -> bool {
    a.abs_diff(b) < len
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::ops::{PlaceSlice, ReadLayout, Write, WriteAt, WriteData};
    use crate::meta::testing::{World, fails, slice};
    use crate::meta::{Piece, PieceSource};
    use crate::types::NodeId;

    #[test]
    fn a_slice_is_shared_and_known_by_its_new_place() {
        let mut world = World::new();
        let (from, to) = (world.file("f"), world.file("g"));
        let data = WriteData::Slice(slice(1, 100));
        world.run(&Cred::ROOT, Write { ino: from, at: WriteAt::Offset(50), data, kill_suid: false }).unwrap();
        let copy = CopyRange { from, from_offset: 0, to, to_offset: 10, len: 80 };
        assert_eq!(world.run(&Cred::ROOT, copy.clone()), Ok(Answer::Copied(80)));
        let nodes = vec![NodeId(2), NodeId(3)];
        world.run(&Cred::ROOT, PlaceSlice { id: slice(1, 1).id, nodes: nodes.clone() }).unwrap();
        let layout = world.ask(&Cred::ROOT, ReadLayout { ino: to, offset: 0, len: 1000 });
        let Ok(Answer::Layout(layout)) = layout else { panic!("{layout:?}") };
        let source = PieceSource::Slice { id: slice(1, 1).id, at: 0, nodes };
        let expected = [Piece { len: 60, source: PieceSource::Zeros }, Piece { len: 30, source }];
        assert_eq!((layout.size, &layout.pieces[..]), (90, &expected[..]));
        assert_eq!((world.attr(to).size, world.attr(to).allocated), (90, 30));
        let past = CopyRange { from_offset: 150, ..copy };
        assert_eq!(world.run(&Cred::ROOT, past), Ok(Answer::Copied(0)));
    }

    #[test]
    fn a_range_is_not_copied_onto_itself() {
        let mut world = World::new();
        let ino = world.file("f");
        world.write(ino, 0, &[1; 100]);
        let copy = CopyRange { from: ino, from_offset: 0, to: ino, to_offset: 50, len: 51 };
        assert_eq!(world.run(&Cred::ROOT, copy.clone()), fails(Errno::EINVAL));
        assert_eq!(world.run(&Cred::ROOT, CopyRange { len: 50, ..copy }), Ok(Answer::Copied(50)));
    }
}
