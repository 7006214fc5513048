use crate::limits::LISTING_MAX;
use crate::meta::txn::damaged;
use crate::meta::{Answer, DirEntry, Key, Run, Step, Store, Txn, Value};
use crate::types::{Cookie, Cred, Ino};
use serde::{Deserialize, Serialize};

/// A directory's entries after a cookie (0: from the start), in the order of their cookies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadDir {
    pub ino: Ino,
    pub after: Cookie,
    pub max: u32,
    pub attrs: bool,
}

impl Step for ReadDir {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, _cred: &Cred) -> Run<Answer> {
        txn.dir(self.ino)?;
        let max = (self.max as usize).clamp(1, LISTING_MAX);
        let from = Key::Listing(self.ino, Cookie(self.after.0.saturating_add(1)));
        let mut places = txn.range(&from, &Key::Listing(Ino(self.ino.0 + 1), Cookie(0)), max + 1)?;
        let end = places.len() <= max;
        places.truncate(max);
        let entries = places.into_iter().map(|place| self.entry(txn, place)).collect::<Run<_>>()?;
        Ok(Answer::Listing { entries, end })
    }
}

impl ReadDir {
    fn entry<S: Store + ?Sized>(&self, txn: &Txn<'_, S>, place: (Key, Value)) -> Run<DirEntry> {
        let (Key::Listing(_, cookie), Value::Listing(name)) = place else { return Err(damaged()) };
        let entry = txn.entry(self.ino, &name)?.ok_or_else(damaged)?;
        let attr = if self.attrs { Some(txn.named(&entry)?.attr(entry.ino)) } else { None };
        Ok(DirEntry { cookie, name, ino: entry.ino, kind: entry.kind, attr })
    }
}
