//! The words everything else is written in: ids, names, times, attributes, errors.

mod attr;
mod cred;
mod errno;
mod ids;
mod members;
mod name;
mod object;
mod stamp;

pub use attr::{Attr, Kind};
pub use cred::{Cred, Owner};
pub use errno::Errno;
pub use ids::{ClusterId, Cookie, Ino, NodeId, SessionId, SliceId, Version};
pub use members::{Member, MemberChange, Members, NODES_MAX, NoChange};
pub use name::{BadName, Name, XattrName};
pub use object::Object;
pub use stamp::Stamp;
