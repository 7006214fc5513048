use super::{leader, runtime};
use crate::failure::Failure;
use crate::names;
use crate::say::say;
use baton_proto::v1::{NodeStatus, Role, StatusReply, StatusRequest};
use clap::Args;
use serde_json::json;
use std::time::Duration;

/// Show the nodes, who leads, how far each is, their room, and the mounts
#[derive(Args)]
pub(crate) struct Status {
    /// Nodes of the cluster: HOST:PORT[,HOST:PORT...]; the leader is asked where it can be reached
    #[arg(value_name = "ADDR[,ADDR...]")]
    addresses: String,
    /// For programs
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let addresses = names::addresses(&self.addresses)?;
        let status = runtime()?.block_on(ask(&addresses))?;
        if self.json {
            say!("{}", as_json(&status));
        } else {
            print(&status);
        }
        match status.leader {
            Some(_) => Ok(()),
            None => Err(Failure::Unhealthy("the cluster has no leader".into())),
        }
    }
}

/// The leader knows most: its word is preferred to that of whoever answered first.
async fn ask(addresses: &[String]) -> Result<StatusReply, Failure> {
    let reply = leader(addresses).await?.status(StatusRequest {}).await;
    reply.map(|reply| reply.into_inner()).map_err(|status| Failure::Unreachable(status.message().to_owned()))
}

fn role(node: &NodeStatus) -> &'static str {
    match node.role() {
        Role::Leader => "leader",
        Role::Voter => "voter",
        Role::Learner => "learner",
        Role::Unspecified => "?",
    }
}

fn as_json(status: &StatusReply) -> serde_json::Value {
    let nodes: Vec<_> = status
        .nodes
        .iter()
        .map(|n| {
            json!({
                "id": n.id, "address": n.address, "role": role(n), "reachable": n.reachable, "applied": n.applied,
                "lag": n.lag, "disk_total": n.disk_total, "disk_free": n.disk_free, "slices": n.slices,
                "slice_bytes": n.slice_bytes, "region": n.region, "in_tree": n.in_tree, "parent": n.parent,
                "leaves": n.leaves, "still_needed": n.still_needed, "lacks": n.lacks, "away": n.away,
                "to_fetch": n.to_fetch, "fetch_ms": n.fetch_ms, "leave_ms": n.leave_ms,
            })
        })
        .collect();
    let mounts: Vec<_> = status
        .mounts
        .iter()
        .map(|m| json!({ "session": m.session, "client": m.client, "node": m.node, "since": m.since }))
        .collect();
    json!({
        "cluster": status.cluster.map(|c| format!("{c:016x}")), "node": status.node, "version": status.version,
        "uptime_ms": status.uptime_ms, "leader": status.leader, "term": status.term, "inodes": status.inodes,
        "allocated": status.allocated, "nodes": nodes, "mounts": mounts, "tree": status.tree, "health": status.health,
        "slices_short": status.slices_short, "short_ms": status.short_ms, "to_move": status.to_move,
        "move_ms": status.move_ms,
    })
}

fn print(status: &StatusReply) {
    let cluster = status.cluster.map_or("not formed yet".into(), |c| format!("{c:016x}"));
    let leader = status.leader.map_or("none".into(), |l| format!("node {l}"));
    let uptime = Duration::from_millis(status.uptime_ms).as_secs();
    say!("cluster {cluster}   leader {leader}   term {}   baton {}", status.term, status.version);
    say!(
        "{} objects, {} of file data   node {} up {}:{:02}:{:02}\n",
        status.inodes,
        size(status.allocated),
        status.node,
        uptime / 3600,
        uptime / 60 % 60,
        uptime % 60
    );
    say!("{:>5}  {:<8} {:<24} {:>10} {:>8} {:>10} {:>10}", "NODE", "ROLE", "ADDRESS", "APPLIED", "LAG", "FREE", "DISK");
    for node in &status.nodes {
        let gone = if node.reachable { "" } else { "  unreachable" };
        let leaves = if node.leaves { "  leaves" } else { "" };
        let away = if node.away { "  away" } else { "" };
        say!(
            "{:>5}  {:<8} {:<24} {:>10} {:>8} {:>10} {:>10}{gone}{leaves}{away}",
            node.id,
            role(node),
            node.address,
            node.applied,
            node.lag,
            size(node.disk_free),
            size(node.disk_total),
        );
    }
    draw(status);
    if !status.mounts.is_empty() {
        say!("\n{:>9}  MOUNT", "SESSION");
    }
    for mount in &status.mounts {
        say!("{:>9}  {}", mount.session, mount.client);
    }
    if !status.health.is_empty() {
        say!();
    }
    for line in &status.health {
        say!("! {line}");
    }
}

/// The tree along which tokens travel: who has a seat in it, below whom.
fn draw(status: &StatusReply) {
    let Some(root) = status.nodes.iter().find(|node| node.in_tree && node.parent.is_none()) else { return };
    say!("\ntokens travel along (tree {}.{})", status.term, status.tree);
    say!("  {}", leaf(root));
    branches(status, root.id, "  ");
    let outside: Vec<String> = status.nodes.iter().filter(|node| !node.in_tree).map(leaf).collect();
    if !outside.is_empty() {
        say!("  not in it: {}", outside.join(", "));
    }
}

fn branches(status: &StatusReply, of: u64, before: &str) {
    let below: Vec<&NodeStatus> = status.nodes.iter().filter(|node| node.parent == Some(of)).collect();
    for (at, node) in below.iter().enumerate() {
        let last = at + 1 == below.len();
        say!("{before}{} {}", if last { "└─" } else { "├─" }, leaf(node));
        branches(status, node.id, &format!("{before}{}  ", if last { " " } else { "│" }));
    }
}

fn leaf(node: &NodeStatus) -> String {
    if node.region.is_empty() { format!("node {}", node.id) } else { format!("node {} ({})", node.id, node.region) }
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}
