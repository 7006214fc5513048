use super::{bulk_runtime, member};
use crate::failure::Failure;
use crate::metrics::{self, Page};
use crate::say::say;
use crate::{names, signals};
use baton_core::node::Topology;
use baton_core::types::NodeId;
use baton_node::config::{AWAY_AFTER, away_after, check_address};
use baton_node::{IpList, Links, NodeConfig, topology};
use clap::Args;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Run one node of a cluster, in the foreground
///
/// Start the same line on every machine of the cluster, each with its own --id. The first start of all of them forms the
/// cluster; nothing else is needed. Up to three nodes all vote; of more, three or five do. A node more joins a running cluster
/// with --join.
#[derive(Args)]
#[command(
    after_help = "The configuration file is TOML:\n\n    id = 1\n    listen = \"0.0.0.0:7400\"\n    data = \"/var/lib/baton\"\n\n    [peers]\n    1 = \"10.0.0.1:7400\"\n    2 = \"10.0.0.2:7400\"\n    3 = \"10.0.0.3:7400\"\n\nWhere the nodes are in several regions, it also says which is where; and instead of the tree that follows from that,\nedges can be given (before the tables):\n\n    tree = [[1, 2], [1, 3]]\n\n    [regions]\n    1 = \"us-west\"\n    2 = \"us-west\"\n    3 = \"ireland\"\n\nThe same as plain files: --iplist has lines of NODE ADDRESS PORT [REGION], --tree lines of NODE and its neighbours."
)]
pub(crate) struct Node {
    /// This node's number, from 1
    #[arg(long, value_name = "N", required_unless_present_any = ["config", "join"])]
    id: Option<u64>,
    /// Where to listen, as HOST:PORT [with --iplist: every address of this machine, at the port named there]
    #[arg(long, value_name = "ADDR", required_unless_present_any = ["config", "iplist"])]
    listen: Option<String>,
    /// The folder for everything this node keeps
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    data: Option<PathBuf>,
    /// Every node of the cluster, this one too: 1=HOST:PORT,2=HOST:PORT,3=HOST:PORT
    #[arg(long, value_name = "1=ADDR,...", required_unless_present_any = ["config", "iplist", "join"])]
    peers: Option<String>,
    /// Nodes of a running cluster that takes this one in: HOST:PORT[,HOST:PORT...]. Its number comes from there. Where the
    /// data folder already belongs to a node of that cluster, this says nothing new
    #[arg(long, value_name = "ADDR[,ADDR...]", conflicts_with_all = ["id", "peers", "iplist", "config"])]
    join: Option<String>,
    /// With --join: where the others reach this node [default: as with --listen]
    #[arg(long, value_name = "ADDR", requires = "join")]
    advertise: Option<String>,
    /// Every node's region, if there are several: 1=us-west,2=us-west,3=ireland
    #[arg(long, value_name = "1=NAME,...")]
    regions: Option<String>,
    /// A file with a line for each node of the cluster: NODE ADDRESS PORT [REGION]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["peers", "regions"])]
    iplist: Option<PathBuf>,
    /// A file with the edges of the tree along which tokens travel: on each line a node and its neighbours
    #[arg(long, value_name = "FILE")]
    tree: Option<PathBuf>,
    /// Of whom nothing is heard for so long is away: what it keeps is copied to others; 0: never [default: 600]. The same for all nodes
    #[arg(long, value_name = "SECONDS")]
    away_after: Option<u64>,
    /// Read all of that from a TOML file instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["id", "listen", "data", "peers", "regions", "iplist", "tree", "away_after"])]
    config: Option<PathBuf>,
    /// Serve figures for Prometheus here, under /metrics; `none`: nowhere [default: 127.0.0.1:7401, if it is free]
    #[arg(long, value_name = "ADDR")]
    metrics: Option<String>,
}

