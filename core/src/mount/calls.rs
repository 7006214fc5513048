//! What each call does, as straight-line code.

use super::call::{Call, Done};
use super::flow::{Flow, Halt, SlicePart, Step};
use crate::limits::{INLINE_WRITE_MAX, READ_MAX, SLICE_MAX};
use crate::meta::locks::LockOwner;
use crate::meta::ops::{
    CancelLock, Create, GetLock, Lock, Open, ReadLayout, SliceRef, Unlock, Write, WriteAt, WriteData,
};
use crate::meta::{Answer, Op, Piece, PieceSource, Query};
use crate::types::{Attr, Errno, Ino};
use bytes::Bytes;

/// How a call ends: most as they are, an open with a handle that the machine still has to give.
pub(super) enum End {
    Done(Done),
    Opened(Attr),
}

pub(super) fn run(call: &Call, flow: &mut Flow<'_>) -> Step<End> {
    Ok(match call {
        Call::Ask(query) => End::Done(Done::Answer(ask(flow, query)?)),
        Call::Do(op) => End::Done(Done::Answer(act(flow, op)?)),
        Call::Open { ino, read, write, exec } => End::Opened(open(flow, *ino, *read, *write, *exec)?),
        Call::Create(create) => End::Opened(make(flow, create)?),
        Call::Read { ino, offset, len, .. } => End::Done(Done::Data(read(flow, *ino, *offset, *len)?)),
        Call::Write { ino, at, data, kill_suid, .. } => End::Done(write(flow, *ino, *at, data, *kill_suid)?),
        // Writes went through before they returned.
        Call::Sync { .. } | Call::Release(_) => End::Done(Done::Nothing),
        Call::Lock { ino, owner, pid, start, end, exclusive, wait, .. } => {
            let ticket = wait.then_some(flow.call.0);
            let lock =
                Lock { ino: *ino, owner: *owner, pid: *pid, start: *start, end: *end, exclusive: *exclusive, ticket };
            End::Done(self::lock(flow, lock)?)
        }
        Call::Unlock { ino, owner, start, end } => {
            End::Done(Done::Answer(flow.act(Unlock { ino: *ino, owner: *owner, start: *start, end: *end })?))
        }
        Call::GetLock { ino, owner, start, end, exclusive } => {
            let by = LockOwner { session: flow.session, owner: *owner };
            let get = GetLock { ino: *ino, by, start: *start, end: *end, exclusive: *exclusive };
            End::Done(Done::Answer(flow.ask(get)?))
        }
    })
}

fn ask(flow: &mut Flow<'_>, query: &Query) -> Step<Answer> {
    flow.ask(query.clone())
}

fn act(flow: &mut Flow<'_>, op: &Op) -> Step<Answer> {
    flow.act(op.clone())
}

/// The call's own number is the ticket: no two calls of a session have the same.
fn lock(flow: &mut Flow<'_>, lock: Lock) -> Step<Done> {
    let by = LockOwner { session: flow.session, owner: lock.owner };
    let (ino, owner, ticket) = (lock.ino, lock.owner, flow.call.0);
    let queued = flow.act(lock)? == Answer::Queued;
    if queued && !flow.turn(ino, by, ticket)? && flow.act(CancelLock { ino, owner, ticket })? == Answer::Queued {
        return Err(Halt::Errno(Errno::EINTR));
    }
    Ok(Done::Nothing)
}

fn open(flow: &mut Flow<'_>, ino: Ino, read: bool, write: bool, exec: bool) -> Step<Attr> {
    attr(flow.ask(Open { ino, read, write, exec })?)
}

fn make(flow: &mut Flow<'_>, create: &Create) -> Step<Attr> {
    attr(flow.act(create.clone())?)
}

fn attr(answer: Answer) -> Step<Attr> {
    match answer {
        Answer::Attr(attr) => Ok(attr),
        _ => Err(Halt::Errno(Errno::EIO)),
    }
}

