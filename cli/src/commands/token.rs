use super::{leader, runtime};
use crate::failure::Failure;
use crate::names;
use baton_proto::v1::{CopiesReply, CopiesRequest, CopyRow, LockRow, LocksRequest};
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

/// Show which mounts have copies of what, since when, which were asked back, and which commands wait for that
///
/// `all` of an object is its attributes and content (a directory's listing); `rights` is who may search a directory; a name is
/// what it stands for, or that there is none. Objects are named by their inode number, as `ls -i` knows it on every mount.
#[derive(Args)]
struct Ls {
    /// Nodes of the cluster: HOST:PORT[,HOST:PORT...]; the leader is asked
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
    /// Nodes of the cluster: HOST:PORT[,HOST:PORT...]; the leader is asked
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
            println!("{}", json!({ "copies": found.rows.iter().map(as_json).collect::<Vec<_>>(), "more": found.more }));
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
            let (copies, locks): (Vec<_>, Vec<_>) =
                (copies.rows.iter().map(as_json).collect(), locks.iter().map(lock).collect());
            println!("{}", json!({ "ino": ino, "copies": copies, "locks": locks }));
            return Ok(());
        }
        println!("{} is inode {ino}", self.path.display());
        print(&copies);
        for lock in locks {
            let state = if lock.waiting { "waits for" } else { "holds" };
            let mode = if lock.exclusive { "an exclusive" } else { "a shared" };
            println!("process {} on {} {state} {mode} lock", lock.pid, lock.client);
        }
        Ok(())
    }
}

fn told(status: tonic::Status) -> Failure {
    Failure::Unhealthy(status.message().to_owned())
}

fn inode(path: &PathBuf) -> Result<u64, Failure> {
    let found = std::fs::symlink_metadata(path).map_err(Failure::io(format!("look at {}", path.display())))?;
    Ok(found.ino())
}

async fn copies(addresses: &[String], ino: Option<u64>) -> Result<CopiesReply, Failure> {
    Ok(leader(addresses).await?.copies(CopiesRequest { ino }).await.map_err(told)?.into_inner())
}

fn as_json(row: &CopyRow) -> serde_json::Value {
    json!({
        "ino": row.ino, "part": row.part, "name": String::from_utf8_lossy(&row.name), "mount": row.client,
        "since_ms": row.since_ms, "asked_back_ms": row.asked_back_ms, "waits": row.waits,
    })
}

fn print(found: &CopiesReply) {
    if found.rows.is_empty() {
        return println!("no mount has copies of it");
    }
    println!("{:>10}  {:<26} {:>9}  {:<28} MOUNT", "INODE", "PART", "SINCE", "STATE");
    for row in &found.rows {
        let part = match row.part.as_str() {
            "name" => format!("name {}", String::from_utf8_lossy(&row.name).escape_debug()),
            part => part.to_owned(),
        };
        let state = match (&row.waits, row.asked_back_ms) {
            (Some(command), _) => format!("{command} waits to change it"),
            (None, Some(ago)) => format!("asked back {} ago", seconds(ago)),
            (None, None) => "copy".into(),
        };
        println!("{:>10}  {part:<26} {:>9}  {state:<28} {}", row.ino, seconds(row.since_ms), row.client);
    }
    if found.more {
        println!("... and more");
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}