impl Node {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let place = self.metrics.clone();
        let (config, listener) = match self.join.clone() {
            Some(join) => self.joined(&names::addresses(&join)?)?,
            None => {
                let config = self.config()?;
                let listener = baton_node::listen(&config.listen)?;
                (config, listener)
            }
        };
        let bulk = bulk_runtime()?;
        let node = baton_node::start_on(listener, &config, Links::Grpc, bulk.handle().clone())?;
        say!("node {} listens on {}", config.id, node.address());
        let (handle, on) = (node.handle().clone(), bulk.handle().clone());
        let page = move || {
            let mut page = Page::default();
            metrics::of_node(&mut page, &handle, &on);
            page.text()
        };
        if let Some(at) = metrics::serve(place.as_deref(), page)? {
            say!("metrics at http://{at}/metrics");
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

    /// As the node that its folder says it is, or as the one that the cluster makes of it. Whatever would keep it from starting is
    /// found out before: a node that the cluster has taken in and that never comes must be removed by hand.
    fn joined(&self, cluster: &[String]) -> Result<(NodeConfig, TcpListener), Failure> {
        let listen = self.listen.clone().ok_or_else(|| given("listen"))?;
        let data = self.data.clone().ok_or_else(|| given("data"))?;
        let edges = self.tree.as_deref().map(|file| plain(file, topology::parse_tree)).transpose()?.unwrap_or_default();
        check_address("--listen", &listen)?;
        let known = baton_node::whose(&data)?;
        let listener = baton_node::listen(&listen)?;
        let (id, members) = match known {
            Some(known) => known,
            None => {
                let address = self.advertise.clone().unwrap_or_else(|| listen.clone());
                if ["0.0.0.0:", "[::]:"].iter().any(|everywhere| address.starts_with(everywhere)) {
                    let why =
                        "--advertise HOST:PORT must say where the others reach this node: it listens on every address";
                    return Err(Failure::Usage(why.into()));
                }
                check_address("--advertise", &address)?;
                let folder = baton_node::claim(&data)?;
                let (id, members) = member::join(cluster, &address)?;
                baton_node::prepare(folder, id, &members)?;
                say!("the cluster took this node in as node {id}");
                (id, members)
            }
        };
        let peers = members.nodes.into_iter().map(|(id, member)| (id, member.address)).collect();
        let topology = Topology { edges, ..Topology::default() };
        let config = NodeConfig { id, listen, data, peers, topology, away_after: self.away_after() };
        Ok((config.checked()?, listener))
    }

    fn config(self) -> Result<NodeConfig, Failure> {
        if let Some(file) = self.config {
            return Ok(NodeConfig::read(&file)?);
        }
        let away_after = self.away_after();
        let id = NodeId(self.id.ok_or_else(|| given("id"))?);
        let (peers, regions) = match &self.iplist {
            Some(file) => {
                let list = plain(file, IpList::parse)?;
                (list.peers, list.regions)
            }
            None => {
                let regions = self.regions.as_deref().map(topology::parse_regions).transpose();
                let peers = NodeConfig::parse_peers(&self.peers.ok_or_else(|| given("peers"))?)?;
                (peers, regions.map_err(|why| Failure::Usage(format!("--regions: {why}")))?.unwrap_or_default())
            }
        };
        let edges = self.tree.as_deref().map(|file| plain(file, topology::parse_tree)).transpose()?.unwrap_or_default();
        let everywhere =
            || peers.get(&id).and_then(|own| own.rsplit_once(':')).map(|(_, port)| format!("0.0.0.0:{port}"));
        let listen = self.listen.or_else(everywhere).ok_or_else(|| given("listen"))?;
        let data = self.data.ok_or_else(|| given("data"))?;
        Ok(NodeConfig { id, listen, data, peers, topology: Topology { edges, regions }, away_after }.checked()?)
    }

    fn away_after(&self) -> Duration {
        self.away_after.map_or(AWAY_AFTER, away_after)
    }
}

fn given(what: &str) -> Failure {
    Failure::Usage(format!("--{what} is missing"))
}

/// Reads one of the plain files.
fn plain<T>(file: &Path, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Failure> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(Failure::io(format!("read {name}")))?;
    parse(&text).map_err(|why| Failure::Usage(format!("{name}: {why}")))
}
