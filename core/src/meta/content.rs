//! # What a file consists of: extents
//!
//! A file's bytes are the extents it has, and zeros where it has none. An extent is stored under the offset just past its
//! end, so that one forward scan from an offset finds what covers it and what follows.
//!
//! ```text
//!   offset   0        4096      8192              20000        size
//!            [inline ][inline ] .....hole........ [slice 7.3 +0][zero....]
//! ```
//!
//! Everything is made of two moves: [`cut`] takes a range out, [`lay`] puts an extent where nothing is. Both keep the
//! slices' `refs` and the inode's `allocated` true (the inode is the caller's to store). Nothing but allocated zeros ever
//! lies beyond the file's length, so a file that grows reads zeros there.

use super::ops::SliceRef;
use super::txn::damaged;
use super::{Content, Extent, Inode, Key, Run, SliceInfo, Store, Txn, Value};
use crate::limits::{FILE_SIZE_MAX, INLINE_PIECE, SLICE_MAX};
use crate::types::{Errno, Ino, SliceId};
use bytes::{Bytes, BytesMut};

/// Past every extent.
const FAR: u64 = u64::MAX - 1;
/// Extents read at once where there may be very many.
const SCAN: usize = 1024;

/// An extent with both its ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub start: u64,
    pub end: u64,
    pub content: Content,
}

