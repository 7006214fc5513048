use super::bulk_runtime;
use crate::failure::Failure;
use crate::metrics::{self, Page};
use crate::signals;
use baton_core::node::Topology;
use baton_core::types::NodeId;
use baton_node::{Links, NodeConfig};
use clap::Args;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Run one node of a cluster, in the foreground
///
/// Start the same line on every machine of the cluster, each with its own --id. The first start of all of them forms the
/// cluster; nothing else is needed. Up to three nodes all vote; of more, three or five do.
#[derive(Args)]
#[command(
    after_help = "The configuration file is TOML:\n\n    id = 1\n    listen = \"0.0.0.0:7400\"\n    data = \"/var/lib/baton\"\n\n    [peers]\n    1 = \"10.0.0.1:7400\"\n    2 = \"10.0.0.2:7400\"\n    3 = \"10.0.0.3:7400\""
)]
pub(crate) struct Node {
    /// This node's number, from 1
    #[arg(long, value_name = "N", required_unless_present = "config")]
    id: Option<u64>,
    /// Where to listen, as HOST:PORT
    #[arg(long, value_name = "ADDR", required_unless_present = "config")]
    listen: Option<String>,
    /// The folder for everything this node keeps
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    data: Option<PathBuf>,
    /// Every node of the cluster, this one too: 1=HOST:PORT,2=HOST:PORT,3=HOST:PORT
    #[arg(long, value_name = "1=ADDR,...", required_unless_present = "config")]
    peers: Option<String>,
    /// Read all of that from a TOML file instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["id", "listen", "data", "peers"])]
    config: Option<PathBuf>,
    /// Serve figures for Prometheus here, under /metrics; `none`: nowhere [default: 127.0.0.1:7401, if it is free]
    #[arg(long, value_name = "ADDR")]
    metrics: Option<String>,
}

impl Node {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let place = self.metrics.clone();
        let config = self.config()?;
        let bulk = bulk_runtime()?;
        let node = baton_node::start(&config, Links::Grpc, bulk.handle().clone())?;
        println!("node {} listens on {}", config.id, node.address());
        let (handle, on) = (node.handle().clone(), bulk.handle().clone());
        let page = move || {
            let mut page = Page::default();
            metrics::of_node(&mut page, &handle, &on);
            page.text()
        };
        if let Some(at) = metrics::serve(place.as_deref(), page)? {
            println!("metrics at http://{at}/metrics");
        }
        let (tell, told) = channel();
        signals::watch(tell, ())?;
        loop {
            match told.recv_timeout(Duration::from_millis(200)) {
                Ok(()) => return Ok(node.stop()?),
                Err(RecvTimeoutError::Timeout) if node.handle().is_running() => {}
                Err(_) => return Ok(node.join()?),
            }
        }
    }

    fn config(self) -> Result<NodeConfig, Failure> {
        if let Some(file) = self.config {
            return Ok(NodeConfig::read(&file)?);
        }
        let given = |what: &str| Failure::Usage(format!("--{what} is missing"));
        let config = NodeConfig {
            id: NodeId(self.id.ok_or_else(|| given("id"))?),
            listen: self.listen.ok_or_else(|| given("listen"))?,
            data: self.data.ok_or_else(|| given("data"))?,
            peers: NodeConfig::parse_peers(&self.peers.ok_or_else(|| given("peers"))?)?,
            topology: Topology::default(),
        };
        Ok(config.checked()?)
    }
}
