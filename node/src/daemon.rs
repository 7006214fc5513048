//! Starts a node: opens what is on its disk, and sets its one thread going.

use crate::Clock;
use crate::config::NodeConfig;
use crate::disk::{Disk, STATE_CACHE_BYTES, StateSlot};
use crate::handle::{Event, NodeHandle};
use crate::own_disk::OwnDisk;
use crate::peers::Peers;
use crate::peers::grpc::{GrpcPeers, Identity};
use crate::peers::local::{LocalNet, LocalNode, LocalPeers};
use crate::repair::Repair;
use crate::room::Room;
use crate::runner::{Runner, Stopped};
use crate::service::{About, AdminService, MountService, PeersService, Services, SlicesService};
use crate::slices::Slices;
use crate::storage::{ClaimedFolder, DataFolder, FolderError, RaftLog, SliceError, SliceStore, State, StorageError};
use baton_core::node::{Config, Fit, MergeRule, NodeMachine, Recovered, Unfit, all_spoken, listed, spoken_in_force};
use baton_core::types::{ClusterId, Members, NodeId, Owner};
use baton_proto::SPEAKS;

use rustix::process::{getegid, geteuid};
use std::collections::{BTreeMap, hash_map::RandomState};
use std::hash::{BuildHasher, Hasher};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Slices(#[from] SliceError),
    #[error("cannot listen on {address}: {source}{}", hint(.source))]
    Listen { address: String, source: std::io::Error },
    #[error("the state on the disk does not fit together: {0}. Move the data folder away and start with an empty one")]
    State(String),
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error("the node's thread ended in a panic; its message stands above")]
    Panicked,
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            ". Another process listens there: stop it, or choose another port with --listen"
        }
        std::io::ErrorKind::AddrNotAvailable => ". That is no address of this machine",
        std::io::ErrorKind::PermissionDenied => ". Ports below 1024 need root",
        _ => "",
    }
}

/// How a node reaches its peers.
#[derive(Clone)]
pub enum Links {
    Grpc,
    /// All nodes are in this process.
    Local(LocalNet),
}

/// A running node; it stops when it is told to, or when this is dropped.
pub struct Node {
    handle: NodeHandle,
    address: SocketAddr,
    asked_to_stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), NodeError>>>,
}

impl Node {
    pub fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    /// Where it really listens: of use where the port was 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it has stopped by itself or been told to.
    pub fn join(mut self) -> Result<(), NodeError> {
        self.wait()
    }

    /// Stops it in good order: what is in memory is brought to the disk.
    pub fn stop(mut self) -> Result<(), NodeError> {
        self.ask_to_stop();
        self.wait()
    }

    pub fn ask_to_stop(&self) {
        self.asked_to_stop.store(true, Ordering::SeqCst);
        self.handle.tell(Event::Stop);
    }

    fn wait(&mut self) -> Result<(), NodeError> {
        self.thread.take().map_or(Ok(()), |thread| thread.join().unwrap_or(Err(NodeError::Panicked)))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.ask_to_stop();
        if let Err(error) = self.wait() {
            tracing::error!("{error}");
        }
    }
}

/// The node whose data folder this is, and the cluster's nodes as it knows them; `None` where it is nobody's yet.
pub fn whose(data: &Path) -> Result<Option<(NodeId, Members)>, NodeError> {
    Ok(DataFolder::whose(data)?)
}

/// Takes an empty folder for a node that is to ask a running cluster for its number.
pub fn claim(data: &Path) -> Result<ClaimedFolder, NodeError> {
    Ok(ClaimedFolder::claim(data)?)
}

/// Makes it the data folder of the node that the cluster has taken in.
pub fn prepare(folder: ClaimedFolder, id: NodeId, members: &Members) -> Result<(), NodeError> {
    Ok(folder.of(id)?.set_members(members)?)
}

/// What was on the disk, opened.
struct Opened {
    folder: DataFolder,
    log: RaftLog,
    recovered: crate::storage::Recovered,
    state: State,
    slices: SliceStore,
}

