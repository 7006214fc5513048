use super::bulk_runtime;
use super::mount::fuse_threads;
use crate::failure::Failure;
use crate::local_link::LocalLink;
use crate::metrics::{self, Page};
use crate::say::{complain, say};
use crate::{names, signals};
use baton_core::mount::Patience;
use baton_core::node::Topology;
use baton_core::types::NodeId;
use baton_fs_mount::fuse::{self, MountOptions, Mounted};
use baton_fs_mount::{Calls, Client, ClientOptions};
use baton_node::config::AWAY_AFTER;
use baton_node::{Links, LocalNet, Node, NodeConfig, NodeHandle};
use clap::Args;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// How long a cluster in one process may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Run a whole cluster on this machine and mount it
///
/// All nodes run in this process and keep their data under one folder; the same tree is mounted at every MOUNTPOINT. Ctrl-C
/// or SIGTERM unmounts and ends; started again, everything is there.
#[derive(Args)]
pub(crate) struct Up {
    /// Empty directories; made if they do not exist
    #[arg(required = true)]
    mountpoint: Vec<PathBuf>,
    /// How many nodes: each keeps its own copy of everything (up to three copies)
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: u64,
    /// Where their data is kept [default: baton in the user's data folder, ~/.local/share/baton]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Serve figures for Prometheus here, under /metrics; `none`: nowhere [default: 127.0.0.1:7401, if it is free]
    #[arg(long, value_name = "ADDR")]
    metrics: Option<String>,
}

struct Mount {
    mounted: Arc<Mounted>,
    client: Arc<Client>,
    _link: Arc<LocalLink>,
}

impl Up {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let data = match self.data.or_else(names::data_folder) {
            Some(data) => data,
            None => return Err(Failure::Usage("there is no HOME to keep data in: name a folder with --data".into())),
        };
        let nodes = nodes_in(&data, self.nodes)?;
        let bulk = bulk_runtime()?;
        let cluster = start_nodes(&data, nodes, &bulk)?;
        let handles: Vec<NodeHandle> = cluster.iter().map(|node| node.handle().clone()).collect();
        let mut mounts = Vec::new();
        for mountpoint in &self.mountpoint {
            mounts.push(mount(mountpoint, &handles, &bulk)?);
        }
        for mount in &mounts {
            if !mount.client.wait_ready(PATIENCE) {
                return Err(Failure::Unreachable(format!("the cluster did not answer for {} s", PATIENCE.as_secs())));
            }
        }
        for node in &cluster {
            say!("node {} listens on {}", node.handle().id(), node.address());
        }
        if let Some(at) = metrics::serve(self.metrics.as_deref(), page(&handles, &mounts, bulk.handle().clone()))? {
            say!("metrics at http://{at}/metrics");
        }
        say!("ready");
        let outcome = wait(&mounts, &cluster);
        for mount in &mounts {
            if let Err(error) = mount.mounted.unmount() {
                complain!("{error}; programs that still have files open there will get errors");
                mount.mounted.detach()?;
            }
            mount.client.say_goodbye();
        }
        drop(mounts);
        for node in &cluster {
            node.ask_to_stop();
        }
        for node in cluster {
            node.join()?;
        }
        outcome
    }
}

/// The figures of all nodes and mounts.
fn page(nodes: &[NodeHandle], mounts: &[Mount], on: tokio::runtime::Handle) -> impl Fn() -> String + Send + use<> {
    let nodes = nodes.to_vec();
    let mounts: Vec<_> =
        mounts.iter().map(|m| (m.mounted.path().display().to_string(), Arc::downgrade(&m.client))).collect();
    move || {
        let mut page = Page::default();
        for node in &nodes {
            metrics::of_node(&mut page, node, &on);
        }
        for (at, client) in &mounts {
            if let Some(client) = client.upgrade() {
                let (figures, stats) = client.figures();
                page.mount(at, &figures, &stats);
            }
        }
        page.text()
    }
}

