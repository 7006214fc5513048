use crate::meta::content::spans;
use crate::meta::{Answer, Content, Run, Step, Store, Txn};
use crate::types::{Cred, Errno, Ino};
use serde::{Deserialize, Serialize};

/// SEEK_DATA and SEEK_HOLE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seek {
    pub ino: Ino,
    pub offset: u64,
    pub what: SeekFor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeekFor {
    Data,
    Hole,
}

impl Step for Seek {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, _cred: &Cred) -> Run<Answer> {
        let size = txn.file(self.ino)?.size;
        if self.offset >= size {
            return Err(Errno::ENXIO.into());
        }
        let found = match self.what {
            SeekFor::Data => self.data(txn, size)?.ok_or(Errno::ENXIO)?,
            SeekFor::Hole => self.hole(txn, size)?,
        };
        Ok(Answer::Offset(found))
    }
}

/// Extents looked at in one go.
const SCAN: usize = 256;

/// What was allocated and never written is a hole, as in ext4.
impl Seek {
    fn data<S: Store + ?Sized>(&self, txn: &Txn<'_, S>, size: u64) -> Run<Option<u64>> {
        let mut at = self.offset;
        while at < size {
            let found = spans(txn, self.ino, at, size, SCAN)?;
            if let Some(span) = found.iter().find(|span| span.content != Content::Zero) {
                return Ok(Some(span.start.max(self.offset)));
            }
            at = match found.last() {
                Some(last) if found.len() == SCAN => last.end,
                _ => size,
            };
        }
        Ok(None)
    }

    fn hole<S: Store + ?Sized>(&self, txn: &Txn<'_, S>, size: u64) -> Run<u64> {
        let mut at = self.offset;
        while at < size {
            let found = spans(txn, self.ino, at, size, SCAN)?;
            let more = found.len() == SCAN;
            for span in found {
                if span.start > at || span.content == Content::Zero {
                    return Ok(at);
                }
                at = span.end;
            }
            if !more {
                break;
            }
        }
        // The end of the file counts as a hole.
        Ok(at.min(size))
    }
}
