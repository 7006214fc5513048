use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Errno, Ino, Kind, Name};
use serde::{Deserialize, Serialize};

/// Takes a name away. The object that loses its last one becomes an orphan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlink {
    pub dir: Ino,
    pub name: Name,
}

impl Step for Unlink {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let (entry, _) = txn.removable(self.dir, &self.name, cred)?;
        if entry.kind == Kind::Directory {
            return Err(Errno::EISDIR.into());
        }
        txn.remove_name(self.dir, &self.name, &entry)?;
        txn.lose_link(entry.ino)?;
        Ok(Answer::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::ops::{Link, Open, Reap};
    use crate::meta::testing::{World, fails, name};

    #[test]
    fn an_unlinked_file_lives_on_until_it_is_reaped() {
        let mut world = World::new();
        let ino = world.file("f");
        world.write(ino, 0, b"abc");
        let unlink = Unlink { dir: Ino::ROOT, name: name("f") };
        world.run(&Cred::ROOT, unlink.clone()).unwrap();
        assert_eq!(world.attr(ino).nlink, 0);
        assert_eq!(world.attr(ino).ctime, world.now);
        assert_eq!(world.run(&Cred::ROOT, unlink), fails(Errno::ENOENT));
        world.write(ino, 3, b"def");
        world.check();
        assert_eq!(world.attr(ino).size, 6);
        let open = Open { ino, read: true, write: false, exec: false };
        assert_eq!(world.ask(&Cred::ROOT, open), fails(Errno::ESTALE));
        let link = Link { ino, dir: Ino::ROOT, name: name("g") };
        assert_eq!(world.run(&Cred::ROOT, link), fails(Errno::ENOENT));
        world.run(&Cred::ROOT, Reap { ino }).unwrap();
        assert_eq!(world.run(&Cred::ROOT, Reap { ino }), fails(Errno::ENOENT));
        assert_eq!(world.store.0.len(), 2, "the volume and the root");
    }

    #[test]
    fn a_directory_is_not_unlinked() {
        let mut world = World::new();
        world.dir_of(&Cred::ROOT, Ino::ROOT, "d", 0o755);
        assert_eq!(world.run(&Cred::ROOT, Unlink { dir: Ino::ROOT, name: name("d") }), fails(Errno::EISDIR));
    }
}
