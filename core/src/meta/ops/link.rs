use crate::limits::LINK_MAX;
use crate::meta::{Answer, Run, Step, Store, Txn};
use crate::types::{Cred, Errno, Ino, Kind, Name};
use serde::{Deserialize, Serialize};

/// Gives an object one more name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub ino: Ino,
    pub dir: Ino,
    pub name: Name,
}

impl Step for Link {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        txn.room_for(self.dir, &self.name, cred)?;
        let inode = txn.inode(self.ino)?;
        if inode.kind == Kind::Directory {
            return Err(Errno::EPERM.into());
        }
        match inode.nlink {
            // The last name went away meanwhile: an orphan does not come back.
            0 => return Err(Errno::ENOENT.into()),
            LINK_MAX.. => return Err(Errno::EMLINK.into()),
            _ => {}
        }
        let inode = txn.update(self.ino, |inode, now| {
            inode.nlink += 1;
            inode.changed(now);
        })?;
        txn.add_name(self.dir, &self.name, self.ino, inode.kind)?;
        Ok(Answer::attr_of(self.ino, &inode))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::testing::{World, attr, fails, name, user};

    #[test]
    fn a_file_gets_names_up_to_the_limit_and_a_directory_none() {
        let mut world = World::new();
        let ino = world.file("f");
        let link = |ino, text| Link { ino, dir: Ino::ROOT, name: name(text) };
        let after = attr(world.run(&user(5), link(ino, "g")));
        assert_eq!((after.nlink, after.ctime), (2, world.now));
        assert_eq!(world.run(&user(5), link(ino, "g")), fails(Errno::EEXIST));
        let dir = world.dir_of(&user(5), Ino::ROOT, "d", 0o755);
        assert_eq!(world.run(&user(5), link(dir, "e")), fails(Errno::EPERM));
        let inside = Link { dir, ..link(ino, "h") };
        assert_eq!(world.run(&user(6), inside), fails(Errno::EACCES));
        world.change(|txn| txn.update(ino, |inode, _| inode.nlink = LINK_MAX));
        assert_eq!(world.run(&user(5), link(ino, "h")), fails(Errno::EMLINK));
    }
}
