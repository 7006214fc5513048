//! # The kernel forgets
//!
//! What others are about to change the kernel must not answer by itself any more. It lets go of attributes at once, and of a
//! name when nothing happens in the name's directory: for that it takes the directory's lock, which an operation holds that
//! may be waiting for us. So this is done on threads of its own that hold nothing, one for attributes and one for names, and
//! nobody relies on how long the second one takes (see the machine's `copies`).

use baton_core::mount::{Forget, Pages};
use baton_core::types::Object;
use fuser::{INodeNo, Notifier};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

/// Until when the kernel may answer the same by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    pub entry: Option<Instant>,
    pub attr: Option<Instant>,
    pub pages: Pages,
    /// Nobody needs to hear of each close: no process can lose a lock by it.
    pub quiet: bool,
}

pub struct Kernel {
    inodes: Sender<Forget>,
    names: Sender<Forget>,
}

impl Kernel {
    /// `forgot` is told of each object that the kernel knows nothing of any more.
    pub fn start(notifier: Notifier, forgot: impl Fn(Object) + Send + Sync + 'static) -> io::Result<Kernel> {
        let forgot = Arc::new(forgot);
        let start = |name: &str| {
            let (tell, told) = channel();
            let (notifier, forgot) = (notifier.clone(), forgot.clone());
            let work = move || forget_all(&notifier, &told, &*forgot);
            std::thread::Builder::new().name(name.into()).spawn(work)?;
            Ok::<_, io::Error>(tell)
        };
        Ok(Kernel { inodes: start("baton-forget")?, names: start("baton-forget-n")? })
    }

    pub fn forget(&self, what: Forget) {
        let to = if matches!(what, Forget::Name(..)) { &self.names } else { &self.inodes };
        // The threads end with the mount, and then there is nothing to forget.
        let _gone = to.send(what);
    }
}

fn forget_all(notifier: &Notifier, told: &Receiver<Forget>, forgot: &(impl Fn(Object) + ?Sized)) {
    while let Ok(what) = told.recv() {
        let outcome = match &what {
            Forget::Name(dir, name) => notifier.inval_entry(INodeNo(dir.0), OsStr::from_bytes(name.as_bytes())),
            // A negative offset: the attributes alone.
            Forget::Attr(ino) => notifier.inval_inode(INodeNo(ino.0), -1, 0),
            Forget::All(ino) => notifier.inval_inode(INodeNo(ino.0), 0, 0),
            Forget::Range { ino, offset, len } => {
                let offset = i64::try_from(*offset).unwrap_or(i64::MAX);
                notifier.inval_inode(INodeNo(ino.0), offset, i64::from(*len))
            }
        };
        match outcome {
            Ok(()) => what.object().into_iter().for_each(forgot),
            // Then its time runs out.
            Err(error) => tracing::debug!(%error, ?what, "the kernel did not forget"),
        }
    }
}
