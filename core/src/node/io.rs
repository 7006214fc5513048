//! What goes into the node's machine and what comes out of it.

use super::drain::Walk;
use super::fetching::Fetching;
use super::merging::{MergeOrder, Merged};
use super::messages::{Space, ToPeer};
use super::version::Unspoken;
use super::view::Frozen;
use crate::meta::ops::BreakLocks;
use crate::meta::{Key, Value};
use crate::session::{Reply, ToMount, ToNode};
use crate::types::{ClusterId, MemberChange, Members, NoChange, NodeId, SliceId, Stamp};
use raft::eraftpb::{ConfState, Entry, HardState};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The time, as this node's clocks have it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Microseconds of a clock that never goes back; only differences mean anything.
    pub mono: u64,
    /// The time of day; may jump.
    pub real: Stamp,
}

/// One connection of a mount to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Conn(pub u64);

#[derive(Clone, Debug)]
pub enum Input {
    /// Time has passed: at least every [`TICK_US`](super::TICK_US).
    Tick,
    Peer {
        from: NodeId,
        message: ToPeer,
    },
    /// The stream to a peer broke or was made anew: what was under way may be lost.
    PeerLost(NodeId),
    Mount {
        conn: Conn,
        message: ToNode,
    },
    MountLost(Conn),
    /// This persist and all before it are on disk.
    Persisted(u64),
    /// The changes up to this index are in the state store (readable, not yet durable).
    Stored(u64),
    /// Everything up to this index is durable in the state store.
    Checkpointed(u64),
    /// The state store now is the snapshot of this index and term; `None`: it could not be had.
    SnapshotFetched(Option<(u64, u64)>),
    MemberRecorded,
    /// Room on this node's disk.
    Space(Space),
    /// This node has a copy of this slice on its disk now, in the place of another's if one is named.
    Copied {
        slice: SliceId,
        instead_of: Option<NodeId>,
    },
    /// The state is wanted as it is behind this entry, or as it is now; answered with [`Output::Frozen`] when that was applied.
    Freeze {
        request: u64,
        at: Option<u64>,
    },
    /// What came of an [`Output::Merge`].
    Looked {
        slice: SliceId,
        merged: Merged,
    },
    /// What an operator asked this node for; answered with [`Output::Broke`], if this node leads long enough.
    BreakLocks(BreakLocks),
    /// What an operator asked this node for: another list of nodes; answered with [`Output::MembersChanged`], if this node
    /// leads long enough.
    ChangeMembers {
        request: u64,
        change: MemberChange,
    },
    /// This node is about to end: if it leads, another one shall.
    StepDown,
    /// What an operator asked this node for, if it leads: this node, if it leaves, goes though copies may be lost with it. Said
    /// again until it is gone.
    GiveUp(NodeId),
    /// This node's shell walked over all slices.
    Walked(Walk),
    /// How far it is with what this node lacks.
    Fetching(Fetching),
}

/// A write to the Raft log. Writes are carried out in order; the machine waits for [`Input::Persisted`] before it lets
/// anybody rely on one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogWrite {
    pub number: u64,
    pub entries: Vec<Entry>,
    pub hard_state: Option<HardState>,
    pub conf_state: Option<ConfState>,
    /// A snapshot of this index and term took the place of everything before.
    pub reset_to: Option<(u64, u64)>,
}

pub type Changes = Arc<BTreeMap<Key, Option<Value>>>;

#[derive(Clone, Debug)]
pub enum Output {
    Peer {
        to: NodeId,
        message: ToPeer,
    },
    Mount {
        conn: Conn,
        message: ToMount,
    },
    Persist(LogWrite),
    /// Changes that lead up to this index. Where the store is there already, because a snapshot overtook them, they are
    /// nothing; it is answered all the same. `soon`: make a checkpoint of them at once, for the log before it takes much memory.
    Store {
        index: u64,
        term: u64,
        changes: Changes,
        soon: bool,
    },
    /// Log entries up to this one are no longer needed.
    Compact {
        index: u64,
        term: u64,
    },
    /// Get the whole state from this node, make it durable in the store's place if it is newer, and answer with [`Input::SnapshotFetched`].
    FetchSnapshot {
        from: NodeId,
    },
    /// Record durably that this node votes from now on; answer with [`Input::MemberRecorded`].
    BecomeMember,
    /// The name of the cluster is known.
    Cluster(ClusterId),
    /// No file refers to these any more.
    DropSlices(Vec<SliceId>),
    /// This node need not keep a copy of this one any more, as of now: the next walk looks again before it goes.
    SpareCopy(SliceId),
    /// There may be small writes to merge.
    Merge(MergeOrder),
    /// What was asked for, or nothing: that entry was applied before, or the state is being fetched from another node.
    Frozen {
        request: u64,
        state: Option<Frozen>,
    },
    /// Locks were broken; every node says so when it has applied it, and the one that was asked knows the request.
    Broke {
        request: u64,
        reply: Reply,
    },
    /// The nodes of the cluster, as of now.
    Members(Members),
    MembersChanged {
        request: u64,
        outcome: Result<NodeId, NoChange>,
    },
    /// What is kept from here on was written by this version at the newest: recorded durably before anything that follows.
    Keeps(u32),
    /// This version is in force in the cluster: a node that does not speak it has nothing to say here.
    InForce(u32),
    /// The state cannot be read or the log cannot be understood: stop this node, it must be rebuilt from the others.
    Stop(String),
    /// Another build is needed to go on. Stop this node and leave all it has as it is; nothing that follows is carried out.
    StopUnspoken(Unspoken),
}
