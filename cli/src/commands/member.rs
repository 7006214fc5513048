use super::{leader, runtime, told};
use crate::failure::Failure;
use crate::names;
use crate::say::{say, say_now};
use baton_core::node::to_go;
use baton_core::types::{Member, Members, NodeId};
use baton_proto::v1::change_members_request::Change;
use baton_proto::v1::{ChangeMembersReply, ChangeMembersRequest, NodeStatus, StatusRequest};
use baton_proto::{WIRE_OLDEST, WIRE_VERSION};
use clap::{Args, Subcommand};
use std::io::IsTerminal;
use std::time::Duration;

/// How often a node that leaves is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Have a node leave the cluster for good
///
/// A node is taken in by starting it: `baton node --join`.
#[derive(Args)]
pub(crate) struct MemberCommand {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Subcommand)]
enum Sub {
    Rm(Rm),
    Stay(Stay),
}

/// Remove a node: what it keeps is copied to the others first, then it is a node of the cluster no longer
///
/// The node may be dead: then the others make the copies that it had. It goes on until the node is removed and says how many
/// slices are still to be copied; interrupted, the removal goes on without it. The node's process ends by itself, and its
/// number is not given again.
#[derive(Args)]
struct Rm {
    /// The node's number
    #[arg(value_name = "NODE")]
    node: u64,
    /// Nodes of the cluster: HOST:PORT[,HOST:PORT...]
    #[arg(value_name = "ADDR[,ADDR...]")]
    addresses: String,
    /// Return as soon as it is decided
    #[arg(long)]
    no_wait: bool,
    /// Do not wait for copies that others lack: what only this node has, or nobody any more, is lost
    #[arg(long, conflicts_with = "no_wait")]
    lose_data: bool,
}

/// Keep a node that was to be removed
#[derive(Args)]
struct Stay {
    /// The node's number
    #[arg(value_name = "NODE")]
    node: u64,
    /// Nodes of the cluster: HOST:PORT[,HOST:PORT...]
    #[arg(value_name = "ADDR[,ADDR...]")]
    addresses: String,
}

impl MemberCommand {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            Sub::Rm(rm) => rm.run(),
            Sub::Stay(stay) => stay.run(),
        }
    }
}

impl Rm {
    fn run(self) -> Result<(), Failure> {
        let addresses = names::addresses(&self.addresses)?;
        runtime()?.block_on(async {
            order(&addresses, Change::Leave(self.node)).await?;
            if self.no_wait {
                say!("node {} leaves; baton status says how far it is", self.node);
                return Ok(());
            }
            wait_until_gone(&addresses, self.node, self.lose_data).await
        })
    }
}

impl Stay {
    fn run(self) -> Result<(), Failure> {
        let addresses = names::addresses(&self.addresses)?;
        runtime()?.block_on(order(&addresses, Change::Stay(self.node)))?;
        say!("node {} stays", self.node);
        Ok(())
    }
}

/// What the node speaks that joins: it is this program.
fn speaking() -> ChangeMembersRequest {
    ChangeMembersRequest { change: None, wire_version: WIRE_VERSION, wire_oldest: WIRE_OLDEST }
}

async fn order(addresses: &[String], change: Change) -> Result<ChangeMembersReply, Failure> {
    let request = ChangeMembersRequest { change: Some(change), ..speaking() };
    leader(addresses).await?.change_members(request).await.map(tonic::Response::into_inner).map_err(told)
}

async fn wait_until_gone(addresses: &[String], node: u64, lose_data: bool) -> Result<(), Failure> {
    let live = std::io::stdout().is_terminal();
    let mut shown = String::new();
    // Whoever answers may change meanwhile: the leader may be the one that leaves.
    let mut known = addresses.to_vec();
    loop {
        if let Ok(mut admin) = leader(&known).await
            && let Ok(status) = admin.status(StatusRequest {}).await.map(tonic::Response::into_inner)
            && status.leader.is_some()
        {
            let Some(row) = status.nodes.iter().find(|row| row.id == node) else {
                say!("{}node {node} is removed", if live { "\r\x1b[K" } else { "" });
                return Ok(());
            };
            if lose_data {
                let change = Some(Change::GiveUp(node));
                let _again_soon = admin.change_members(ChangeMembersRequest { change, ..speaking() }).await;
            }
            let others = status.nodes.iter().filter(|row| row.id != node).map(|row| row.address.clone());
            known = others.chain(addresses.iter().cloned()).collect();
            let line = progress(row, &status.nodes);
            if live {
                say_now!("\r\x1b[K{line}");
            } else if line != shown {
                say!("{line}");
            }
            shown = line;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn progress(row: &NodeStatus, nodes: &[NodeStatus]) -> String {
    match row.still_needed {
        _ if !row.leaves => format!("node {} was told to stay", row.id),
        None => format!("node {} leaves: looking at what it keeps", row.id),
        Some(0) => match unsure(nodes).as_slice() {
            [] => format!("node {} leaves: everything is elsewhere", row.id),
            unsure => format!("node {} leaves: waiting for {}", row.id, unsure.join(", ")),
        },
        Some(left) => match away(nodes).as_slice() {
            [] => {
                let takes = row.leave_ms.map(|ms| format!("; {}", to_go(Duration::from_millis(ms))));
                format!("node {} leaves: {left} slices still to be copied{}", row.id, takes.unwrap_or_default())
            }
            away => {
                let away = away.join(", ");
                format!(
                    "node {} leaves: {left} slices still to be copied; {away} is away: bring it back, or remove it too",
                    row.id
                )
            }
        },
    }
}

fn away(nodes: &[NodeStatus]) -> Vec<String> {
    nodes.iter().filter(|node| !node.leaves && node.away).map(|node| format!("node {}", node.id)).collect()
}

/// Nodes that stay and whose copies count, and of which it is not known that they have what they should.
fn unsure(nodes: &[NodeStatus]) -> Vec<String> {
    let unsure = nodes.iter().filter(|node| !node.leaves && !node.away && node.lacks != Some(0));
    let why = |node: &NodeStatus| match node.lacks {
        Some(lacks) => format!("node {} to fetch {lacks} slices that it lacks (--lose-data: do not wait)", node.id),
        None if node.reachable => format!("node {} to look through its slices", node.id),
        None => format!("node {}, which cannot be reached", node.id),
    };
    unsure.map(why).collect()
}

/// Takes the node at this address into the cluster: its number, and the list.
pub(super) fn join(addresses: &[String], address: &str) -> Result<(NodeId, Members), Failure> {
    let reply = runtime()?.block_on(order(addresses, Change::Join(address.to_owned())))?;
    let member = |member: baton_proto::v1::Member| {
        let (votes, leaves, away) = (member.votes, member.leaves, member.away);
        (NodeId(member.id), Member { address: member.address, votes, leaves, away })
    };
    let nodes = reply.members.into_iter().map(member).collect();
    Ok((NodeId(reply.node), Members { nodes, next: NodeId(reply.next) }))
}
