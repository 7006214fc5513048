use crate::slices::Slices;
use baton_core::mount::{SliceFault, SlicePart};
use baton_proto::v1::{self, slices_server};
use baton_proto::{GetSlice, Placed, PutSlice, SliceBytes, SliceFailure, SliceProblem};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

/// Slices of mounts under way at once; each may take 4 MiB.
const UNDER_WAY_MAX: usize = 64;

pub(crate) struct SlicesService {
    slices: Arc<Slices>,
    room: Semaphore,
}

impl SlicesService {
    pub(crate) fn new(slices: Arc<Slices>) -> SlicesService {
        SlicesService { slices, room: Semaphore::new(UNDER_WAY_MAX) }
    }
}

#[tonic::async_trait]
impl slices_server::Slices for SlicesService {
    async fn put(&self, request: Request<v1::PutSlice>) -> Result<Response<v1::Placed>, Status> {
        let PutSlice { id, data, replica_only } = PutSlice::try_from(request.into_inner())?;
        // What another node waits for never waits for it: two primaries would wait for each other.
        let outcome = if replica_only {
            self.slices.own.put(id, data).await.map(|()| vec![self.slices.me])
        } else {
            let _room = self.room.acquire().await.map_err(|_| Status::unavailable("the node stops"))?;
            self.slices.put(id, data).await
        };
        let placed: Placed = outcome.map_err(failure);
        Ok(Response::new(placed.into()))
    }

    async fn get(&self, request: Request<v1::GetSlice>) -> Result<Response<v1::SliceBytes>, Status> {
        let GetSlice { id, at, len, nodes } = GetSlice::try_from(request.into_inner())?;
        let _room = match nodes.is_empty() {
            true => None,
            false => Some(self.room.acquire().await.map_err(|_| Status::unavailable("the node stops"))?),
        };
        let got: SliceBytes = self.slices.get(SlicePart { id, at, len, nodes }).await.map_err(failure);
        Ok(Response::new(got.into()))
    }
}

fn failure(fault: SliceFault) -> SliceFailure {
    let (problem, detail) = match fault {
        SliceFault::Missing => (SliceProblem::Missing, "no node that was asked has it"),
        SliceFault::Damaged => (SliceProblem::Damaged, "no good copy was found"),
        SliceFault::Full => (SliceProblem::Full, "too few nodes have room"),
        SliceFault::Unreachable => (SliceProblem::Refused, "too few nodes can be reached"),
    };
    SliceFailure { problem, detail: detail.into() }
}
