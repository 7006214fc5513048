use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        pub struct $name(pub u64);
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id!(
    /// A node of the cluster: 1 or more, chosen by whoever configures it.
    NodeId, "n"
);
id!(
    /// An inode. Numbers are never used twice, so a number alone names one object for ever.
    Ino, "i"
);
id!(
    /// One life of a mount, from its first greeting until it says goodbye or its lease runs out.
    SessionId, "s"
);
id!(
    /// How often an object was changed.
    Version, "v"
);
id!(
    /// The place of a name in a directory's listing: counts up per directory and is never used twice, so a listing under
    /// way neither skips nor repeats.
    Cookie, "c"
);
id!(
    /// Drawn when a cluster forms: two clusters never share one.
    ClusterId, "cluster-"
);

impl Ino {
    pub const ROOT: Ino = Ino(1);
}

impl SessionId {
    /// Nobody's: what the cluster itself writes.
    pub const CLUSTER: SessionId = SessionId(0);
}

impl Cookie {
    /// Entries start here: 1 and 2 are `.` and `..`, which are not stored.
    pub const FIRST: Cookie = Cookie(3);
}

impl Version {
    pub fn next(self) -> Version {
        Version(self.0 + 1)
    }
}

/// An immutable piece of file data: named by the session that wrote it and that session's own count. What the cluster merged
/// is [`SessionId::CLUSTER`]'s.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SliceId {
    pub session: SessionId,
    pub number: u64,
}

impl fmt::Debug for SliceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slice-{}.{}", self.session.0, self.number)
    }
}

impl fmt::Display for SliceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.session.0, self.number)
    }
}
