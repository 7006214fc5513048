//! Every file's content behaves as one register of bytes: each read sees, whole, what the writes before it left.

use super::super::data::{WriteId, bytes_from};
use super::super::history::{Act, History, Record, Saw};
use super::linear::{Call, Found, Model, search};
use baton_core::types::Ino;
use std::collections::BTreeMap;
use std::marker::PhantomData;

pub(super) fn check(history: &History, undecided: &mut u64) -> Result<(), String> {
    let mut by_file: BTreeMap<Ino, Vec<&Record>> = BTreeMap::new();
    for record in &history.records {
        if let Some(ino) = record.file()
            && says_something(record)
        {
            by_file.entry(ino).or_default().push(record);
        }
    }
    for (ino, records) in by_file {
        let calls: Vec<Call<&Record>> =
            records.iter().map(|r| Call { began: r.began, ended: r.ended, what: *r }).collect();
        match search(&Files(PhantomData), &calls) {
            Found::Order => {}
            Found::GaveUp => *undecided += 1,
            Found::None { placed, stuck_at } => {
                let stuck = brief(records[stuck_at]);
                return Err(format!(
                    "the content of inode {ino} is not linearizable: {placed} of {} calls fit, then {stuck}",
                    calls.len()
                ));
            }
        }
    }
    Ok(())
}

fn brief(record: &Record) -> String {
    let mut text =
        format!("client {} {}..{}: {:?} saw {:?}", record.client, record.began, record.ended, record.act, record.saw);
    if text.len() > 400 {
        text.truncate(400);
    }
    text
}

/// A failed call did nothing; a read whose outcome nobody knows says nothing.
fn says_something(record: &Record) -> bool {
    let reads = matches!(record.act, Act::Read { .. } | Act::Stat { .. });
    match record.saw {
        Saw::Failed(_) => false,
        Saw::Nothing => !reads,
        // Of something that is no file.
        Saw::Done if reads => false,
        _ => true,
    }
}

/// A piece of a file: `len` bytes of a write, from `at` on. Nobody's bytes are zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Piece {
    len: u64,
    id: WriteId,
    at: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct File {
    pieces: Vec<Piece>,
}

impl File {
    fn size(&self) -> u64 {
        self.pieces.iter().map(|p| p.len).sum()
    }

    fn range(&self, from: u64, to: u64) -> Vec<Piece> {
        let mut taken = Vec::new();
        let mut start = 0;
        for piece in &self.pieces {
            let (a, b) = (from.max(start), to.min(start + piece.len));
            if a < b {
                taken.push(Piece {
                    len: b - a,
                    id: piece.id,
                    at: piece.at + if piece.id == 0 { 0 } else { a - start },
                });
            }
            start += piece.len;
        }
        taken
    }

    /// These pieces take the place of what was from `at` on; a gap before them is zeros.
    fn put(&self, at: u64, pieces: Vec<Piece>) -> File {
        let len: u64 = pieces.iter().map(|p| p.len).sum();
        let mut made = self.range(0, at);
        let have: u64 = made.iter().map(|p| p.len).sum();
        if have < at {
            made.push(Piece { len: at - have, id: 0, at: 0 });
        }
        made.extend(pieces);
        made.extend(self.range(at + len, u64::MAX));
        File { pieces: joined(made) }
    }

    fn resize(&self, size: u64) -> File {
        let mut pieces = self.range(0, size);
        let have: u64 = pieces.iter().map(|p| p.len).sum();
        if have < size {
            pieces.push(Piece { len: size - have, id: 0, at: 0 });
        }
        File { pieces: joined(pieces) }
    }

    fn reads_as(&self, offset: u64, len: u64, seen: &[u8]) -> bool {
        let pieces = self.range(offset, offset.saturating_add(len));
        if pieces.iter().map(|p| p.len).sum::<u64>() != seen.len() as u64 {
            return false;
        }
        let mut at = 0;
        pieces.iter().all(|piece| {
            let part = &seen[at..at + piece.len as usize];
            at += piece.len as usize;
            bytes_from(piece.id, piece.at).zip(part).all(|(written, read)| written == *read)
        })
    }
}

/// Neighbouring zeros are one piece, so that equal contents are equal states.
fn joined(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut made: Vec<Piece> = Vec::with_capacity(pieces.len());
    for piece in pieces.into_iter().filter(|p| p.len > 0) {
        match made.last_mut() {
            Some(last) if last.id == piece.id && (last.id == 0 || last.at + last.len == piece.at) => {
                last.len += piece.len
            }
            _ => made.push(piece),
        }
    }
    made
}

/// The lifetime is that of the history.
struct Files<'h>(PhantomData<&'h Record>);

impl<'h> Model for Files<'h> {
    type State = File;
    type What = &'h Record;

    fn start(&self) -> File {
        File::default()
    }

    fn apply(&self, file: &File, record: &&'h Record, _: usize) -> Option<File> {
        let size = file.size();
        let after = match &record.act {
            Act::Write { at, len, id, .. } => {
                let offset = at.unwrap_or(size);
                if let Saw::Written { offset: seen, .. } = record.saw
                    && seen != offset
                {
                    return None;
                }
                file.put(offset, vec![Piece { len: *len, id: *id, at: 0 }])
            }
            Act::Truncate { size, .. } => file.resize(*size),
            Act::Allocate { offset, len, .. } => file.resize(size.max(offset + len)),
            Act::Punch { offset, len, .. } => {
                let end = (offset + len).min(size);
                if *offset < end {
                    file.put(*offset, vec![Piece { len: end - offset, id: 0, at: 0 }])
                } else {
                    file.clone()
                }
            }
            Act::CopyWithin { from, to, len, .. } => {
                let taken = file.range(*from, from + len);
                let copied: u64 = taken.iter().map(|p| p.len).sum();
                if let Saw::Copied(seen) = record.saw
                    && seen != copied
                {
                    return None;
                }
                if copied == 0 { file.clone() } else { file.put(*to, taken) }
            }
            Act::Read { offset, len, .. } => match &record.saw {
                Saw::Bytes(seen) if file.reads_as(*offset, *len, seen) => return Some(file.clone()),
                _ => return None,
            },
            _ => file.clone(),
        };
        match record.saw {
            Saw::Written { size: seen, .. } | Saw::Size(seen) if seen != after.size() => None,
            _ => Some(after),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_and_put() {
        let byte = |id, at| bytes_from(id, at).next().unwrap();
        let file = File::default().put(4, vec![Piece { len: 4, id: 7, at: 0 }]);
        assert_eq!(file.size(), 8);
        let file = file.put(6, vec![Piece { len: 1, id: 9, at: 0 }]);
        let seen = [0, 0, 0, 0, byte(7, 0), byte(7, 1), byte(9, 0), byte(7, 3)];
        assert!(file.reads_as(0, 100, &seen));
        assert!(!file.reads_as(0, 7, &seen));
        assert!(file.resize(5).resize(7).reads_as(4, 9, &[byte(7, 0), 0, 0]));
    }
}
