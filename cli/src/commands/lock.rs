use super::{admin, runtime};
use crate::failure::Failure;
use crate::names;
use baton_proto::v1::{LockRow, LocksReply, LocksRequest};
use clap::{Args, Subcommand};
use serde_json::json;

/// File locks (flock and fcntl) of all mounts
#[derive(Args)]
pub(crate) struct Lock {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Ls(Ls),
}

/// Show who holds file locks, and who waits for them, in the order in which they will be served
///
/// Objects are named by their inode number, as `ls -i` and `find -inum` know it on every mount.
#[derive(Args)]
struct Ls {
    /// Nodes of the cluster: HOST:PORT[,HOST:PORT...]; the first that answers is asked
    #[arg(value_name = "ADDR[,ADDR...]")]
    addresses: String,
    /// For programs
    #[arg(long)]
    json: bool,
}

impl Lock {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let What::Ls(ls) = self.what;
        let addresses = names::addresses(&ls.addresses)?;
        let found = runtime()?.block_on(async {
            let reply = admin(&addresses).await?.locks(LocksRequest {}).await;
            reply.map(|reply| reply.into_inner()).map_err(|status| Failure::Unhealthy(status.message().to_owned()))
        })?;
        if ls.json {
            println!("{}", as_json(&found));
        } else {
            print(&found);
        }
        Ok(())
    }
}

fn as_json(found: &LocksReply) -> serde_json::Value {
    let row = |lock: &LockRow| {
        json!({
            "ino": lock.ino, "session": lock.session, "mount": lock.client, "pid": lock.pid, "start": lock.start,
            "end": lock.end, "exclusive": lock.exclusive, "waiting": lock.waiting,
        })
    };
    json!({ "locks": found.locks.iter().map(row).collect::<Vec<_>>(), "more": found.more })
}

fn print(found: &LocksReply) {
    if found.locks.is_empty() {
        return println!("no locks");
    }
    println!("{:>10}  {:<8} {:<9} {:<24} {:>8}  MOUNT", "INODE", "STATE", "MODE", "BYTES", "PID");
    for lock in &found.locks {
        let state = if lock.waiting { "waits" } else { "held" };
        let mode = if lock.exclusive { "exclusive" } else { "shared" };
        println!("{:>10}  {state:<8} {mode:<9} {:<24} {:>8}  {}", lock.ino, bytes(lock), lock.pid, lock.client);
    }
    if found.more {
        println!("... and more");
    }
}

fn bytes(lock: &LockRow) -> String {
    match (lock.start, lock.end) {
        (0, end) if end >= i64::MAX as u64 => "all".into(),
        (start, end) if end >= i64::MAX as u64 => format!("{start}.."),
        (start, end) => format!("{start}..{end}"),
    }
}
