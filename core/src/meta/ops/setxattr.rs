use crate::limits::{XATTR_LIST_MAX, XATTR_VALUE_MAX};
use crate::meta::xattr;
use crate::meta::{Answer, Key, Run, Step, Store, Txn, Value};
use crate::types::{Cred, Errno, Ino, XattrName};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Sets an extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetXattr {
    pub ino: Ino,
    pub name: XattrName,
    pub value: Bytes,
    pub how: XattrHow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum XattrHow {
    Either,
    Create,
    Replace,
}

impl Step for SetXattr {
    fn run<S: Store + ?Sized>(&self, txn: &mut Txn<'_, S>, cred: &Cred) -> Run<Answer> {
        let mut inode = txn.inode(self.ino)?;
        xattr::may_write(&inode, &self.name, cred)?;
        if self.value.len() > XATTR_VALUE_MAX {
            return Err(Errno::E2BIG.into());
        }
        let exists = xattr::get(txn, self.ino, &self.name)?.is_some();
        match self.how {
            XattrHow::Create if exists => return Err(Errno::EEXIST.into()),
            XattrHow::Replace if !exists => return Err(Errno::ENODATA.into()),
            _ => {}
        }
        if !exists {
            inode.xattr_names += xattr::listed_len(&self.name);
        }
        if inode.xattr_names as usize > XATTR_LIST_MAX {
            return Err(Errno::ENOSPC.into());
        }
        inode.changed(txn.now);
        txn.put_inode(self.ino, inode)?;
        txn.put(Key::Xattr(self.ino, self.name.clone()), Value::Xattr(self.value.clone()));
        Ok(Answer::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::ops::{GetXattr, ListXattr, RemoveXattr};
    use crate::meta::testing::{World, fails, user};

    fn set(ino: Ino, name: &str, how: XattrHow) -> SetXattr {
        SetXattr { ino, name: XattrName::new(name.as_bytes()).unwrap(), value: Bytes::from_static(b"v"), how }
    }

    #[test]
    fn each_namespace_has_its_rule() {
        let mut world = World::new();
        let ino = world.file_of(&user(5), "f", 0o600);
        let either = XattrHow::Either;
        assert_eq!(world.run(&user(6), set(ino, "user.a", either)), fails(Errno::EACCES));
        world.run(&user(5), set(ino, "user.a", either)).unwrap();
        assert_eq!(world.run(&user(5), set(ino, "trusted.a", either)), fails(Errno::EPERM));
        assert_eq!(world.run(&user(5), set(ino, "security.a", either)), fails(Errno::EPERM));
        assert_eq!(world.run(&Cred::ROOT, set(ino, "system.posix_acl_access", either)), fails(Errno::EOPNOTSUPP));
        world.run(&Cred::ROOT, set(ino, "trusted.a", either)).unwrap();
        let get = |name: &str| GetXattr { ino, name: XattrName::new(name.as_bytes()).unwrap() };
        assert_eq!(world.ask(&user(5), get("trusted.a")), fails(Errno::ENODATA));
        assert_eq!(world.ask(&user(5), get("user.a")), Ok(Answer::Xattr(Bytes::from_static(b"v"))));
        let names = |text: &'static str| Ok(Answer::XattrNames(Bytes::from_static(text.as_bytes())));
        assert_eq!(world.ask(&user(5), ListXattr { ino }), names("user.a\0"));
        assert_eq!(world.ask(&Cred::ROOT, ListXattr { ino }), names("trusted.a\0user.a\0"));
    }

    #[test]
    fn create_and_replace() {
        let mut world = World::new();
        let ino = world.file("f");
        assert_eq!(world.run(&Cred::ROOT, set(ino, "user.a", XattrHow::Replace)), fails(Errno::ENODATA));
        world.run(&Cred::ROOT, set(ino, "user.a", XattrHow::Create)).unwrap();
        assert_eq!(world.run(&Cred::ROOT, set(ino, "user.a", XattrHow::Create)), fails(Errno::EEXIST));
        let remove = RemoveXattr { ino, name: XattrName::new(b"user.a").unwrap() };
        world.run(&Cred::ROOT, remove.clone()).unwrap();
        assert_eq!(world.run(&Cred::ROOT, remove), fails(Errno::ENODATA));
    }

    #[test]
    fn sizes_are_limited() {
        let mut world = World::new();
        let ino = world.file("f");
        let big = SetXattr { value: vec![0; XATTR_VALUE_MAX + 1].into(), ..set(ino, "user.a", XattrHow::Either) };
        assert_eq!(world.run(&Cred::ROOT, big), fails(Errno::E2BIG));
        let long = |i: usize| set(ino, &format!("user.{i:0>250}"), XattrHow::Either);
        for i in 0..256 {
            world.run(&Cred::ROOT, long(i)).unwrap();
        }
        assert_eq!(world.run(&Cred::ROOT, long(256)), fails(Errno::ENOSPC));
    }
}
