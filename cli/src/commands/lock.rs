use super::{admin, leader, runtime, told};
use crate::failure::Failure;
use crate::names;
use crate::say::say;
use baton_proto::v1::{BreakLocksRequest, BrokenRow, LockRow, LocksReply, LocksRequest};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// File locks (flock and fcntl) of all mounts
#[derive(Args)]
pub(crate) struct Lock {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Ls(Ls),
    Break(Break),
}

/// Show who holds file locks, and who waits for them, in the order in which they will be served
///
/// Objects are named by their inode number, as `ls -i` and `find -inum` know it on every mount. `broken` are locks that were
/// broken on a mount whose programs have not closed the file since.
#[derive(Args)]
struct Ls {
    /// Nodes of the cluster: HOST:PORT[,HOST:PORT...]; the first that answers is asked
    #[arg(value_name = "ADDR[,ADDR...]")]
    addresses: String,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// Take the locks on a file away from who holds them, by force
///
/// Who waits for them gets them at once, in turn. The mounts whose programs held them may neither write to the file nor lock
/// it until all their programs have closed it: what they do before that fails with EIO, from the moment on at which the locks
/// are broken. Nothing they wrote before is undone, so the file may be half changed: look at it before you go on.
#[derive(Args)]
struct Break {
    /// Nodes of the cluster: HOST:PORT[,HOST:PORT...]; the leader is asked
    #[arg(value_name = "ADDR[,ADDR...]")]
    addresses: String,
    /// The file, as `lock ls` and `ls -i` name it
    #[arg(value_name = "INODE")]
    ino: u64,
    /// Only what this mount's session holds, as `lock ls` and `status` number it
    #[arg(long, value_name = "N")]
    session: Option<u64>,
    /// For programs
    #[arg(long)]
    json: bool,
}

impl Lock {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.what {
            What::Ls(ls) => ls.run(),
            What::Break(order) => order.run(),
        }
    }
}

impl Ls {
    fn run(self) -> Result<(), Failure> {
        let addresses = names::addresses(&self.addresses)?;
        let found = runtime()?.block_on(async {
            let reply = admin(&addresses).await?.locks(LocksRequest {}).await;
            reply.map(tonic::Response::into_inner).map_err(told)
        })?;
        if self.json {
            let broken = |row: &BrokenRow| json!({ "ino": row.ino, "session": row.session, "mount": row.client });
            let broken: Vec<Value> = found.broken.iter().map(broken).collect();
            say!("{}", json!({ "locks": as_json(&found.locks), "broken": broken, "more": found.more }));
        } else {
            print(&found);
        }
        Ok(())
    }
}

impl Break {
    fn run(self) -> Result<(), Failure> {
        let addresses = names::addresses(&self.addresses)?;
        let request = BreakLocksRequest { ino: self.ino, session: self.session };
        let broken = runtime()?.block_on(async {
            let reply = leader(&addresses).await?.break_locks(request).await;
            reply.map(|reply| reply.into_inner().locks).map_err(told)
        })?;
        if self.json {
            say!("{}", json!({ "ino": self.ino, "broken": as_json(&broken) }));
        } else {
            self.print(&broken);
        }
        Ok(())
    }

    fn print(&self, broken: &[LockRow]) {
        if broken.is_empty() {
            let whose =
                self.session.map_or("nobody holds".into(), |session| format!("session {session} does not hold"));
            return say!("{whose} locks on inode {}: nothing was broken", self.ino);
        }
        for lock in broken {
            say!(
                "broken: process {} on {} (session {}) held bytes {}, {}",
                lock.pid,
                lock.client,
                lock.session,
                bytes(lock),
                mode(lock)
            );
        }
        let mounts: BTreeMap<u64, &str> = broken.iter().map(|lock| (lock.session, lock.client.as_str())).collect();
        for client in mounts.values() {
            say!("{client} cannot write to inode {} until its programs have closed it", self.ino);
        }
    }
}

fn as_json(locks: &[LockRow]) -> Vec<Value> {
    let row = |lock: &LockRow| {
        json!({
            "ino": lock.ino, "session": lock.session, "mount": lock.client, "pid": lock.pid, "start": lock.start,
            "end": lock.end, "exclusive": lock.exclusive, "waiting": lock.waiting,
        })
    };
    locks.iter().map(row).collect()
}

fn print(found: &LocksReply) {
    if found.locks.is_empty() && found.broken.is_empty() {
        return say!("no locks");
    }
    say!("{:>10}  {:<8} {:<9} {:<24} {:>8} {:>9}  MOUNT", "INODE", "STATE", "MODE", "BYTES", "PID", "SESSION");
    for lock in &found.locks {
        let state = if lock.waiting { "waits" } else { "held" };
        let (ino, mode, bytes) = (lock.ino, mode(lock), bytes(lock));
        say!("{ino:>10}  {state:<8} {mode:<9} {bytes:<24} {:>8} {:>9}  {}", lock.pid, lock.session, lock.client);
    }
    for row in &found.broken {
        let (ino, session) = (row.ino, row.session);
        say!("{ino:>10}  {:<8} {:<9} {:<24} {:>8} {session:>9}  {}", "broken", "", "", "", row.client);
    }
    if found.more {
        say!("... and more");
    }
}

fn mode(lock: &LockRow) -> &'static str {
    if lock.exclusive { "exclusive" } else { "shared" }
}

fn bytes(lock: &LockRow) -> String {
    match (lock.start, lock.end) {
        (0, end) if end >= i64::MAX as u64 => "all".into(),
        (start, end) if end >= i64::MAX as u64 => format!("{start}.."),
        (start, end) => format!("{start}..{end}"),
    }
}
