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
            let checked = admin.check(CheckRequest { hash: false }).await.map_err(told)?;
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
    let mut found = states(&nodes).await;
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

/// Every node's state by itself, and whether they are the same.
async fn states(nodes: &[(u64, String)]) -> Found {
    const TRIES: usize = 10;
    let mut problems = Vec::new();
    for attempt in 1..=TRIES {
        problems.clear();
        let mut states: Vec<(u64, CheckReply)> = Vec::new();
        for (node, address) in nodes {
            match check(address).await {
                Ok(reply) => states.push((*node, reply)),
                Err(why) => problems.push(format!("node {node} at {address} cannot be looked at: {why}")),
            }
        }
        problems
            .extend(states.iter().flat_map(|(node, s)| s.problems.iter().map(move |p| format!("node {node}: {p}"))));
        let Some((first, like)) = states.first().cloned() else { break };
        let quiet = states.iter().all(|(_, state)| state.applied.is_some() && state.applied == like.applied);
        if quiet || attempt == TRIES {
            if !quiet {
                problems
                    .push("the nodes' states were not compared: they change too fast. Try when less is written".into());
            }
            let others = states.iter().filter(|(_, state)| quiet && state.hash != like.hash);
            problems.extend(others.map(|(node, _)| format!("the states of nodes {first} and {node} differ")));
            return Found { problems, ..Found::of(like) };
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Found { problems, ..Found::default() }
}

async fn check(address: &str) -> Result<CheckReply, Failure> {
    let mut admin = admin(&[address.to_owned()]).await?;
    admin.check(CheckRequest { hash: true }).await.map(tonic::Response::into_inner).map_err(told)
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