/// Takes the port that a node is to listen on.
pub fn listen(address: &str) -> Result<TcpListener, NodeError> {
    TcpListener::bind(address).map_err(|source| NodeError::Listen { address: address.to_owned(), source })
}

/// Starts a node that listens where the caller does already: so nobody else can take a port that was found to be free. `bulk` is
/// where slices are handled: a runtime with threads of its own.
pub fn start_on(
    listener: TcpListener,
    config: &NodeConfig,
    links: Links,
    bulk: tokio::runtime::Handle,
) -> Result<Node, NodeError> {
    let listen = |source| NodeError::Listen { address: config.listen.clone(), source };
    listener.set_nonblocking(true).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let opened = open(config)?;
    let (tell_ready, ready) = std::sync::mpsc::channel();
    let asked_to_stop = Arc::new(AtomicBool::new(false));
    let (config, asked) = (config.clone(), asked_to_stop.clone());
    let thread = std::thread::Builder::new()
        .name(format!("baton-node-{}", config.id))
        .spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(NodeError::Thread)?;
            runtime.block_on(async move {
                let assembled = assemble(&config, opened, links, bulk, asked)?;
                serve(assembled, listener, &config, &tell_ready).await
            })
        })
        .map_err(NodeError::Thread)?;
    match ready.recv() {
        Ok(handle) => Ok(Node { handle, address, asked_to_stop, thread: Some(thread) }),
        Err(_) => Err(thread.join().unwrap_or(Err(NodeError::Panicked)).err().unwrap_or(NodeError::Panicked)),
    }
}

/// Opens the data folder. What another build wrote is left as it is. A damaged log or state is moved aside where there are other
/// nodes to rebuild it from: this node then is one that lost its disk, and does not vote until it has caught up.
fn open(config: &NodeConfig) -> Result<Opened, NodeError> {
    let mut folder = DataFolder::open(&config.data, config.id)?;
    if folder.wants_rebuild() && has_others(&folder, config)? {
        let aside = folder.set_aside()?;
        tracing::error!("the state was found damaged: it was moved to {} and is fetched anew", aside.display());
    }
    let (log, recovered, state) = match open_log_and_state(&folder) {
        Err(error) if error.is_damage() && has_others(&folder, config)? => {
            let aside = folder.set_aside()?;
            tracing::error!("{error}");
            tracing::error!("it was moved to {}; this node fetches everything from the others", aside.display());
            open_log_and_state(&folder)?
        }
        opened => opened?,
    };
    let (log, recovered, state) = settle(&mut folder, config, log, recovered, state)?;
    let (slices, report) = SliceStore::open(&folder.slices())?;
    for damaged in &report.damaged {
        tracing::error!("damaged slices were found: {damaged:?}; they are fetched again from other nodes");
    }
    if !report.cut.is_empty() {
        let slices = &report.cut;
        tracing::warn!(
            ?slices,
            "slices that were torn by a crash, or damaged, were dropped; files that have them get them again"
        );
    }
    Ok(Opened { folder, log, recovered, state, slices })
}

/// Whether there are other nodes to get everything from: as the cluster decided, not as this node was told once.
fn has_others(folder: &DataFolder, config: &NodeConfig) -> Result<bool, NodeError> {
    Ok(folder.members()?.map_or(config.peers.len(), |members| members.nodes.len()) > 1)
}

fn open_log_and_state(folder: &DataFolder) -> Result<(RaftLog, crate::storage::Recovered, State), StorageError> {
    let unspoken = |path| move |why| StorageError::Unspoken { path, why };
    let (log, recovered) = RaftLog::open(&folder.log())?;
    // Before the state is opened: that writes to it. What is too old to be carried out counts where it is not in the state.
    all_spoken(&recovered.entries, u64::MAX, SPEAKS).map_err(unspoken(folder.log()))?;
    let state = State::open(&folder.state(), STATE_CACHE_BYTES)?;
    // What cannot be read is found out by the machine.
    if let Err(Unfit::Unspoken(why)) = spoken_in_force(&state, SPEAKS) {
        return Err(unspoken(folder.state())(why));
    }
    if let Some(error) = state.of_another_build() {
        return Err(error);
    }
    all_spoken(&recovered.entries, state.applied().index, SPEAKS).map_err(unspoken(folder.log()))?;
    Ok((log, recovered, state))
}

