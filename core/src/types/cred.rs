use serde::{Deserialize, Serialize};

/// Who asks. The supplementary groups are looked up only where the answer depends on them (a look into the caller's
/// process costs more than most operations): `None` means "not looked up", and an operation that needs them says so with
/// [`Stop::NeedGroups`](crate::meta::Stop).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cred {
    pub uid: u32,
    pub gid: u32,
    pub groups: Option<Vec<u32>>,
}

impl Cred {
    pub const ROOT: Cred = Cred { uid: 0, gid: 0, groups: Some(Vec::new()) };

    /// About the bytes that it takes: its groups, each as the codec and the wire write a number of 32 bits.
    pub fn weight(&self) -> usize {
        self.groups.as_ref().map_or(0, |groups| groups.len() * 5)
    }

    /// The user who may do what only the system's administrator may.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }
}

/// Whom something belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

impl Owner {
    pub const ROOT: Owner = Owner { uid: 0, gid: 0 };
}
