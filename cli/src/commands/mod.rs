pub(crate) mod fsck;
pub(crate) mod lock;
pub(crate) mod member;
pub(crate) mod mount;
pub(crate) mod node;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod up;

use crate::failure::Failure;
use baton_proto::v1::StatusRequest;
use baton_proto::v1::admin_client::AdminClient;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// The first node that answers.
async fn admin(addresses: &[String]) -> Result<AdminClient<Channel>, Failure> {
    let mut whys = Vec::new();
    for address in addresses {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|_| Failure::Usage(format!("{address} is no address; expected HOST:PORT")))?
            .connect_timeout(Duration::from_secs(2))
            .timeout(Duration::from_secs(60));
        match endpoint.connect().await {
            Ok(channel) => return Ok(AdminClient::new(channel)),
            Err(error) => whys.push(format!("{address} ({})", innermost(&error))),
        }
    }
    Err(Failure::Unreachable(whys.join(", ")))
}

/// The leader, where it can be reached; else whoever answers.
async fn leader(addresses: &[String]) -> Result<AdminClient<Channel>, Failure> {
    let mut first = admin(addresses).await?;
    let Ok(status) = first.status(StatusRequest {}).await.map(tonic::Response::into_inner) else { return Ok(first) };
    let leader = status.nodes.iter().find(|node| Some(node.id) == status.leader && node.id != status.node);
    match leader {
        Some(leader) => Ok(admin(std::slice::from_ref(&leader.address)).await.unwrap_or(first)),
        None => Ok(first),
    }
}

/// A node answered that it cannot.
fn told(status: tonic::Status) -> Failure {
    Failure::Unhealthy(status.message().to_owned())
}

/// What stands around the innermost reason says only that it failed.
fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::io("start"))
}

/// The threads that handle slices, shared by all nodes and mounts of a process.
fn bulk_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(baton_node::BULK_THREADS)
        .thread_name("baton-bulk")
        .enable_all()
        .build()
        .map_err(Failure::io("start the threads for file data"))
}