/// Makes sure that the log and the state go together.
fn settle(
    folder: &mut DataFolder,
    config: &NodeConfig,
    log: RaftLog,
    mut recovered: crate::storage::Recovered,
    state: State,
) -> Result<(RaftLog, crate::storage::Recovered, State), NodeError> {
    let found = Recovered {
        member: folder.is_member(),
        hard_state: recovered.hard_state.clone(),
        start: (recovered.base.index, recovered.base.term),
        entries: recovered.entries.clone(),
        base: Arc::new(baton_core::meta::Memory::default()),
        stored: (state.applied().index, state.applied().term),
        imported_over: state.imported_over(),
    };
    match found.fit() {
        Fit::Good => Ok((log, recovered, state)),
        Fit::Reset { why, votes_on } => {
            if votes_on || !has_others(folder, config)? {
                tracing::info!("{why}: the log goes on behind the state");
            } else {
                tracing::warn!(
                    "{why}: the log goes on behind the state, and this node votes again when it has caught up"
                );
                folder.unset_member()?;
            }
            recovered.base = state.applied();
            recovered.entries.clear();
            recovered.hard_state.commit = recovered.base.index;
            let reset = crate::storage::LogWrite {
                hard_state: Some(recovered.hard_state.clone()),
                reset_to: Some(recovered.base),
                ..Default::default()
            };
            log.append(&reset, true)?;
            Ok((log, recovered, state))
        }
        Fit::Damaged(why) if has_others(folder, config)? => {
            drop((log, state));
            let aside = folder.set_aside()?;
            tracing::error!(
                "the log and the state contradict each other ({why}): both were moved to {}",
                aside.display()
            );
            Ok(open_log_and_state(folder)?)
        }
        Fit::Damaged(why) => Err(NodeError::State(why)),
    }
}

struct Assembled {
    runner: Runner,
    handle: NodeHandle,
    identity: Identity,
    peers: Arc<dyn Peers>,
    state: Arc<StateSlot>,
    net: Option<LocalNet>,
}

/// The nodes of the cluster, if this node was ever in it: as it wrote them down; where that is damaged, as its state has them.
fn members_known(folder: &DataFolder, state: &State) -> Result<Option<Members>, NodeError> {
    let error = match folder.members() {
        Err(error) if error.is_damage() => error,
        known => return Ok(known?),
    };
    let Ok(Some(members)) = listed(state) else { return Err(error.into()) };
    tracing::warn!("{error}");
    tracing::warn!(
        "the list of the cluster's nodes was taken from the state and written anew: node {}",
        named(&members)
    );
    folder.set_members(&members)?;
    Ok(Some(members))
}

fn named(members: &Members) -> String {
    let ids: Vec<String> = members.nodes.keys().map(ToString::to_string).collect();
    ids.join(", ")
}

