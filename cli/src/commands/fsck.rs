use super::{admin, runtime, told};
use crate::failure::Failure;
use crate::names;
use crate::say::{say, say_now};
use baton_proto::v1::{CheckReply, CheckRequest, StatusRequest, VerifiedCopy, VerifyRequest};
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;
use tonic::Code;

/// Walk over the whole state and say what does not fit together
///
/// Checks link counts, reachability, orphans, listings, extents and slices on the node that answers. It changes nothing.
#[derive(Args)]
pub(crate) struct Fsck {
    /// Nodes of the cluster: HOST:PORT[,HOST:PORT...]; the first that answers is checked
    #[arg(value_name = "ADDR[,ADDR...]")]
    addresses: String,
    /// Check every node, compare their states, read every copy of every slice back from its disk and compare these too
    #[arg(long)]
    deep: bool,
    /// With --deep: fetch copies that are damaged or missing from a node that has a good one
    #[arg(long, requires = "deep")]
    mend: bool,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// What was found on all nodes that were looked at.
#[derive(Default)]
struct Found {
    inodes: u64,
    extents: u64,
    slices: u64,
    slice_bytes: u64,
    copies: u64,
    mended: u64,
    problems: Vec<String>,
}

impl Fsck {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let addresses = names::addresses(&self.addresses)?;
        let found = runtime()?.block_on(async {
            if self.deep {
                return deep(&addresses, self.mend, !self.json && std::io::stdout().is_terminal()).await;
            }
            let mut admin = admin(&addresses).await?;
            let checked = admin.check(CheckRequest::default()).await.map_err(told)?;
            Ok(Found::of(checked.into_inner()))
        })?;
        self.print(&found);
        match found.problems.len() {
            0 => Ok(()),
            n => Err(Failure::Unhealthy(format!("{n} problems were found"))),
        }
    }

    fn print(&self, found: &Found) {
        if self.json {
            let row = json!({
                "inodes": found.inodes, "extents": found.extents, "slices": found.slices,
                "slice_bytes": found.slice_bytes, "copies": found.copies, "mended": found.mended,
                "problems": found.problems,
            });
            return say!("{row}");
        }
        say!("{} inodes, {} extents, {} slices", found.inodes, found.extents, found.slices);
        if self.deep {
            say!("{} copies of slices read back, {} mended", found.copies, found.mended);
        }
        for problem in &found.problems {
            say!("{problem}");
        }
    }
}

impl Found {
    fn of(reply: CheckReply) -> Found {
        Found {
            inodes: reply.inodes,
            extents: reply.extents,
            slices: reply.slices,
            slice_bytes: reply.slice_bytes,
            problems: reply.problems,
            ..Found::default()
        }
    }
}

type SliceNumber = (u64, u64);

async fn deep(addresses: &[String], mend: bool, live: bool) -> Result<Found, Failure> {
    let status = admin(addresses).await?.status(StatusRequest {}).await.map_err(told)?.into_inner();
    let nodes: Vec<(u64, String)> = status.nodes.into_iter().map(|node| (node.id, node.address)).collect();
    let mut found = states(&nodes, addresses).await?;
    let mut checksums: BTreeMap<SliceNumber, BTreeMap<u32, Vec<u64>>> = BTreeMap::new();
    for (node, address) in &nodes {
        let each = |copy: VerifiedCopy| {
            found.copies += 1;
            found.mended += u64::from(copy.mended);
            if live && found.copies.is_multiple_of(100) {
                say_now!("\r\x1b[Knode {node}: {} copies read back", found.copies);
            }
            let id = (copy.session, copy.number);
            match copy.checksum {
                Some(checksum) => checksums.entry(id).or_default().entry(checksum).or_default().push(*node),
                None => {
                    found.problems.push(format!("node {node}'s copy of slice {}.{} is {}", id.0, id.1, copy.problem))
                }
            }
        };
        if let Err(why) = verify(address, mend, each).await {
            found.problems.push(format!("node {node} at {address} cannot be looked at: {why}"));
        }
    }
    if live {
        say_now!("\r\x1b[K");
    }
    for ((session, number), by_checksum) in checksums {
        if by_checksum.len() > 1 {
            let sides: Vec<String> = by_checksum.values().map(|nodes| format!("{nodes:?}")).collect();
            found.problems.push(format!("slice {session}.{number} differs between nodes {}", sides.join(" and ")));
        }
    }
    Ok(found)
}

