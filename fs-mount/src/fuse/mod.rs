//! # The kernel's side of a mount
//!
//! Every request of the kernel becomes one [`Call`] and every [`Done`] the reply to it; who carries the calls out, and
//! where, is the [`Caller`]'s business.
//!
//! ```text
//!   program -> kernel -> fuser thread -> Adapter -> Caller
//!                 ^                                    |   (any thread, any time later)
//!                 +------------- reply <---- done -----+
//! ```
//!
//! What holds here:
//! * Nothing waits in a FUSE thread: a request that takes long occupies memory, not a thread.
//! * Nothing is kept here between requests, and in the kernel only what it is told to keep ([`Kept`]): names and
//!   attributes, while the mount has copies of them. Everything else is good for no time at all ([`convert::KEPT`]), and
//!   files are opened for direct I/O. So what one mount wrote, the next question on any mount sees.
//! * Of an object that it does not know yet the kernel cannot be told to forget the attributes that came with its name: it
//!   says so ([`Kernel`]), and then their time has to run out.
//! * Permissions are not checked by the kernel (no `default_permissions`): each call names who asks, and the operation
//!   decides.
//! * Inode numbers are never used twice, so the generation is always 0 and `forget` has nothing to do.

mod adapter;
mod answer;
mod check;
mod convert;
mod kernel;
mod listing;
mod mounted;
mod who;

pub use adapter::Adapter;
pub use check::MountError;
pub use kernel::{Kept, Kernel};
pub use mounted::{MountOptions, Mounted, mount};
pub use who::{Who, groups_of, is_signalled};

use baton_core::mount::{Call, Done};
use baton_core::types::Errno;
use std::os::fd::OwnedFd;

/// What is called with a call's result.
pub type OnDone = Box<dyn FnOnce(Result<Done, Errno>, Kept) + Send>;

/// Carries out calls; answers through `done`, on this thread or another one, now or later.
pub trait Caller: Send + Sync + 'static {
    fn call(&self, who: Who, call: Call, done: OnDone);

    /// Before the first call: the device through which the kernel is told to forget.
    fn mounted(&self, _device: OwnedFd) -> std::io::Result<()> {
        Ok(())
    }
}