/// Puts the parts together, on the node's own runtime.
fn assemble(
    config: &NodeConfig,
    opened: Opened,
    links: Links,
    bulk: tokio::runtime::Handle,
    asked_to_stop: Arc<AtomicBool>,
) -> Result<Assembled, NodeError> {
    let Opened { folder, log, recovered, state, slices } = opened;
    let clock = Clock::start();
    let (events, queued) = mpsc::unbounded_channel();
    // What the cluster decided counts more than what this node was told when it was set up.
    let known = members_known(&folder, &state)?;
    let is_founder = known.is_none();
    let members = known.unwrap_or_else(|| Members::founding(config.peers.clone()));
    let identity = Identity::new(config.id, members.clone(), folder.cluster());
    let stored = state.applied();
    let (state_path, room) = (folder.state(), Room::new(folder.path().to_owned()));
    let state = StateSlot::new(state);
    let store = Arc::new(slices);
    let own = Arc::new(OwnDisk::new(store.clone(), room.clone(), bulk.clone()));
    let (peers, net): (Arc<dyn Peers>, _) = match links {
        Links::Grpc => {
            (Arc::new(GrpcPeers::start(identity.clone(), &members, config.peers.clone(), &events, bulk.clone())), None)
        }
        Links::Local(net) => {
            let node = LocalNode { events: events.clone(), state: state.clone(), own: own.clone() };
            net.add(config.id, node);
            (Arc::new(LocalPeers { me: config.id, net: net.clone(), bulk: bulk.clone() }), Some(net))
        }
    };
    let machine = NodeMachine::new(
        Config {
            id: config.id,
            members: members.clone(),
            is_founder,
            seed: drawn(),
            cluster: ClusterId(drawn() | 1),
            topology: config.topology.clone(),
            merge: MergeRule::default(),
            away_after_us: u64::try_from(config.away_after.as_micros()).unwrap_or(u64::MAX),
            speaks: SPEAKS,
            founder: Owner { uid: geteuid().as_raw(), gid: getegid().as_raw() },
        },
        Recovered {
            member: folder.is_member(),
            hard_state: recovered.hard_state,
            start: (recovered.base.index, recovered.base.term),
            entries: recovered.entries,
            base: state.clone(),
            stored: (stored.index, stored.term),
            imported_over: None,
        },
        clock.now(),
    )
    .map_err(|unfit| match unfit {
        Unfit::Unspoken(unspoken) => NodeError::Stopped(Stopped::Unspoken(unspoken)),
        Unfit::Damaged(why) => NodeError::State(why),
    })?;
    let slices = Arc::new(Slices {
        me: config.id,
        members: RwLock::new(members.clone()),
        store,
        own,
        peers: peers.clone(),
        bulk,
        reader: machine.reader(),
        slow: Default::default(),
        found: Default::default(),
        spare: Default::default(),
    });
    let handle = NodeHandle {
        id: config.id,
        events: events.clone(),
        reader: machine.reader(),
        clock,
        slices: slices.clone(),
        conns: Arc::new(AtomicU64::new(1)),
    };
    let disk = Disk::start(log, state.clone(), state_path, room, events.clone());
    let runner = Runner {
        id: config.id,
        machine,
        events: queued,
        tell: events,
        disk,
        sends_at_once: net.is_some(),
        peers: peers.clone(),
        slices,
        conns: BTreeMap::new(),
        freezing: BTreeMap::new(),
        breaking: BTreeMap::new(),
        changing: BTreeMap::new(),
        clock,
        folder,
        identity: identity.clone(),
        asked_to_stop,
    };
    Ok(Assembled { runner, handle, identity, peers, state, net })
}

async fn serve(
    assembled: Assembled,
    listener: TcpListener,
    config: &NodeConfig,
    ready: &std::sync::mpsc::Sender<NodeHandle>,
) -> Result<(), NodeError> {
    let Assembled { runner, handle, identity, peers, state, net } = assembled;
    let listener = tokio::net::TcpListener::from_std(listener)
        .map_err(|source| NodeError::Listen { address: config.listen.clone(), source })?;
    let services = Services {
        mount: MountService { node: handle.clone() },
        peers: PeersService { identity, peers, events: handle.events.clone(), state },
        slices: SlicesService::new(handle.slices.clone()),
        admin: AdminService {
            node: handle.clone(),
            about: About {
                addresses: config.peers.clone(),
                regions: config.topology.regions.clone(),
                started: Instant::now(),
            },
        },
    };
    let (stop_serving, stopped) = oneshot::channel();
    tokio::spawn(services.serve(listener, stopped));
    let repair = Repair::new(handle.slices.clone(), handle.events.clone());
    // Not on this runtime: it reads the state and the disk at length.
    let (repairing, events) = (handle.slices.bulk.spawn(repair.run()), handle.events.clone());
    tokio::spawn(async move {
        if repairing.await.is_err_and(|ended| ended.is_panic()) {
            tracing::error!("what repairs slices panicked: the node ends, to be started again");
            let _stopped = events.send(Event::Stop);
        }
    });
    let _gone = ready.send(handle);
    let outcome = runner.run().await;
    let _stopped = stop_serving.send(());
    if let Some(net) = net {
        net.remove(config.id);
    }
    Ok(outcome?)
}

