//! What nodes say to each other, and what stands in a Raft entry.

use super::drain::Walked;
use super::edges::Parcel;
use crate::meta::{Op, Query};
use crate::session::{Command, Reply};
use crate::types::{ClusterId, Cred, Errno, Ino, MemberChange, Members, NodeId, Owner, SessionId, SliceId, Stamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which tree of nodes something belongs to: the leader's term, and its number among the leader's trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ViewId {
    pub term: u64,
    pub number: u64,
}

/// A node's place in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The next one towards the root.
    pub parent: NodeId,
    /// It is for this life of the node's: a later one knows nothing of what the node held.
    pub life: u64,
}

/// Between two nodes. Delivery may lose, repeat and reorder.
#[derive(Clone, Debug, PartialEq)]
pub enum ToPeer {
    Raft(Box<raft::eraftpb::Message>),
    /// From a node that has started, until the leader has answered, and for as long as it does not vote: whether its log is
    /// empty, whether it votes, the last entry it has, and a number that differs from start to start.
    Hello {
        fresh: bool,
        member: bool,
        reply: bool,
        last: u64,
        life: u64,
        /// The newest term that I know of.
        term: u64,
        /// Of a reply: the life of the one it answers.
        asked: u64,
    },
    /// To the followers, with every heartbeat: the leader's clock when it was sent.
    Beat {
        term: u64,
        sent: u64,
    },
    /// To the leader: I follow you in this term and elect nobody else for a promise's length from when I got this beat.
    Promise {
        term: u64,
        sent: u64,
        /// Which of my lives this is.
        life: u64,
        /// My disk hangs: I can carry nothing out.
        hangs: bool,
        /// The newest version that I speak.
        speaks: u32,
    },
    /// From one who led in this term and does no longer: nobody uses what I gave out when so many microseconds are over, and
    /// from then on no promise to me counts.
    LeadOver {
        term: u64,
        lasts: u64,
    },
    /// To the leader: commands of the mounts that are connected here.
    Commands(Vec<Command>),
    /// To the leader: commands of the mounts that are connected here, let in under the tokens that this node holds in this
    /// view.
    Held {
        view: ViewId,
        commands: Vec<Command>,
    },
    /// From the leader, with every heartbeat: the tree, as the seat of each node in it but the root.
    View {
        id: ViewId,
        seats: BTreeMap<NodeId, Seat>,
    },
    /// Between neighbours in the tree.
    Tokens {
        view: ViewId,
        parcel: Parcel,
    },
    /// To the leader: this neighbour of mine does not confirm what I say.
    Parted {
        view: ViewId,
        neighbour: NodeId,
    },
    /// To the leader: for how long may I rely on what I hold? `sent` is my clock and comes back with the answer.
    RenewNode {
        view: ViewId,
        sent: u64,
    },
    /// From the leader: for so many microseconds from when your clock said `sent`.
    NodeLease {
        view: ViewId,
        sent: u64,
        lasts: u64,
    },
    /// To the leader: a mount greets and has no session yet.
    OpenSession {
        client: String,
        nonce: u64,
    },
    /// To the leader: a mount greets and says that it has this session, of which I know nothing.
    Claim(SessionId),
    /// From the leader: who has carried out this much knows of this session, or it is over.
    Claimed {
        session: SessionId,
        applied: u64,
    },
    EndSession(SessionId),
    /// To the leader: I have a copy of this slice on my disk now, in the place of another's if one is named.
    Copied {
        slice: SliceId,
        instead_of: Option<NodeId>,
        /// In which of my lives.
        life: u64,
    },
    /// To the leader: a question, under the asking node's own id.
    Ask {
        id: u64,
        cred: Cred,
        query: Query,
    },
    /// From the leader, or `None` from one who is not (any more): ask again.
    Answer {
        id: u64,
        reply: Option<Reply>,
    },
    /// From the leader: replies to commands that came through you.
    Replies(Vec<(SessionId, u64, Reply)>),
    /// From a node that got commands and does not lead, or cannot place them: have them sent again.
    Again(Vec<SessionId>),
    /// To the leader, every second: the sessions connected here that live, the room on the disk, and what the last walk over
    /// all slices found.
    Report {
        sessions: Vec<SessionId>,
        space: Space,
        applied: u64,
        walked: Walked,
    },
    /// From the leader, every second: the room on the disks of those that are there.
    Spaces(BTreeMap<NodeId, Space>),
    /// From the leader, to the nodes its sessions hang on: who of them has these orphans open?
    WhoHolds {
        round: u64,
        inos: Vec<Ino>,
    },
    /// To the leader: what one session has open of them.
    Holds {
        round: u64,
        session: SessionId,
        inos: Vec<Ino>,
    },
}

impl ToPeer {
    /// About the bytes that it takes.
    pub fn weight(&self) -> usize {
        let of = |commands: &[Command]| commands.iter().map(Command::weight).sum();
        let bytes: usize = match self {
            ToPeer::Raft(message) => message.entries.iter().map(|entry| entry.data.len() + 64).sum(),
            ToPeer::Commands(commands) | ToPeer::Held { commands, .. } => of(commands),
            _ => 0,
        };
        bytes + 256
    }
}

/// Room on a node's disk, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    pub total: u64,
    pub free: u64,
}

/// One Raft entry: what was decided together, at one moment. In front of it stands the version by which it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The leader's clock. Where it went back, the state machine goes on from its own last moment.
    pub stamp: Stamp,
    pub items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// The cluster is formed under this name, its root directory given to this owner; the first entry of a log.
    Form {
        cluster: ClusterId,
        owner: Owner,
    },
    OpenSession {
        client: String,
        nonce: u64,
    },
    EndSession(SessionId),
    /// A mount's command. With `deny` the leader refuses it (a full disk): its number is used up, nothing else happens.
    Command {
        command: Command,
        deny: Option<Errno>,
    },
    /// The cluster's own housekeeping.
    Own(Op),
    /// Another list of nodes; by the request whoever asked for it knows the answer.
    Members {
        request: Option<u64>,
        change: MemberChange,
    },
    /// The nodes of a cluster that is formed.
    Founders(Members),
    /// There are more copies of this slice than there should be: one goes.
    DropSpare(SliceId),
    /// A node has a copy of a slice on its disk, in the place of another's if one is named.
    Copied {
        slice: SliceId,
        node: NodeId,
        instead_of: Option<NodeId>,
    },
    /// From behind this entry on this version is in force.
    Raise(u32),
}
