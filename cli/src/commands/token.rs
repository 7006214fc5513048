use super::{admin, leader, runtime, told};
use crate::failure::Failure;
use crate::names;
use crate::say::say;
use baton_proto::v1::{CopiesReply, CopiesRequest, CopyRow, LockRow, LocksRequest, StatusRequest, TokenRow};
use clap::{Args, Subcommand};
use serde_json::json;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What mounts may answer by themselves, and what waits for them
#[derive(Args)]
pub(crate) struct Token {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Ls(Ls),
}

/// Show which nodes hold tokens, which mounts have copies of what, which were asked back, and which commands wait for that
///
/// A node may let its mounts change what it holds exclusively, and answer for what it holds at all; what no node holds is the
/// leader's. A mount has copies of what its node holds:
/// `all` of an object is its attributes and content (a directory's listing); `rights` is who may search a directory; a name is
/// what it stands for, or that there is none. Objects are named by their inode number, as `ls -i` knows it on every mount.
#[derive(Args)]
struct Ls {
    /// Nodes of the cluster: HOST:PORT[,HOST:PORT...]; every node that can be reached is asked
    #[arg(value_name = "ADDR[,ADDR...]")]
    addresses: String,
    /// Only of this file or directory, on any mount
    path: Option<PathBuf>,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// Show who uses a file or directory: which mounts have copies of it, hold locks on it, or wait for it
#[derive(Args)]
pub(crate) struct Who {
    /// Nodes of the cluster: HOST:PORT[,HOST:PORT...]; every node that can be reached is asked
    #[arg(value_name = "ADDR[,ADDR...]")]
    addresses: String,
    /// The file or directory, on any mount
    path: PathBuf,
    /// For programs
    #[arg(long)]
    json: bool,
}

impl Token {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let What::Ls(ls) = self.what;
        let addresses = names::addresses(&ls.addresses)?;
        let ino = ls.path.as_ref().map(inode).transpose()?;
        let found = runtime()?.block_on(copies(&addresses, ino))?;
        if ls.json {
            let more = found.iter().any(|said| said.more);
            say!("{}", json!({ "tokens": tokens_as_json(&found), "copies": copies_as_json(&found), "more": more }));
        } else {
            print(&found);
        }
        Ok(())
    }
}

impl Who {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let addresses = names::addresses(&self.addresses)?;
        let ino = inode(&self.path)?;
        let (copies, locks) = runtime()?.block_on(async {
            let copies = copies(&addresses, Some(ino)).await?;
            let locks = leader(&addresses).await?.locks(LocksRequest {}).await.map_err(told)?.into_inner().locks;
            Ok::<_, Failure>((copies, locks))
        })?;
        let locks: Vec<LockRow> = locks.into_iter().filter(|lock| lock.ino == ino).collect();
        if self.json {
            let lock = |l: &LockRow| json!({ "mount": l.client, "pid": l.pid, "exclusive": l.exclusive, "waiting": l.waiting });
            let locks: Vec<_> = locks.iter().map(lock).collect();
            let (tokens, copies) = (tokens_as_json(&copies), copies_as_json(&copies));
            say!("{}", json!({ "ino": ino, "tokens": tokens, "copies": copies, "locks": locks }));
            return Ok(());
        }
        say!("{} is inode {ino}", self.path.display());
        print(&copies);
        for lock in locks {
            let state = if lock.waiting { "waits for" } else { "holds" };
            let mode = if lock.exclusive { "an exclusive" } else { "a shared" };
            say!("process {} on {} {state} {mode} lock", lock.pid, lock.client);
        }
        Ok(())
    }
}

fn inode(path: &PathBuf) -> Result<u64, Failure> {
    let found = std::fs::symlink_metadata(path).map_err(Failure::io(format!("look at {}", path.display())))?;
    Ok(found.ino())
}

