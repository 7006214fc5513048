use crate::limits::LAYOUT_EXTENTS_MAX;
use crate::meta::content::{self, Span};
use crate::meta::txn::damaged;
use crate::meta::{Answer, Content, Layout, Piece, PieceSource, Run, Step, Store, Txn};
use crate::types::{Cred, Ino};
use serde::{Deserialize, Serialize};

/// Where the bytes of a range are. At most LAYOUT_EXTENTS_MAX pieces: the layout may end before the range does, never
/// with a gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadLayout {
    pub ino: Ino,
    pub offset: u64,
    pub len: u32,
}

impl Step for ReadLayout {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, _cred: &Cred) -> Run<Answer> {
        let inode = txn.file(self.ino)?;
        let end = inode.size.min(self.offset.saturating_add(u64::from(self.len)));
        let pieces = if self.offset < end { self.pieces(txn, end)? } else { Vec::new() };
        Ok(Answer::Layout(Layout { size: inode.size, content: inode.content, pieces }))
    }
}

impl ReadLayout {
    fn pieces<S: Store + ?Sized>(&self, txn: &Txn<'_, S>, end: u64) -> Run<Vec<Piece>> {
        let found = content::spans(txn, self.ino, self.offset, end, LAYOUT_EXTENTS_MAX)?;
        let all = found.len() < LAYOUT_EXTENTS_MAX;
        let mut pieces = Vec::with_capacity(found.len() + 1);
        let mut at = self.offset;
        for span in found {
            let Some(span) = span.clip(at, end)? else { return Err(damaged()) };
            if at < span.start {
                pieces.push(zeros(span.start - at));
            }
            at = span.end;
            pieces.push(piece(txn, span)?);
        }
        if all && at < end {
            pieces.push(zeros(end - at));
        }
        pieces.truncate(LAYOUT_EXTENTS_MAX);
        Ok(pieces)
    }
}

fn zeros(len: u64) -> Piece {
    Piece { len, source: PieceSource::Zeros }
}

fn piece<S: Store + ?Sized>(txn: &Txn<'_, S>, span: Span) -> Run<Piece> {
    let len = span.len();
    let source = match span.content {
        Content::Zero => PieceSource::Zeros,
        Content::Inline(bytes) => PieceSource::Inline(bytes),
        Content::Slice { id, at } => {
            let nodes = content::slice_info(txn, id)?.ok_or_else(damaged)?.nodes;
            PieceSource::Slice { id, at, nodes }
        }
    };
    Ok(Piece { len, source })
}
