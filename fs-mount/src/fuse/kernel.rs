//! # The kernel forgets
//!
//! What others are about to change the kernel must not answer by itself any more. It lets go of attributes at once, and of a
//! name when nothing happens in the name's directory: for that it takes the directory's lock, which an operation holds that
//! may be waiting for us. To let go of pages it writes those that a program changed in a mapping, which comes to us as well. So
//! this is done on threads of its own that hold nothing, one for attributes, one for pages and one for names, and nobody
//! relies on how long the last two take (see the machine's `copies`).

use baton_core::mount::{Forget, Pages};
use baton_core::types::Object;
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Until when, on the machine's clock, the kernel may answer the same by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    pub entry: Option<Duration>,
    pub attr: Option<Duration>,
    pub pages: Pages,
    /// Nobody needs to hear of each close: no process can lose a lock by it.
    pub quiet: bool,
}

/// What the kernel did with what it was told to forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Did {
    Forget,
    /// It knows no such object: or it does not know it yet, and an answer is on its way to it.
    NotKnow,
}

pub struct Kernel {
    attrs: Sender<Forget>,
    pages: Sender<Forget>,
    names: Sender<Forget>,
}

impl Kernel {
    /// `forgot` is told of each object that the kernel forgot, and whether it knew it.
    pub fn start(device: OwnedFd, forgot: impl Fn(Object, bool) + Send + Sync + 'static) -> io::Result<Kernel> {
        let (device, forgot) = (Arc::new(Device(device)), Arc::new(forgot));
        let start = |name: &str| {
            let (tell, told) = channel();
            let (device, forgot) = (device.clone(), forgot.clone());
            let work = move || forget_all(&device, &told, &*forgot);
            std::thread::Builder::new().name(name.into()).spawn(work)?;
            Ok::<_, io::Error>(tell)
        };
        Ok(Kernel { attrs: start("baton-forget")?, pages: start("baton-forget-p")?, names: start("baton-forget-n")? })
    }

    pub fn forget(&self, what: Forget) {
        let to = match what {
            Forget::Name(..) => &self.names,
            Forget::Attr(_) => &self.attrs,
            Forget::All(_) | Forget::Range { .. } => &self.pages,
        };
        // The threads end with the mount, and then there is nothing to forget.
        let _gone = to.send(what);
    }
}

fn forget_all(device: &Device, told: &Receiver<Forget>, forgot: &(impl Fn(Object, bool) + ?Sized)) {
    while let Ok(what) = told.recv() {
        match device.tell(&what) {
            Ok(did) => what.object().into_iter().for_each(|object| forgot(object, did == Did::Forget)),
            // Then its time runs out.
            Err(error) => tracing::debug!(%error, ?what, "the kernel did not forget"),
        }
    }
}

/// The mount's device. The library has words for this, but keeps to itself whether the kernel knew the object.
struct Device(OwnedFd);

impl Device {
    fn tell(&self, what: &Forget) -> Result<Did, Errno> {
        let notice = notice(what);
        match rustix::io::write(&self.0, &notice) {
            Ok(_) => Ok(Did::Forget),
            Err(Errno::NOENT) => Ok(Did::NotKnow),
            Err(error) => Err(error),
        }
    }
}

/// FUSE_NOTIFY_INVAL_INODE and FUSE_NOTIFY_INVAL_ENTRY, as in the kernel's `fuse.h`: a header without a request, whose error
/// is the kind of the notice, and what it is about.
fn notice(what: &Forget) -> Vec<u8> {
    const INVAL_INODE: u32 = 2;
    const INVAL_ENTRY: u32 = 3;
    const HEADER: usize = 16;
    let (kind, body) = match what {
        Forget::Name(dir, name) => {
            let name = name.as_bytes();
            let mut body = dir.0.to_ne_bytes().to_vec();
            body.extend((name.len() as u32).to_ne_bytes());
            body.extend(0u32.to_ne_bytes());
            body.extend(name);
            body.push(0);
            (INVAL_ENTRY, body)
        }
        // A negative offset: the attributes alone; a length of 0: to the end.
        Forget::Attr(ino) => (INVAL_INODE, inode_body(ino.0, -1, 0)),
        Forget::All(ino) => (INVAL_INODE, inode_body(ino.0, 0, 0)),
        Forget::Range { ino, offset, len } => {
            (INVAL_INODE, inode_body(ino.0, i64::try_from(*offset).unwrap_or(i64::MAX), i64::from(*len)))
        }
    };
    let mut notice = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    notice.extend(kind.to_ne_bytes());
    notice.extend(0u64.to_ne_bytes());
    notice.extend(body);
    notice
}

fn inode_body(ino: u64, offset: i64, len: i64) -> Vec<u8> {
    [ino.to_ne_bytes(), offset.to_ne_bytes(), len.to_ne_bytes()].concat()
}
