use super::{admin, runtime, told};
use crate::failure::Failure;
use crate::names;
use baton_proto::v1::CheckRequest;
use clap::Args;
use serde_json::json;

/// Walk over the whole state and say what does not fit together
///
/// Checks link counts, orphans, listings, extents and slices on the node that answers. It changes nothing.
#[derive(Args)]
pub(crate) struct Fsck {
    /// Nodes of the cluster: HOST:PORT[,HOST:PORT...]; the first that answers is checked
    #[arg(value_name = "ADDR[,ADDR...]")]
    addresses: String,
    /// For programs
    #[arg(long)]
    json: bool,
}

impl Fsck {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let addresses = names::addresses(&self.addresses)?;
        let found = runtime()?.block_on(async {
            let mut admin = admin(&addresses).await?;
            let checked = admin.check(CheckRequest {}).await;
            checked.map(tonic::Response::into_inner).map_err(told)
        })?;
        if self.json {
            let row = json!({
                "inodes": found.inodes, "extents": found.extents, "slices": found.slices,
                "slice_bytes": found.slice_bytes, "problems": found.problems,
            });
            println!("{row}");
        } else {
            println!("{} inodes, {} extents, {} slices", found.inodes, found.extents, found.slices);
            for problem in &found.problems {
                println!("{problem}");
            }
        }
        match found.problems.len() {
            0 => Ok(()),
            n => Err(Failure::Unhealthy(format!("{n} problems were found"))),
        }
    }
}
