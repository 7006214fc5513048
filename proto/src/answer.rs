//! What operations answer: [`Answer`] and the [`Reply`] around it.

use crate::bad::{BadMessage, Why};
use crate::field::{Field, Message, at_least, at_most, messages, need};
use crate::ops::is_target;
use crate::session::read_client;
use crate::types::few_nodes;
use crate::v1::{self, answer::Is, piece::Source};
use baton_core::limits::{LAYOUT_EXTENTS_MAX, LISTING_MAX, SLICE_MAX, XATTR_LIST_MAX, XATTR_VALUE_MAX};
use baton_core::meta::locks::InTheWay;
use baton_core::meta::{Answer, DirEntry, Layout, Piece, PieceSource, StatFs};
use baton_core::session::Reply;
use baton_core::types::Cookie;

messages! {
    DirEntry = v1::DirEntry { cookie, name, ino, kind, attr } if entry_has_its_place;
    Layout = v1::Layout { size, content, pieces } if layout_fits;
    Piece = v1::Piece { len, source } if piece_is_whole;
    StatFs = v1::StatFs { inodes, allocated, total, free };
}

fn entry_has_its_place(entry: &DirEntry) -> Result<(), BadMessage> {
    at_least(entry.cookie.0 as usize, Cookie::FIRST.0 as usize, "cookie")
}

fn layout_fits(layout: &Layout) -> Result<(), BadMessage> {
    at_most(layout.pieces.len(), LAYOUT_EXTENTS_MAX, "pieces")
}

/// The bytes that a piece speaks of are there: all that came inline, or a range within a slice.
fn piece_is_whole(piece: &Piece) -> Result<(), BadMessage> {
    match &piece.source {
        PieceSource::Zeros => Ok(()),
        PieceSource::Inline(bytes) if bytes.len() as u64 == piece.len => Ok(()),
        PieceSource::Inline(_) => Err(Why::Order("the bytes are more or fewer than the piece's length").at("inline")),
        PieceSource::Slice { at, nodes, .. } => {
            let max = (SLICE_MAX as u64).saturating_sub((*at).into());
            if piece.len > max {
                return Err(Why::TooMuch { got: piece.len, max }.at("len"));
            }
            few_nodes(nodes)
        }
    }
}

impl Message for PieceSource {
    type Wire = Source;
}

impl From<PieceSource> for Source {
    fn from(source: PieceSource) -> Self {
        match source {
            PieceSource::Zeros => Source::Zeros(v1::Unit {}),
            PieceSource::Inline(bytes) => Source::Inline(bytes),
            PieceSource::Slice { id, at, nodes } => {
                Source::Slice(v1::SlicePart { id: id.into_wire(), at, nodes: nodes.into_wire() })
            }
        }
    }
}

impl TryFrom<Source> for PieceSource {
    type Error = BadMessage;
    fn try_from(source: Source) -> Result<Self, BadMessage> {
        Ok(match source {
            Source::Zeros(_) => PieceSource::Zeros,
            Source::Inline(bytes) => PieceSource::Inline(bytes),
            Source::Slice(part) => PieceSource::Slice {
                id: need(part.id, "slice.id")?,
                at: part.at,
                nodes: need(part.nodes, "slice.nodes")?,
            },
        })
    }
}

impl Message for Answer {
    type Wire = v1::Answer;
}

impl From<Answer> for v1::Answer {
    fn from(answer: Answer) -> Self {
        let is = match answer {
            Answer::Done => Is::Done(v1::Unit {}),
            Answer::Attr(attr) => Is::Attr(attr.into()),
            Answer::Target(target) => Is::Target(target),
            Answer::Listing { entries, end } => Is::Listing(v1::Listing { entries: entries.into_wire(), end }),
            Answer::Layout(layout) => Is::Layout(layout.into()),
            Answer::Written { offset, attr } => Is::Written(v1::Written { offset, attr: attr.into_wire() }),
            Answer::Copied(bytes) => Is::Copied(bytes),
            Answer::Offset(offset) => Is::Offset(offset),
            Answer::Xattr(value) => Is::Xattr(value),
            Answer::XattrNames(names) => Is::XattrNames(names),
            Answer::StatFs(stat) => Is::StatFs(stat.into()),
            Answer::Queued => Is::Queued(v1::Queued::default()),
            Answer::Behind(InTheWay { lock, client, waits }) => {
                Is::Queued(v1::Queued { behind: lock.into_wire(), client, waits })
            }
            Answer::Broken(locks) => Is::Broken(v1::LocksBroken { locks: locks.into_wire() }),
            Answer::LockedBy(lock) => Is::LockedBy(v1::LockedBy { lock: lock.into_wire() }),
        };
        Self { is: Some(is) }
    }
}

impl TryFrom<v1::Answer> for Answer {
    type Error = BadMessage;
    fn try_from(answer: v1::Answer) -> Result<Self, BadMessage> {
        Ok(match answer.is.ok_or(Why::Missing.at(""))? {
            Is::Done(_) => Answer::Done,
            Is::Attr(attr) => Answer::Attr(need(Some(attr), "attr")?),
            Is::Target(target) => {
                is_target(&target, "target")?;
                Answer::Target(target)
            }
            Is::Listing(listing) => {
                at_most(listing.entries.len(), LISTING_MAX, "entries")?;
                Answer::Listing { entries: need(listing.entries, "entries")?, end: listing.end }
            }
            Is::Layout(layout) => Answer::Layout(need(Some(layout), "layout")?),
            Is::Written(written) => {
                Answer::Written { offset: written.offset, attr: need(written.attr, "written.attr")? }
            }
            Is::Copied(bytes) => Answer::Copied(bytes),
            Is::Offset(offset) => Answer::Offset(offset),
            Is::Xattr(value) => {
                at_most(value.len(), XATTR_VALUE_MAX, "xattr")?;
                Answer::Xattr(value)
            }
            Is::XattrNames(names) => {
                at_most(names.len(), XATTR_LIST_MAX, "xattr_names")?;
                Answer::XattrNames(names)
            }
            Is::StatFs(stat) => Answer::StatFs(need(Some(stat), "stat_fs")?),
            Is::Queued(v1::Queued { behind: None, .. }) => Answer::Queued,
            Is::Queued(v1::Queued { behind, client, waits }) => {
                let (lock, client) = (need(behind, "queued.behind")?, read_client(client)?);
                Answer::Behind(InTheWay { lock, client, waits })
            }
            Is::Broken(broken) => Answer::Broken(need(broken.locks, "broken.locks")?),
            Is::LockedBy(locked) => Answer::LockedBy(need(locked.lock, "locked_by.lock")?),
        })
    }
}

impl Message for Reply {
    type Wire = v1::Reply;
}

impl From<Reply> for v1::Reply {
    fn from(reply: Reply) -> Self {
        use v1::reply::Is;
        let is = match reply {
            Reply::Done(answer) => Is::Done(answer.into()),
            Reply::Failed(errno) => Is::Failed(errno.into_wire()),
            Reply::NeedGroups => Is::NeedGroups(v1::Unit {}),
        };
        Self { is: Some(is) }
    }
}

impl TryFrom<v1::Reply> for Reply {
    type Error = BadMessage;
    fn try_from(reply: v1::Reply) -> Result<Self, BadMessage> {
        use v1::reply::Is;
        Ok(match reply.is.ok_or(Why::Missing.at(""))? {
            Is::Done(answer) => Reply::Done(need(Some(answer), "done")?),
            Is::Failed(code) => Reply::Failed(need(code, "failed")?),
            Is::NeedGroups(_) => Reply::NeedGroups,
        })
    }
}