/// A node, its address, and its state behind an entry; nothing, if it has gone on from there already.
type Check = (u64, String, Result<Option<CheckReply>, Failure>);

/// Every node's state by itself, and whether they are the same: all of them behind the same entry, though the cluster goes on.
async fn states(nodes: &[(u64, String)], addresses: &[String]) -> Result<Found, Failure> {
    const TRIES: u32 = 6;
    for attempt in 0..TRIES {
        let at = entry_ahead(addresses, attempt).await?;
        let mut checking = tokio::task::JoinSet::new();
        for (node, address) in nodes.iter().cloned() {
            checking.spawn(async move {
                let checked = check(&address, at).await;
                (node, address, checked)
            });
        }
        let mut checks: Vec<Check> = checking.join_all().await;
        checks.sort_by_key(|(node, ..)| *node);
        let has_passed = checks.iter().any(|(.., checked)| matches!(checked, Ok(None)));
        // Where nobody got there, the cluster fell silent before.
        let got_there = checks.iter().any(|(.., checked)| matches!(checked, Ok(Some(_))));
        if got_there && !has_passed {
            return Ok(compared(checks));
        }
    }
    let why =
        "the nodes' states were not looked at: no entry was found that all of them come to. Try when less is written";
    Ok(Found { problems: vec![why.into()], ..Found::default() })
}

fn compared(checks: Vec<Check>) -> Found {
    let (mut problems, mut states) = (Vec::new(), Vec::new());
    for (node, address, checked) in checks {
        match checked {
            Ok(state) => states.extend(state.map(|state| (node, state))),
            Err(why) => problems.push(format!("node {node} at {address} cannot be looked at: {why}")),
        }
    }
    problems.extend(states.iter().flat_map(|(node, s)| s.problems.iter().map(move |p| format!("node {node}: {p}"))));
    let Some((first, like)) = states.first().cloned() else { return Found { problems, ..Found::default() } };
    let others = states.iter().filter(|(_, state)| state.hash != like.hash);
    problems.extend(others.map(|(node, _)| format!("the states of nodes {first} and {node} differ")));
    Found { problems, ..Found::of(like) }
}

/// An entry that every node gets to when it was asked for it, at the pace of this moment. Further ahead with every attempt.
async fn entry_ahead(addresses: &[String], attempt: u32) -> Result<u64, Failure> {
    const LOOK_FOR: Duration = Duration::from_millis(200);
    let mut admin = admin(addresses).await?;
    let mut applied = async || {
        let status = admin.status(StatusRequest {}).await.map_err(told)?.into_inner();
        Ok::<u64, Failure>(status.nodes.iter().map(|node| node.applied).max().unwrap_or(0))
    };
    let before = applied().await?;
    tokio::time::sleep(LOOK_FOR).await;
    let now = applied().await?;
    Ok(now + ((now - before.min(now)) << attempt))
}

async fn check(address: &str, at: u64) -> Result<Option<CheckReply>, Failure> {
    let mut admin = admin(&[address.to_owned()]).await?;
    match admin.check(CheckRequest { hash: true, at: Some(at) }).await {
        Ok(reply) => Ok(Some(reply.into_inner())),
        Err(status) if status.code() == Code::Aborted => Ok(None),
        Err(status) => Err(told(status)),
    }
}

async fn verify(address: &str, mend: bool, mut each: impl FnMut(VerifiedCopy)) -> Result<(), Failure> {
    let mut admin = admin(&[address.to_owned()]).await?;
    let mut request = VerifyRequest { session: 0, number: 0, mend };
    loop {
        let reply = admin.verify(request).await.map_err(told)?.into_inner();
        request = VerifyRequest { session: reply.behind_session, number: reply.behind_number, mend };
        reply.copies.into_iter().for_each(&mut each);
        if !reply.more {
            return Ok(());
        }
    }
}