/// The bytes of a range, as they are at one moment: the layout's. A slice that is gone by the time it is fetched was
/// replaced after that moment, and everything is read again.
fn read(flow: &mut Flow<'_>, ino: Ino, offset: u64, len: u32) -> Step<Vec<Bytes>> {
    let pieces = layout(flow, ino, offset, len.min(READ_MAX))?;
    let mut fetched = flow.get(parts(&pieces))?.iter();
    let mut bytes = Vec::with_capacity(pieces.len());
    for piece in &pieces {
        bytes.push(match &piece.source {
            PieceSource::Zeros => zeros(piece.len),
            PieceSource::Inline(inline) => inline.clone(),
            PieceSource::Slice { .. } => {
                let part = fetched.next().ok_or(Halt::Errno(Errno::EIO))?;
                if part.len() as u64 != piece.len {
                    return Err(Halt::Restart);
                }
                part.clone()
            }
        });
    }
    Ok(bytes)
}

/// All pieces of a range. One answer may end before the range does: to give no more would be to say that the file ends there. They
/// are of one moment, for which all is asked again where the bytes changed meanwhile; if they change all the time, each answer is of
/// its own moment at last, as where a program reads in so many steps.
fn layout(flow: &mut Flow<'_>, ino: Ino, offset: u64, len: u32) -> Step<Vec<Piece>> {
    const PATIENT: u32 = 8;
    let end = offset.saturating_add(len.into());
    let (mut at, mut pieces, mut content) = (offset, Vec::new(), None);
    loop {
        let Answer::Layout(layout) = flow.ask(ReadLayout { ino, offset: at, len: (end - at) as u32 })? else {
            return Err(Halt::Errno(Errno::EIO));
        };
        if content.replace(layout.content).is_some_and(|before| before != layout.content) && flow.restarts < PATIENT {
            return Err(Halt::Restart);
        }
        let before = at;
        at = layout.pieces.iter().fold(at, |at, piece| at.saturating_add(piece.len));
        pieces.extend(layout.pieces);
        if at == before || at >= end.min(layout.size) {
            return Ok(pieces);
        }
    }
}

fn parts(pieces: &[Piece]) -> Vec<SlicePart> {
    pieces
        .iter()
        .filter_map(|piece| match &piece.source {
            PieceSource::Slice { id, at, nodes } => {
                Some(SlicePart { id: *id, at: *at, len: piece.len as u32, nodes: nodes.clone() })
            }
            PieceSource::Zeros | PieceSource::Inline(_) => None,
        })
        .collect()
}

fn zeros(len: u64) -> Bytes {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    match usize::try_from(len) {
        Ok(len) if len <= ZEROS.len() => Bytes::from_static(&ZEROS[..len]),
        _ => Bytes::from(vec![0; len as usize]),
    }
}

/// Short data travels inside the command; longer data becomes slices first. A write of more than one slice is as many
/// commands, each of which takes effect at its own moment.
fn write(flow: &mut Flow<'_>, ino: Ino, at: WriteAt, data: &Bytes, kill_suid: bool) -> Step<Done> {
    let (mut start, mut written) = (None, 0);
    loop {
        let chunk = data.slice(written..data.len().min(written + SLICE_MAX));
        let at = match at {
            WriteAt::Offset(offset) => WriteAt::Offset(offset + written as u64),
            WriteAt::End => WriteAt::End,
        };
        let len = chunk.len();
        let data_of = if len <= INLINE_WRITE_MAX {
            WriteData::Inline(chunk)
        } else {
            let (id, nodes) = flow.put(&chunk)?;
            WriteData::Slice(SliceRef { id, len: len as u32, nodes })
        };
        let Answer::Written { offset, attr } = flow.act(Write { ino, at, data: data_of, kill_suid })? else {
            return Err(Halt::Errno(Errno::EIO));
        };
        written += len;
        let start = *start.get_or_insert(offset);
        if written >= data.len() {
            return Ok(Done::Written { offset: start, len: written as u64, attr });
        }
    }
}
