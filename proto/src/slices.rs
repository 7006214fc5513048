//! Slices: asked for and answered one at a time. What went wrong with a slice is an answer; a gRPC status only says that
//! the transport failed.

use crate::bad::{BadMessage, Why};
use crate::field::{Field, at_least, at_most, enums, messages, need};
use crate::types::{few_nodes, is_a_sessions};
use crate::v1;
use baton_core::limits::SLICE_MAX;
use baton_core::types::{NodeId, SliceId};
use bytes::Bytes;

/// Stores a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutSlice {
    pub id: SliceId,
    pub data: Bytes,
    /// From node to node: store it here and do not send it on.
    pub replica_only: bool,
}

/// Reads a range of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetSlice {
    pub id: SliceId,
    pub at: u32,
    pub len: u32,
    /// Who else may have it, as the layout said; empty: answer from your own disk alone.
    pub nodes: Vec<NodeId>,
}

/// The nodes that have the slice on disk, the primary first.
pub type Placed = Result<Vec<NodeId>, SliceFailure>;

/// The bytes asked for.
pub type SliceBytes = Result<Bytes, SliceFailure>;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}: {detail}")]
pub struct SliceFailure {
    pub problem: SliceProblem,
    /// For people.
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SliceProblem {
    #[error("the slice is missing")]
    Missing,
    #[error("the slice is damaged")]
    Damaged,
    #[error("there is no room for the slice")]
    Full,
    #[error("the slice was refused")]
    Refused,
}

enums! {
    SliceProblem = v1::SliceProblem { Missing, Damaged, Full, Refused }
}

messages! {
    PutSlice = v1::PutSlice { id, data, replica_only } if slice_may_be_put;
    GetSlice = v1::GetSlice { id, at, len, nodes } if range_is_within;
    SliceFailure = v1::SliceFailure { problem, detail };
}

fn slice_may_be_put(put: &PutSlice) -> Result<(), BadMessage> {
    // What belongs to no session only nodes send each other.
    if !put.replica_only {
        is_a_sessions(&put.id, "id.session")?;
    }
    at_least(put.data.len(), 1, "data")?;
    at_most(put.data.len(), SLICE_MAX, "data")
}

fn range_is_within(get: &GetSlice) -> Result<(), BadMessage> {
    at_least(get.len as usize, 1, "len")?;
    at_most(get.at as usize, SLICE_MAX, "at")?;
    at_most(get.len as usize, SLICE_MAX - get.at as usize, "len")?;
    few_nodes(&get.nodes)
}

impl From<Placed> for v1::Placed {
    fn from(placed: Placed) -> Self {
        use v1::placed::{Is, Nodes};
        let is = match placed {
            Ok(nodes) => Is::Nodes(Nodes { ids: nodes.into_wire() }),
            Err(failure) => Is::Failed(failure.into()),
        };
        Self { is: Some(is) }
    }
}

impl TryFrom<v1::Placed> for Placed {
    type Error = BadMessage;
    fn try_from(wire: v1::Placed) -> Result<Placed, BadMessage> {
        use v1::placed::Is;
        match wire.is.ok_or(Why::Missing.at("placed"))? {
            Is::Nodes(nodes) => {
                let nodes: Vec<NodeId> = need(nodes.ids, "nodes")?;
                at_least(nodes.len(), 1, "nodes")?;
                few_nodes(&nodes)?;
                Ok(Ok(nodes))
            }
            Is::Failed(failure) => Ok(Err(need(Some(failure), "failed")?)),
        }
    }
}

impl From<SliceBytes> for v1::SliceBytes {
    fn from(bytes: SliceBytes) -> Self {
        use v1::slice_bytes::Is;
        let is = match bytes {
            Ok(data) => Is::Data(data),
            Err(failure) => Is::Failed(failure.into()),
        };
        Self { is: Some(is) }
    }
}

impl TryFrom<v1::SliceBytes> for SliceBytes {
    type Error = BadMessage;
    fn try_from(wire: v1::SliceBytes) -> Result<SliceBytes, BadMessage> {
        use v1::slice_bytes::Is;
        match wire.is.ok_or(Why::Missing.at("slice"))? {
            Is::Data(data) => {
                at_most(data.len(), SLICE_MAX, "data")?;
                Ok(Ok(data))
            }
            Is::Failed(failure) => Ok(Err(need(Some(failure), "failed")?)),
        }
    }
}
