use super::{Ino, Name};
use serde::{Deserialize, Serialize};

/// What a mount can have a copy of. A directory is three things, so that who makes a file in it does not end what others know
/// of its other names, nor of who may pass through it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Object {
    /// Attributes, extended attributes, content: a file's bytes, a directory's listing.
    Whole(Ino),
    /// Who may search a directory.
    Rights(Ino),
    /// What a name in a directory stands for, or that there is no such name.
    Entry(Ino, Name),
}

impl Object {
    /// The file or directory that it is of.
    pub fn ino(&self) -> Ino {
        match self {
            Object::Whole(ino) | Object::Rights(ino) | Object::Entry(ino, _) => *ino,
        }
    }
}
