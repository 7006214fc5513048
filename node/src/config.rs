//! A node's configuration: from the command line or a file, refused where it cannot be right.

use crate::topology;
use baton_core::node::Topology;
use baton_core::types::{NODES_MAX, NodeId};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    pub id: NodeId,
    /// Where this node listens: `host:port`.
    pub listen: String,
    pub data: PathBuf,
    /// Every node of the cluster and how the others reach it, this one included.
    pub peers: BTreeMap<NodeId, String>,
    /// Regions and edges of the tree of nodes.
    pub topology: Topology,
    /// When this node leads: of whom nothing is heard for so long is away, and its copies are made elsewhere.
    pub away_after: Duration,
}

/// A machine that is restarted or moved is back before that.
pub const AWAY_AFTER: Duration = Duration::from_secs(600);
/// Sooner would be copying for what every second of trouble brings.
const AWAY_AFTER_MIN: Duration = Duration::from_secs(2);

/// As people say it: 0 for never.
pub fn away_after(seconds: u64) -> Duration {
    if seconds == 0 { Duration::MAX } else { Duration::from_secs(seconds) }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the configuration {path} is not right:\n{why}")]
    Parse { path: PathBuf, why: String },
    #[error("the tree of nodes is not right: {0}")]
    Topology(String),
    #[error("{what} {value:?} is not right: {why}")]
    Value { what: &'static str, value: String, why: String },
}

fn bad(what: &'static str, value: impl ToString, why: impl ToString) -> ConfigError {
    ConfigError::Value { what, value: value.to_string(), why: why.to_string() }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: u64,
    listen: String,
    data: PathBuf,
    peers: BTreeMap<String, String>,
    #[serde(default)]
    regions: BTreeMap<String, String>,
    #[serde(default)]
    tree: Vec<(u64, u64)>,
    away_after_seconds: Option<u64>,
}

impl NodeConfig {
    /// From a TOML file. What it does not know it refuses, with the line.
    pub fn read(path: &Path) -> Result<NodeConfig, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let parse = |why: String| ConfigError::Parse { path: path.to_owned(), why };
        let file: File = toml::from_str(&text).map_err(|e| parse(e.to_string()))?;
        let by_node = |table: &str, said: BTreeMap<String, String>| {
            let one = |(id, what): (String, String)| Ok((parse_id(&id)?, what));
            let all: Result<BTreeMap<NodeId, String>, ConfigError> = said.into_iter().map(one).collect();
            all.map_err(|e| parse(format!("[{table}]: {e}")))
        };
        let (peers, regions) = (by_node("peers", file.peers)?, by_node("regions", file.regions)?);
        let edges = file.tree.into_iter().map(|(a, b)| (NodeId(a), NodeId(b))).collect();
        let topology = Topology { edges, regions };
        let away_after = file.away_after_seconds.map_or(AWAY_AFTER, away_after);
        NodeConfig { id: NodeId(file.id), listen: file.listen, data: file.data, peers, topology, away_after }.checked()
    }

    /// From the command line: `1=host:port,2=host:port,3=host:port`.
    pub fn parse_peers(text: &str) -> Result<BTreeMap<NodeId, String>, ConfigError> {
        let mut peers = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((id, address)) = part.split_once('=') else {
                return Err(bad("--peers", part, "expected ID=HOST:PORT, as in 1=10.0.0.1:7400"));
            };
            if peers.insert(parse_id(id)?, address.to_owned()).is_some() {
                return Err(bad("--peers", text, format!("node {id} is named twice")));
            }
        }
        Ok(peers)
    }

    pub fn checked(self) -> Result<NodeConfig, ConfigError> {
        if self.id.0 == 0 {
            return Err(bad("id", self.id, "nodes count from 1"));
        }
        if !self.peers.contains_key(&self.id) {
            let known: Vec<String> = self.peers.keys().map(ToString::to_string).collect();
            let why = format!("the list of peers names every node, this one too; it has {}", known.join(", "));
            return Err(bad("id", self.id, why));
        }
        if self.peers.len() > NODES_MAX {
            return Err(bad("peers", self.peers.len(), format!("a cluster has at most {NODES_MAX} nodes")));
        }
        if self.away_after < AWAY_AFTER_MIN {
            let least = format!("at least {} seconds, or 0 for never", AWAY_AFTER_MIN.as_secs());
            return Err(bad("away_after_seconds", self.away_after.as_secs(), least));
        }
        check_address("listen", &self.listen)?;
        let mut seen = BTreeMap::new();
        for (id, address) in &self.peers {
            check_address("the address of a peer", address)?;
            if let Some(other) = seen.insert(address, id) {
                return Err(bad("the address of a peer", address, format!("nodes {other} and {id} both have it")));
            }
        }
        topology::check(&self.topology, &self.peers).map_err(ConfigError::Topology)?;
        Ok(self)
    }
}