impl Span {
    pub(super) fn from_pair(pair: (Key, Value)) -> Run<Span> {
        match pair {
            (Key::Extent(_, end), Value::Extent(Extent { start, content })) if start < end => {
                Ok(Span { start, end, content })
            }
            _ => Err(damaged()),
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.end - self.start
    }

    /// The part between two offsets, if there is any.
    pub(super) fn clip(&self, from: u64, to: u64) -> Run<Option<Span>> {
        let (start, end) = (self.start.max(from), self.end.min(to));
        if start >= end {
            return Ok(None);
        }
        let skipped = start - self.start;
        let content = match &self.content {
            Content::Zero => Content::Zero,
            Content::Slice { id, at } => {
                let at = u32::try_from(u64::from(*at) + skipped).map_err(|_| damaged())?;
                Content::Slice { id: *id, at }
            }
            Content::Inline(bytes) => {
                let last = skipped + (end - start);
                if bytes.len() as u64 != self.len() {
                    return Err(damaged());
                }
                Content::Inline(bytes.slice(skipped as usize..last as usize))
            }
        };
        Ok(Some(Span { start, end, content }))
    }
}

/// The extents that touch `from..to`, in order, whole. At most `max` of them.
pub(super) fn spans<S: Store + ?Sized>(txn: &Txn<'_, S>, ino: Ino, from: u64, to: u64, max: usize) -> Run<Vec<Span>> {
    if from >= to {
        return Ok(Vec::new());
    }
    // Those that end inside the range, and the one that may reach past it.
    let inside = txn.range(&Key::Extent(ino, from + 1), &Key::Extent(ino, to), max)?;
    let mut spans = inside.into_iter().map(Span::from_pair).collect::<Run<Vec<_>>>()?;
    if spans.len() < max {
        let next = txn.range(&Key::Extent(ino, to), &Key::Extent(Ino(ino.0 + 1), 0), 1)?;
        for pair in next {
            let span = Span::from_pair(pair)?;
            if span.start < to {
                spans.push(span);
            }
        }
    }
    Ok(spans)
}

/// Takes a range out of the file: it reads zeros then, and takes no room.
pub(super) fn cut<S: Store + ?Sized>(txn: &mut Txn<'_, S>, ino: Ino, inode: &mut Inode, from: u64, to: u64) -> Run<()> {
    let mut at = from;
    loop {
        let found = spans(txn, ino, at, to, SCAN)?;
        let more = found.len() == SCAN;
        let Some(last) = found.last() else { return Ok(()) };
        at = last.end;
        for span in found {
            cut_span(txn, ino, inode, span, from, to)?;
        }
        if !more {
            return Ok(());
        }
    }
}

fn cut_span<S: Store + ?Sized>(
    txn: &mut Txn<'_, S>,
    ino: Ino,
    inode: &mut Inode,
    span: Span,
    from: u64,
    to: u64,
) -> Run<()> {
    txn.delete(Key::Extent(ino, span.end));
    inode.allocated = inode.allocated.checked_sub(span.len()).ok_or_else(damaged)?;
    // What stays is laid before the old reference goes, so that the slice is not forgotten in between.
    for kept in [span.clip(0, from)?, span.clip(to, FAR)?].into_iter().flatten() {
        lay(txn, ino, inode, kept, None)?;
    }
    if let Content::Slice { id, .. } = span.content {
        release(txn, id)?;
    }
    Ok(())
}

/// Puts an extent where nothing is. `slice` describes a slice that may be new.
fn lay<S: Store + ?Sized>(
    txn: &mut Txn<'_, S>,
    ino: Ino,
    inode: &mut Inode,
    span: Span,
    slice: Option<&SliceRef>,
) -> Run<()> {
    if let Content::Slice { id, .. } = span.content {
        refer(txn, id, slice)?;
    }
    inode.allocated += span.len();
    txn.put(Key::Extent(ino, span.end), Value::Extent(Extent { start: span.start, content: span.content }));
    Ok(())
}

pub(super) fn slice_info<S: Store + ?Sized>(txn: &Txn<'_, S>, id: SliceId) -> Run<Option<SliceInfo>> {
    match txn.get(&Key::Slice(id))? {
        Some(Value::Slice(info)) => Ok(Some(info)),
        Some(_) => Err(damaged()),
        None => Ok(None),
    }
}

fn refer<S: Store + ?Sized>(txn: &mut Txn<'_, S>, id: SliceId, new: Option<&SliceRef>) -> Run<()> {
    let mut info = match (slice_info(txn, id)?, new) {
        (Some(info), _) => info,
        (None, Some(new)) => SliceInfo { len: new.len, nodes: new.nodes.clone(), refs: 0 },
        (None, None) => return Err(damaged()),
    };
    info.refs = info.refs.checked_add(1).ok_or(Errno::EMLINK)?;
    txn.put(Key::Slice(id), Value::Slice(info));
    Ok(())
}

/// One extent fewer names the slice; with the last one it is forgotten.
pub(super) fn release<S: Store + ?Sized>(txn: &mut Txn<'_, S>, id: SliceId) -> Run<()> {
    let mut info = slice_info(txn, id)?.ok_or_else(damaged)?;
    info.refs = info.refs.checked_sub(1).ok_or_else(damaged)?;
    if info.refs == 0 {
        txn.delete(Key::Slice(id));
    } else {
        txn.put(Key::Slice(id), Value::Slice(info));
    }
    Ok(())
}

/// The end of a range, or EFBIG.
pub(super) fn end_of(offset: u64, len: u64) -> Run<u64> {
    match offset.checked_add(len) {
        Some(end) if end <= FILE_SIZE_MAX => Ok(end),
        _ => Err(Errno::EFBIG.into()),
    }
}

/// Writes bytes, joined with the inline bytes that they overlap or touch within the same piece: an append rewrites the last
/// piece and no more.
pub(super) fn write_inline<S: Store + ?Sized>(
    txn: &mut Txn<'_, S>,
    ino: Ino,
    inode: &mut Inode,
    offset: u64,
    data: &Bytes,
) -> Run<()> {
    let end = offset + data.len() as u64;
    let mut start = offset;
    let mut bytes = data.clone();
    if let Some(head) = inline_before(txn, ino, offset)? {
        start -= head.len() as u64;
        bytes = joined(&head, &bytes);
    }
    let tail = inline_after(txn, ino, end)?.unwrap_or_default();
    if !tail.is_empty() {
        bytes = joined(&bytes, &tail);
    }
    cut(txn, ino, inode, start, end + tail.len() as u64)?;
    while !bytes.is_empty() {
        let room = INLINE_PIECE - start % INLINE_PIECE;
        let piece = bytes.split_to(bytes.len().min(room as usize));
        let next = start + piece.len() as u64;
        lay(txn, ino, inode, Span { start, end: next, content: Content::Inline(piece) }, None)?;
        start = next;
    }
    Ok(())
}

fn joined(a: &Bytes, b: &Bytes) -> Bytes {
    let mut both = BytesMut::with_capacity(a.len() + b.len());
    both.extend_from_slice(a);
    both.extend_from_slice(b);
    both.freeze()
}

/// Inline bytes of the same piece that lie right before an offset.
fn inline_before<S: Store + ?Sized>(txn: &Txn<'_, S>, ino: Ino, offset: u64) -> Run<Option<Bytes>> {
    if offset.is_multiple_of(INLINE_PIECE) {
        return Ok(None);
    }
    inline_part(spans(txn, ino, offset - 1, offset, 1)?, 0, offset)
}

/// Inline bytes of the same piece that lie right after an offset.
fn inline_after<S: Store + ?Sized>(txn: &Txn<'_, S>, ino: Ino, offset: u64) -> Run<Option<Bytes>> {
    if offset.is_multiple_of(INLINE_PIECE) {
        return Ok(None);
    }
    inline_part(spans(txn, ino, offset, offset + 1, 1)?, offset, FAR)
}

fn inline_part(found: Vec<Span>, from: u64, to: u64) -> Run<Option<Bytes>> {
    let Some(span) = found.first() else { return Ok(None) };
    match span.clip(from, to)? {
        Some(Span { content: Content::Inline(bytes), .. }) => Ok(Some(bytes)),
        _ => Ok(None),
    }
}

/// What a peer says of a slice must make sense before it becomes part of the state.
pub(super) fn check_slice<S: Store + ?Sized>(txn: &Txn<'_, S>, slice: &SliceRef) -> Run<()> {
    let known_otherwise = slice_info(txn, slice.id)?.is_some_and(|info| info.len != slice.len);
    if slice.len == 0 || slice.len as usize > SLICE_MAX || slice.nodes.is_empty() || known_otherwise {
        return Err(Errno::EINVAL.into());
    }
    Ok(())
}

/// Puts a whole slice at an offset, in the place of what was there.
pub(super) fn write_slice<S: Store + ?Sized>(
    txn: &mut Txn<'_, S>,
    ino: Ino,
    inode: &mut Inode,
    offset: u64,
    slice: &SliceRef,
) -> Run<()> {
    let end = offset + u64::from(slice.len);
    cut(txn, ino, inode, offset, end)?;
    let content = Content::Slice { id: slice.id, at: 0 };
    lay(txn, ino, inode, Span { start: offset, end, content }, Some(slice))
}

/// Puts a copy of a piece of some file into this one. Slices are shared.
pub(super) fn write_span<S: Store + ?Sized>(txn: &mut Txn<'_, S>, ino: Ino, inode: &mut Inode, span: Span) -> Run<()> {
    if let Content::Inline(bytes) = &span.content {
        return write_inline(txn, ino, inode, span.start, bytes);
    }
    cut(txn, ino, inode, span.start, span.end)?;
    lay(txn, ino, inode, span, None)
}

/// Makes a range allocated zeros, whatever was there.
pub(super) fn zero<S: Store + ?Sized>(
    txn: &mut Txn<'_, S>,
    ino: Ino,
    inode: &mut Inode,
    from: u64,
    to: u64,
) -> Run<()> {
    write_span(txn, ino, inode, Span { start: from, end: to, content: Content::Zero })
}

/// Fills the holes of a range with allocated zeros.
pub(super) fn allocate<S: Store + ?Sized>(
    txn: &mut Txn<'_, S>,
    ino: Ino,
    inode: &mut Inode,
    from: u64,
    to: u64,
) -> Run<()> {
    let mut at = from;
    while at < to {
        let next = spans(txn, ino, at, to, 1)?.pop();
        let hole_ends = next.as_ref().map_or(to, |span| span.start);
        if at < hole_ends {
            lay(txn, ino, inode, Span { start: at, end: hole_ends, content: Content::Zero }, None)?;
        }
        at = next.map_or(to, |span| span.end);
    }
    Ok(())
}

/// Cuts or extends the file to a length, and drops what was allocated beyond it.
pub(super) fn truncate<S: Store + ?Sized>(txn: &mut Txn<'_, S>, ino: Ino, inode: &mut Inode, size: u64) -> Run<()> {
    if size <= inode.size {
        cut(txn, ino, inode, size, FAR)?;
    }
    inode.size = size;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::Memory;
    use crate::meta::testing::{World, slice};

    struct File {
        world: World,
        ino: Ino,
    }

    impl File {
        fn new() -> File {
            let mut world = World::new();
            let ino = world.file("f");
            File { world, ino }
        }

        fn change(&mut self, change: impl FnOnce(&mut Txn<'_, Memory>, Ino, &mut Inode) -> Run<()>) {
            let ino = self.ino;
            self.world.change(|txn| {
                let mut inode = txn.inode(ino)?;
                change(txn, ino, &mut inode)?;
                inode.size = inode.size.max(100_000);
                txn.put_inode(ino, inode)
            });
            self.world.check();
        }

        fn inline(&mut self, at: u64, data: &[u8]) {
            let data = Bytes::copy_from_slice(data);
            self.change(|txn, ino, inode| write_inline(txn, ino, inode, at, &data));
        }

        fn slice(&mut self, at: u64, number: u64, len: u32) {
            self.change(|txn, ino, inode| write_slice(txn, ino, inode, at, &slice(number, len)));
        }

        fn cut(&mut self, from: u64, to: u64) {
            self.change(|txn, ino, inode| cut(txn, ino, inode, from, to));
        }

        fn ends(&self) -> Vec<(u64, u64)> {
            let txn = Txn::new(&self.world.store, World::NOW);
            spans(&txn, self.ino, 0, FAR, 100).unwrap().iter().map(|s| (s.start, s.end)).collect()
        }

        fn refs(&self, number: u64) -> u32 {
            let txn = Txn::new(&self.world.store, World::NOW);
            slice_info(&txn, slice(number, 1).id).unwrap().map_or(0, |info| info.refs)
        }
    }

    #[test]
    fn inline_bytes_grow_within_their_piece_and_never_across() {
        let mut file = File::new();
        file.inline(10, b"abc");
        file.inline(13, b"def");
        assert_eq!(file.ends(), [(10, 16)]);
        file.inline(4000, &[1; 200]);
        assert_eq!(file.ends(), [(10, 16), (4000, 4096), (4096, 4200)]);
        file.inline(16, &[2; 3984]);
        assert_eq!(file.ends(), [(10, 4096), (4096, 4200)]);
        file.inline(12, b"Z");
        assert_eq!(file.ends(), [(10, 4096), (4096, 4200)]);
    }

    #[test]
    fn a_cut_slice_is_named_once_for_each_part_and_forgotten_with_the_last() {
        let mut file = File::new();
        file.slice(0, 1, 100);
        assert_eq!(file.refs(1), 1);
        file.cut(40, 60);
        assert_eq!((file.refs(1), file.ends()), (2, vec![(0, 40), (60, 100)]));
        file.cut(0, 10);
        assert_eq!((file.refs(1), file.ends()), (2, vec![(10, 40), (60, 100)]));
        file.cut(0, 50);
        assert_eq!((file.refs(1), file.ends()), (1, vec![(60, 100)]));
        file.slice(60, 2, 40);
        assert_eq!((file.refs(1), file.refs(2)), (0, 1));
    }

    #[test]
    fn a_slice_written_over_itself_stays_known() {
        let mut file = File::new();
        file.slice(0, 1, 100);
        file.slice(0, 1, 100);
        file.slice(50, 1, 100);
        assert_eq!((file.refs(1), file.ends()), (2, vec![(0, 50), (50, 150)]));
    }

    #[test]
    fn allocation_fills_only_the_holes() {
        let mut file = File::new();
        file.slice(10, 1, 10);
        file.change(|txn, ino, inode| allocate(txn, ino, inode, 0, 30));
        assert_eq!(file.ends(), [(0, 10), (10, 20), (20, 30)]);
        assert_eq!(file.world.inode(file.ino).allocated, 30);
    }

    #[test]
    fn what_is_cut_off_does_not_come_back() {
        let mut file = File::new();
        file.inline(0, b"abcdef");
        file.change(|txn, ino, inode| {
            truncate(txn, ino, inode, 3)?;
            truncate(txn, ino, inode, 6)
        });
        assert_eq!(file.ends(), [(0, 3)]);
    }

    #[test]
    fn many_extents_are_cut_in_chunks() {
        let mut file = File::new();
        for i in 0..(SCAN as u64 + 10) {
            let world = &mut file.world;
            world.write(file.ino, i * 16, &[7; 4]);
        }
        let left = SCAN as u64 + 10;
        assert_eq!(file.world.inode(file.ino).allocated, left * 4);
        file.cut(2, FAR);
        assert_eq!(file.ends(), [(0, 2)]);
    }
}