/// What every node says that can be reached, the leader first.
async fn copies(addresses: &[String], ino: Option<u64>) -> Result<Vec<CopiesReply>, Failure> {
    let mut first = leader(addresses).await?;
    let status = first.status(StatusRequest {}).await.map_err(told)?.into_inner();
    let mut said = vec![first.copies(CopiesRequest { ino }).await.map_err(told)?.into_inner()];
    for node in status.nodes.into_iter().filter(|node| node.id != status.node && node.reachable) {
        if let Ok(mut node) = admin(&[node.address]).await
            && let Ok(reply) = node.copies(CopiesRequest { ino }).await
        {
            said.push(reply.into_inner());
        }
    }
    Ok(said)
}

fn tokens_as_json(said: &[CopiesReply]) -> Vec<serde_json::Value> {
    let row = |node: u64, row: &TokenRow| {
        let queue = row.queue.iter().map(|w| json!({ "node": w.node.unwrap_or(node), "exclusive": w.exclusive }));
        json!({
            "node": node, "ino": row.ino, "here": row.towards.is_none(), "towards": row.towards, "held": row.held,
            "copies": row.copies, "queue": queue.collect::<Vec<_>>(),
        })
    };
    said.iter().flat_map(|reply| reply.tokens.iter().map(|token| row(reply.node, token))).collect()
}

fn copies_as_json(said: &[CopiesReply]) -> Vec<serde_json::Value> {
    said.iter().flat_map(|reply| reply.rows.iter().map(|row| as_json(reply.node, row))).collect()
}

fn as_json(node: u64, row: &CopyRow) -> serde_json::Value {
    json!({
        "node": node, "ino": row.ino, "part": row.part, "name": String::from_utf8_lossy(&row.name), "mount": row.client,
        "since_ms": row.since_ms, "asked_back_ms": row.asked_back_ms, "waits": row.waits,
    })
}

fn print(found: &[CopiesReply]) {
    print_tokens(found);
    if found.iter().all(|reply| reply.rows.is_empty()) {
        return say!("no mount has copies of it");
    }
    say!("{:>10}  {:<26} {:>9}  {:<28} {:>4}  MOUNT", "INODE", "PART", "SINCE", "STATE", "NODE");
    for (node, row) in found.iter().flat_map(|reply| reply.rows.iter().map(|row| (reply.node, row))) {
        let part = match row.part.as_str() {
            "name" => format!("name {}", String::from_utf8_lossy(&row.name).escape_debug()),
            part => part.to_owned(),
        };
        let state = match (&row.waits, row.asked_back_ms) {
            (Some(command), _) => format!("{command} waits to change it"),
            (None, Some(ago)) => format!("asked back {} ago", seconds(ago)),
            (None, None) => "copy".into(),
        };
        say!("{:>10}  {part:<26} {:>9}  {state:<28} {node:>4}  {}", row.ino, seconds(row.since_ms), row.client);
    }
    if found.iter().any(|reply| reply.more) {
        say!("... and more");
    }
}

/// The nodes that hold anything, or wait for it. What none does is the leader's.
fn print_tokens(found: &[CopiesReply]) {
    let rows = || found.iter().flat_map(|reply| reply.tokens.iter().map(|row| (reply.node, row)));
    let mut said = rows().filter(|(_, row)| !row.held.is_empty() || !row.queue.is_empty()).peekable();
    if said.peek().is_none() {
        return;
    }
    say!("{:>10}  {:>4}  {:<12} {:<14} {:<14} WAITS", "INODE", "NODE", "HOLDS", "TOKEN", "COPIES BELOW");
    for (node, row) in said {
        let held = if row.held.is_empty() { "-" } else { &row.held };
        let token = row.towards.map_or("here".into(), |towards| format!("by node {towards}"));
        let copies: Vec<String> = row.copies.iter().map(ToString::to_string).collect();
        let waits = row.queue.iter().map(|wait| {
            let mode = if wait.exclusive { "exclusive" } else { "shared" };
            format!("node {} ({mode})", wait.node.unwrap_or(node))
        });
        let waits: Vec<String> = waits.collect();
        say!("{:>10}  {node:>4}  {held:<12} {token:<14} {:<14} {}", row.ino, copies.join(" "), waits.join(", "));
    }
    say!();
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}
