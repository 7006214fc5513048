//! What vertices say to each other, what a vertex asks of its owner, and what it refuses.

use crate::types::Ino;

/// How an object is used. The greater one includes the smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    Shared,
    Exclusive,
}

/// One message over one edge. Delivery is exactly once and in order; whoever brings messages sees to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    pub object: Ino,
    pub say: Say,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    /// Towards the holder: somebody on my side waits.
    Want(Mode),
    /// Away from the holder: you may share, and give copies yourself.
    Copy(Grant),
    /// The token: asked for, or (towards the root) given back.
    Token(Grant),
    /// Away from the holder: end the copies on your side.
    Recall,
    /// The answer: there are none any more on my side. With the largest serial that was given out there.
    Recalled { serial: u64 },
    /// My copy is gone without having been recalled; the serial as above.
    Dropped { serial: u64 },
}

/// What travels with a token or a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Grows by one with each grant. Of two grants over one edge the later has the greater serial, and so have two tokens
    /// wherever they moved.
    pub serial: u64,
    /// The Raft index at which the object was as the grant says. Who uses it waits until its own state has got there. It is
    /// handed on as it came: a node bounds what its mounts claim before it passes their messages in.
    pub stamp: u64,
}

/// What a vertex asks of its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<E> {
    /// In this order, over this edge.
    Send { edge: E, messages: Vec<Message> },
    /// All wants of this mode that were waiting here may begin: so many users.
    Granted { object: Ino, mode: Mode, stamp: u64, users: u32 },
    /// What was granted must end: let the users finish, flush, drop caches, then say `revoked`; where something may be
    /// kept, `downgrade` is enough. There is one at a time for an object, and nothing is granted before it was answered.
    Revoke { object: Ino, keep: Option<Mode> },
}

/// What a vertex knows of an object, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<E> {
    pub object: Ino,
    /// The edge beyond which the token is; `None`: it is here.
    pub towards: Option<E>,
    /// What the owner holds.
    pub held: Option<Mode>,
    pub copies: Vec<E>,
    /// Who waits, in this order; `None`: this vertex itself.
    pub queue: Vec<(Option<E>, Mode)>,
}

/// What became of a want.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// At once, without an output: what was here was enough and nobody waits for it.
    Granted { stamp: u64 },
    /// An [`Output::Granted`] will come.
    Queued,
}

/// A neighbour said what it cannot have said at this moment: nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("this vertex has no such edge")]
    NoSuchEdge,
    #[error("the edge towards the root cannot be lost: this vertex is to begin anew in another view")]
    TowardsTheRoot,
    #[error("it already waits for as much")]
    AskedTwice,
    #[error("a copy that was not asked for there")]
    CopyNotAsked,
    #[error("a token that was not there, or was not asked for")]
    TokenNotAsked,
    #[error("only the holder's side recalls, and once at a time")]
    RecallOutOfPlace,
    #[error("nothing was recalled from there")]
    NotRecalled,
    #[error("it was given no copy")]
    NoCopyThere,
    #[error("serial {said} after {known}")]
    Serial { said: u64, known: u64 },
}

/// The owner of a vertex used it wrongly: nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misuse {
    #[error("{0} is not used in this mode here")]
    NotUsed(Ino),
    #[error("{0} still has users whose end must come first")]
    StillUsed(Ino),
}
