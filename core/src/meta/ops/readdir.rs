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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::ops::{Rename, RenameHow, Rmdir, Unlink};
    use crate::meta::testing::{World, name};

    fn list(world: &World, ino: Ino, after: Cookie, max: u32) -> (Vec<String>, Cookie, bool) {
        match world.ask(&Cred::ROOT, ReadDir { ino, after, max, attrs: true }) {
            Ok(Answer::Listing { entries, end }) => {
                let last = entries.last().map_or(after, |entry| entry.cookie);
                (entries.iter().map(|entry| entry.name.to_string()).collect(), last, end)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_listing_goes_on_where_it_was_whatever_happened() {
        let mut world = World::new();
        for text in ["a", "b", "c", "d"] {
            world.file(text);
        }
        let (names, at, end) = list(&world, Ino::ROOT, Cookie(0), 2);
        assert_eq!((names, end), (vec!["a".to_string(), "b".to_string()], false));
        world.run(&Cred::ROOT, Unlink { dir: Ino::ROOT, name: name("a") }).unwrap();
        let replace = Rename {
            dir: Ino::ROOT,
            name: name("b"),
            new_dir: Ino::ROOT,
            new_name: name("c"),
            how: RenameHow::Replace,
        };
        world.run(&Cred::ROOT, replace).unwrap();
        let (names, at, end) = list(&world, Ino::ROOT, at, 10);
        assert_eq!((names, end), (vec!["c".to_string(), "d".to_string()], true));
        assert_eq!(list(&world, Ino::ROOT, at, 10), (vec![], at, true));
    }

    #[test]
    fn a_removed_directory_is_empty() {
        let mut world = World::new();
        let dir = world.dir_of(&Cred::ROOT, Ino::ROOT, "d", 0o755);
        world.run(&Cred::ROOT, Rmdir { dir: Ino::ROOT, name: name("d") }).unwrap();
        assert_eq!(list(&world, dir, Cookie(0), 10), (vec![], Cookie(0), true));
    }
}
