use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Errno, Ino, Name};
use serde::{Deserialize, Serialize};

/// Finds a name in a directory. `.` and `..` come as their own variants of [`LookupName`], because the kernel may ask for
/// them (over NFS, or after its cache was dropped).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    pub dir: Ino,
    pub name: LookupName,
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LookupName {
    Dot,
    DotDot,
    Name(Name),
}

impl Step for Lookup {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let dir = txn.searched(self.dir, cred)?;
        let (ino, inode) = match &self.name {
            LookupName::Dot => (self.dir, dir),
            LookupName::DotDot => (dir.parent, txn.inode(dir.parent)?),
            LookupName::Name(name) => {
                let entry = txn.entry(self.dir, name)?.ok_or(Errno::ENOENT)?;
                (entry.ino, txn.named(&entry)?)
            }
        };
        Ok(Answer::attr_of(ino, &inode))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::testing::{World, attr, fails, name, user};

    #[test]
    fn names_dots_and_search_permission() {
        let mut world = World::new();
        let dir = world.dir_of(&user(5), Ino::ROOT, "d", 0o600);
        let below = world.dir_of(&Cred::ROOT, dir, "below", 0o755);
        let find = |dir, name| Lookup { dir, name };
        let named = |text| LookupName::Name(name(text));
        assert_eq!(attr(world.ask(&Cred::ROOT, find(dir, named("below")))).ino, below);
        assert_eq!(attr(world.ask(&Cred::ROOT, find(below, LookupName::DotDot))).ino, dir);
        assert_eq!(attr(world.ask(&Cred::ROOT, find(Ino::ROOT, LookupName::DotDot))).ino, Ino::ROOT);
        assert_eq!(attr(world.ask(&Cred::ROOT, find(dir, LookupName::Dot))).ino, dir);
        assert_eq!(world.ask(&user(5), find(dir, named("below"))), fails(Errno::EACCES));
        assert_eq!(world.ask(&Cred::ROOT, find(dir, named("none"))), fails(Errno::ENOENT));
        let file = world.file("f");
        assert_eq!(world.ask(&Cred::ROOT, find(file, named("x"))), fails(Errno::ENOTDIR));
    }
}