fn parse_id(text: &str) -> Result<NodeId, ConfigError> {
    match text.trim().parse() {
        Ok(0) => Err(bad("node id", text, "nodes count from 1")),
        Ok(id) => Ok(NodeId(id)),
        Err(_) => Err(bad("node id", text, "expected a number")),
    }
}

/// `host:port`, without looking the host up: it may not have a name yet.
pub fn check_address(what: &'static str, address: &str) -> Result<(), ConfigError> {
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(()),
        _ => Err(bad(what, address, "expected HOST:PORT, as in 10.0.0.1:7400")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<NodeConfig, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        NodeConfig::read(file.path()).map_err(|e| e.to_string())
    }

    const GOOD: &str = "id = 2\nlisten = \"0.0.0.0:7400\"\ndata = \"/d\"\n[peers]\n1 = \"a:1\"\n2 = \"b:1\"\n";

    #[test]
    fn a_file_is_read() {
        let config = read(GOOD).unwrap();
        assert_eq!((config.id, config.peers.len()), (NodeId(2), 2));
        let tree = "id = 2\ntree = [[1, 2]]\n";
        let config = read(&(GOOD.replace("id = 2\n", tree) + "[regions]\n1 = \"us\"\n")).unwrap();
        assert_eq!((config.topology.edges.len(), config.topology.regions.len()), (1, 1));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let error = read(&GOOD.replace("data =", "datta =")).unwrap_err();
        assert!(error.contains("datta") && error.contains("line 3"), "{error}");
    }

    #[test]
    fn impossible_values_are_refused() {
        for (from, to, says) in [
            ("id = 2", "id = 0", "count from 1"),
            ("id = 2", "id = 7", "names every node"),
            ("id = 2", "id = \"x\"", "line 1"),
            ("0.0.0.0:7400", "nowhere", "HOST:PORT"),
            ("0.0.0.0:7400", "host:99999", "HOST:PORT"),
            ("id = 2", "id = 2\naway_after_seconds = 1", "at least 2 seconds"),
            ("b:1", "a:1", "both have it"),
            ("2 = \"b:1\"", "two = \"b:1\"", "expected a number"),
            ("id = 2", "id = 2\ntree = [[1, 3]]", "node 3 is not one"),
            ("id = 2", "id = 2\ntree = [[1, 2], [2, 1]]", "closes a circle"),
            ("[peers]", "[regions]\n3 = \"eu\"\n[peers]", "node 3, whose region"),
        ] {
            let error = read(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.contains(says), "{to}: {error}");
        }
    }

    #[test]
    fn peers_come_from_the_command_line() {
        assert_eq!(NodeConfig::parse_peers("1=a:1, 2=b:2").unwrap().len(), 2);
        assert!(NodeConfig::parse_peers("1=a:1,1=b:2").is_err());
        assert!(NodeConfig::parse_peers("a:1").is_err());
    }
}