/// A number nobody else draws: the standard library's hashers are seeded by the system.
fn drawn() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AWAY_AFTER;
    use crate::storage::{LogWrite, Mark};
    use baton_core::meta::{Key, Value};
    use raft::eraftpb::{Entry, HardState};

    /// A folder whose state was taken from another node, of entry 9, when the log ended at entry 5; and a log of `entries`.
    fn folder(dir: &std::path::Path, entries: u64) -> NodeConfig {
        let address = |id| format!("127.0.0.1:{id}");
        let peers = (1..=3).map(|id| (NodeId(id), address(id))).collect();
        let (id, data) = (NodeId(1), dir.join("node"));
        let topology = Default::default();
        let config = NodeConfig { id, listen: address(1), data, peers, topology, away_after: AWAY_AFTER };
        let mut folder = DataFolder::open(&config.data, id).unwrap();
        folder.set_member().unwrap();
        let (log, _) = RaftLog::open(&folder.log()).unwrap();
        let hard_state = Some(HardState { term: 2, vote: 1, commit: 3, ..HardState::default() });
        let entries = (1..=entries).map(|index| Entry { index, term: 2, ..Entry::default() }).collect();
        log.append(&LogWrite { entries, hard_state, ..LogWrite::default() }, true).unwrap();
        let giver = State::open(&dir.join("giver"), STATE_CACHE_BYTES).unwrap();
        giver.apply(Mark { index: 9, term: 2 }, []).unwrap();
        State::import(&folder.state(), STATE_CACHE_BYTES, 5, giver.export()).unwrap();
        config
    }

    #[test]
    fn who_ended_between_a_snapshot_and_the_end_of_its_log_votes_if_nothing_else_is_missing() {
        for (entries, votes) in [(5, true), (4, false)] {
            let dir = tempfile::tempdir().unwrap();
            let config = folder(dir.path(), entries);
            for start in 0..2 {
                let opened = open(&config).unwrap();
                assert_eq!(opened.folder.is_member(), votes, "the log ended at {entries}, start {start}");
                assert_eq!((opened.recovered.base, opened.recovered.entries.len()), (Mark { index: 9, term: 2 }, 0));
                assert_eq!((opened.recovered.hard_state.term, opened.recovered.hard_state.vote), (2, 1));
            }
        }
    }

    #[test]
    fn a_damaged_list_of_nodes_is_taken_from_the_state() {
        let dir = tempfile::tempdir().unwrap();
        let config = folder(dir.path(), 5);
        let folder = DataFolder::open(&config.data, config.id).unwrap();
        let state = State::open(&folder.state(), STATE_CACHE_BYTES).unwrap();
        assert_eq!(members_known(&folder, &state).unwrap(), None, "it never had one");
        let two = Members::founding((1..=2).map(|id| (NodeId(id), format!("host:{id}"))));
        folder.set_members(&two).unwrap();
        let list = config.data.join("members.toml");
        std::fs::write(&list, std::fs::read_to_string(&list).unwrap().replace("host:2", "host:3")).unwrap();
        assert!(members_known(&folder, &state).is_err(), "the state has none");
        let in_state = Some(Value::Members(two.clone()));
        state.apply(Mark { index: 10, term: 2 }, [(Key::Members, in_state)]).unwrap();
        std::fs::write(&list, "no").unwrap();
        assert_eq!(members_known(&folder, &state).unwrap(), Some(two.clone()));
        assert_eq!(folder.members().unwrap(), Some(two), "and written anew");
    }
}