/// Returns when it is time to end: a signal, all mounts gone, or a node that stopped by itself.
fn wait(mounts: &[Mount], cluster: &[Node]) -> Result<(), Failure> {
    let (tell, told) = channel();
    signals::watch(tell.clone(), None)?;
    for (at, mount) in mounts.iter().enumerate() {
        let (watched, tell) = (mount.mounted.clone(), tell.clone());
        std::thread::spawn(move || {
            let _ended = watched.join();
            let _gone = tell.send(Some(at));
        });
    }
    let mut gone = 0;
    let mut stopped: Vec<NodeId> = Vec::new();
    loop {
        match told.recv_timeout(Duration::from_millis(500)) {
            Ok(None) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Ok(Some(_)) => {
                gone += 1;
                if gone == mounts.len() {
                    return Ok(());
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                for node in cluster.iter().map(Node::handle) {
                    if !node.is_running() && !stopped.contains(&node.id()) {
                        stopped.push(node.id());
                        complain!("node {} stopped by itself; the others go on", node.id());
                    }
                }
            }
        }
    }
}

/// The nodes that the folder was made for, or as many as asked for.
fn nodes_in(data: &Path, asked: u64) -> Result<u64, Failure> {
    let found = (1..).take_while(|n| data.join(format!("node-{n}")).exists()).count() as u64;
    if found != 0 && found != asked {
        let data = data.display();
        return Err(Failure::Usage(format!(
            "{data} holds a cluster of {found} nodes, not {asked}: start it with --nodes {found}, or name another folder with --data"
        )));
    }
    Ok(asked)
}

fn start_nodes(data: &Path, nodes: u64, bulk: &tokio::runtime::Runtime) -> Result<Vec<Node>, Failure> {
    std::fs::create_dir_all(data).map_err(Failure::io(format!("make the data folder {}", data.display())))?;
    let listeners = free_ports(nodes)?;
    let mut peers = BTreeMap::new();
    for (id, listener) in &listeners {
        let address = listener.local_addr().map_err(Failure::io("find a free port on 127.0.0.1"))?;
        peers.insert(*id, address.to_string());
    }
    let net = LocalNet::default();
    let mut cluster = Vec::new();
    for (id, listener) in listeners {
        let listen = peers.get(&id).cloned().unwrap_or_default();
        let config = NodeConfig {
            id,
            listen,
            data: data.join(format!("node-{id}")),
            peers: peers.clone(),
            topology: Topology::default(),
            away_after: AWAY_AFTER,
        };
        cluster.push(baton_node::start_on(listener, &config, Links::Local(net.clone()), bulk.handle().clone())?);
    }
    Ok(cluster)
}

/// A port on this machine for each node, for `baton status` and mounts of other processes: the usual ones where they are
/// free. They stay taken, so that a cluster that starts at the same time finds others.
fn free_ports(nodes: u64) -> Result<Vec<(NodeId, TcpListener)>, Failure> {
    (1..=nodes)
        .map(|id| {
            let usual = format!("127.0.0.1:{}", 7400 + 10 * (id - 1));
            let listener = TcpListener::bind(&usual).or_else(|_| TcpListener::bind("127.0.0.1:0"));
            Ok((NodeId(id), listener.map_err(Failure::io("find a free port on 127.0.0.1"))?))
        })
        .collect()
}

fn mount(mountpoint: &Path, nodes: &[NodeHandle], bulk: &tokio::runtime::Runtime) -> Result<Mount, Failure> {
    if !mountpoint.exists() {
        std::fs::create_dir_all(mountpoint)
            .map_err(Failure::io(format!("make the mount point {}", mountpoint.display())))?;
    }
    let client = Client::new(ClientOptions { client: names::client(mountpoint), patience: Patience::default() });
    let link = LocalLink::start(&client, nodes.to_vec(), bulk.handle().clone());
    let calls = Arc::new(Calls(client.clone()));
    let mounted = fuse::mount(calls, mountpoint, &MountOptions::default(), fuse_threads())?;
    Ok(Mount { mounted: Arc::new(mounted), client, _link: link })
}
