use super::{Admin, Delay, FalseClock, Mount, Net, Process, baton, baton_in, eventually, eventually_ok, guardian};
use baton_proto::v1::StatusReply;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A cluster of `baton node` processes on this machine.
pub struct Cluster {
    nodes: Vec<Node>,
    /// `iplist.txt` and `tree.txt`, where these say who the nodes are.
    plain: Option<(PathBuf, PathBuf)>,
    /// What else every node is told.
    options: Vec<String>,
}

struct Node {
    id: u64,
    address: String,
    data: PathBuf,
    process: Option<Process>,
    /// Where this node finds the others, if not where they are.
    peers: Option<String>,
    /// The process in whose network namespace it runs, if not in the test's own.
    holder: Option<u32>,
    /// The clock that it believes, if not the machine's.
    clock: Option<FalseClock>,
}

/// What one node says of itself.
#[derive(Debug)]
pub struct NodeState {
    pub leader: Option<u64>,
    pub applied: u64,
    pub slices: u64,
    pub votes: bool,
}

impl Cluster {
    /// Three nodes that have a leader.
    pub fn start() -> Cluster {
        let folder = guardian::folder("cluster");
        Cluster::start_in(&(1..=3).map(|id| folder.join(format!("node-{id}"))).collect::<Vec<_>>())
    }

    /// A node for each data folder.
    pub fn start_in(folders: &[PathBuf]) -> Cluster {
        Cluster::start_told(folders, &[])
    }

    /// The same, each node told more on its command line.
    pub fn start_told(folders: &[PathBuf], options: &[&str]) -> Cluster {
        let mut cluster = Cluster::plan(folders);
        cluster.options = options.iter().map(|option| option.to_string()).collect();
        for id in cluster.ids() {
            cluster.restart(id);
        }
        cluster.leader();
        cluster
    }

    /// As [`Self::start_in`], with nothing started yet.
    pub fn plan(folders: &[PathBuf]) -> Cluster {
        let addresses = free_addresses(folders.len());
        let nodes = folders.iter().zip(1..).zip(addresses);
        let nodes = nodes.map(|((data, id), address)| Node {
            id,
            address,
            data: data.clone(),
            process: None,
            peers: None,
            holder: None,
            clock: None,
        });
        Cluster { nodes: nodes.collect(), plain: None, options: Vec::new() }
    }

    /// A node at each of the first places of a network (node 1 at place 0), with clocks of their own, if there are any.
    pub fn start_on(net: &Net, folders: &[PathBuf], clocks: &[FalseClock]) -> Cluster {
        let mut cluster = Cluster::plan(folders);
        for (place, node) in cluster.nodes.iter_mut().enumerate() {
            node.address = format!("{}:7400", net.address(place));
            node.holder = Some(net.holder(place));
            node.clock = clocks.get(place).cloned();
        }
        for id in cluster.ids() {
            cluster.restart(id);
        }
        cluster.leader();
        cluster
    }

    /// Starts all nodes from these two files.
    pub fn start_from(&mut self, iplist: &Path, tree: &Path) {
        self.plain = Some((iplist.to_owned(), tree.to_owned()));
        for id in self.ids() {
            self.restart(id);
        }
        self.leader();
    }

    pub fn ids(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    fn node(&self, id: u64) -> &Node {
        self.nodes.iter().find(|node| node.id == id).expect("a node of the cluster")
    }

    fn node_mut(&mut self, id: u64) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.id == id).expect("a node of the cluster")
    }

    pub fn address(&self, id: u64) -> &str {
        &self.node(id).address
    }

    pub fn data(&self, id: u64) -> &Path {
        &self.node(id).data
    }

    pub fn process(&mut self, id: u64) -> &mut Process {
        self.node_mut(id).process.as_mut().expect("a node that runs")
    }

    /// All addresses, as `baton mount` takes them.
    pub fn addresses(&self) -> String {
        self.nodes.iter().map(|node| node.address.clone()).collect::<Vec<_>>().join(",")
    }

    /// Three nodes, of which the last is so far away from the others. Also answers how who is where the last one is finds
    /// the first.
    pub fn start_apart(each_way: Duration) -> (Cluster, String) {
        let folder = guardian::folder("cluster");
        let mut cluster = Cluster::plan(&(1..=3).map(|id| folder.join(format!("node-{id}"))).collect::<Vec<_>>());
        let far = |id: u64| Delay::to(cluster.address(id), each_way).address();
        let (one, two, three) = (far(1), far(2), far(3));
        let near = |id: u64| cluster.address(id).to_owned();
        let here = format!("1={},2={},3={three}", near(1), near(2));
        let there = format!("1={one},2={two},3={}", near(3));
        for (id, peers) in [(1, &here), (2, &here), (3, &there)] {
            cluster.node_mut(id).peers = Some(peers.clone());
        }
        for id in cluster.ids() {
            cluster.restart(id);
        }
        cluster.leader();
        (cluster, one)
    }

    /// Three nodes, of which the last is so far away from everybody, mounts too.
    pub fn start_with_one_far(each_way: Duration) -> Cluster {
        let mut cluster = Cluster::plan(&[(); 3].map(|()| guardian::folder("node")));
        let far = Delay::to(cluster.address(3), each_way).address();
        let peers = format!("1={},2={},3={far}", cluster.address(1), cluster.address(2));
        cluster.nodes.iter_mut().for_each(|node| node.peers = Some(peers.clone()));
        cluster.ids().into_iter().for_each(|id| cluster.restart(id));
        cluster.leader();
        cluster
    }

    /// Where a node finds another.
    pub fn way(&self, from: u64, to: u64) -> String {
        let peers = self.node(from).peers.clone().unwrap_or_else(|| self.peers());
        let way = peers.split(',').find_map(|peer| peer.strip_prefix(&format!("{to}=")));
        way.expect("a node of the cluster").to_owned()
    }

    /// The node that a mount works with: the one to say that it has it.
    pub fn node_of(&self, mount: &Mount) -> u64 {
        let at = mount.dir().to_str().expect("a name in UTF-8");
        let has_it = |id: &u64| {
            let mounts = Admin::new(self.address(*id)).status().map(|status| status.mounts).unwrap_or_default();
            mounts.iter().any(|mount| mount.client.ends_with(at) && mount.node == *id)
        };
        eventually(&format!("one node has the mount at {at}"), Duration::from_secs(20), || {
            let mut having = self.running().filter(has_it);
            having.next().filter(|_| having.next().is_none())
        })
    }

    /// Mounts it with the addresses in this order of the nodes: it begins with the first.
    pub fn mount_by(&self, order: &[u64]) -> Mount {
        Mount::start(&order.iter().map(|id| self.address(*id)).collect::<Vec<_>>().join(","))
    }

    /// The list of peers, as `baton node` takes it.
    pub fn peers(&self) -> String {
        self.nodes.iter().map(|node| format!("{}={}", node.id, node.address)).collect::<Vec<_>>().join(",")
    }

    pub fn mount(&self) -> Mount {
        Mount::start(&self.addresses())
    }

    /// One more node, on an empty folder: it finds its number out by asking. Answers when it runs.
    pub fn join(&mut self) -> u64 {
        let folder = guardian::unused("joined");
        let address = free_addresses(1).remove(0);
        let mut command = baton();
        command.args(["node", "--join", &self.addresses(), "--listen", &address]).args(&self.options);
        command.args(["--metrics", "none", "--data"]);
        command.arg(&folder).env("BATON_LOG", "info").env("NO_COLOR", "1");
        let mut process = Process::start("joined", command);
        process.wait_for_line("node ", Duration::from_secs(20));
        let said = process.said();
        let number = said.lines().find_map(|line| line.strip_prefix("the cluster took this node in as node "));
        let id = number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("it has no number:\n{said}"));
        self.nodes.push(Node {
            id,
            address,
            data: folder,
            process: Some(process),
            peers: None,
            holder: None,
            clock: None,
        });
        id
    }

    /// Removes a node for good, as an operator does, and sees its process end by itself.
    pub fn remove(&mut self, id: u64, within: Duration) {
        let rm = self.begin_removal(id);
        self.removed(id, rm, within);
    }

    pub fn begin_removal(&self, id: u64) -> Process {
        let others: Vec<&str> = self.nodes.iter().filter(|n| n.id != id).map(|n| n.address.as_str()).collect();
        let mut command = baton();
        command.args(["member", "rm", &id.to_string(), &others.join(",")]);
        Process::start("member-rm", command)
    }

    pub fn removed(&mut self, id: u64, mut rm: Process, within: Duration) {
        let status = rm.wait_for_end(within);
        assert!(status.success(), "baton member rm:\n{}", rm.said());
        let at = self.nodes.iter().position(|node| node.id == id).expect("a node of the cluster");
        let mut node = self.nodes.remove(at);
        if let Some(process) = &mut node.process {
            process.wait_for_end(Duration::from_secs(20));
            let said = process.said();
            assert!(said.contains("this node was removed from its cluster"), "it does not say why it ended:\n{said}");
        }
    }

    /// SIGTERM, and a new start when it has ended.
    pub fn restart_in_good_order(&mut self, id: u64) {
        let process = self.process(id);
        process.signal(rustix::process::Signal::TERM);
        let status = process.wait_for_end(Duration::from_secs(20));
        assert!(status.success(), "node {id} ends with {status}:\n{}", process.said());
        self.restart(id);
    }

    /// SIGKILL, and gone when this returns.
    pub fn kill(&mut self, id: u64) {
        self.node_mut(id).process = None;
    }

    /// SIGKILL to all before any is waited for.
    pub fn kill_all(&mut self) {
        for node in &self.nodes {
            if let Some(process) = &node.process {
                process.signal(rustix::process::Signal::KILL);
            }
        }
        for node in &mut self.nodes {
            node.process = None;
        }
    }

    pub fn restart(&mut self, id: u64) {
        let mut process = self.begin(id);
        process.wait_for_line("node ", Duration::from_secs(20));
        self.node_mut(id).process = Some(process);
    }

    /// The same of a node that may have a reason not to start: whether it runs.
    pub fn try_restart(&mut self, id: u64) -> bool {
        let mut process = self.begin(id);
        let started = eventually("a node starts or gives up", Duration::from_secs(20), || {
            let runs = process.is_running();
            let listens = process.said().lines().any(|line| line.starts_with("node "));
            (listens || !runs).then_some(runs)
        });
        if started {
            self.node_mut(id).process = Some(process);
        } else {
            assert!(process.said().contains("baton: "), "it does not say why:\n{}", process.said());
        }
        started
    }

    /// Whether its process is there; one that ended by itself is forgotten.
    pub fn is_running(&mut self, id: u64) -> bool {
        let process = &mut self.node_mut(id).process;
        if process.as_mut().is_some_and(|process| !process.is_running()) {
            *process = None;
        }
        process.is_some()
    }

    /// Starts one node's process; it is the caller's to wait for.
    pub fn begin(&self, id: u64) -> Process {
        let node = self.node(id);
        // One that joined finds in its folder whose it is; what the others were told is no news to them either.
        let peers = node.peers.clone().unwrap_or_else(|| self.peers());
        let mut command = baton_in(node.holder);
        command.args(["node", "--id", &id.to_string(), "--listen", &node.address]).args(&self.options);
        match &self.plain {
            Some((iplist, tree)) => command.arg("--iplist").arg(iplist).arg("--tree").arg(tree),
            None => command.args(["--peers", &peers]),
        };
        command.args(["--metrics", "none", "--data"]);
        command.arg(&node.data).env("BATON_LOG", "info").env("NO_COLOR", "1");
        if let Some(clock) = &node.clock {
            clock.give_to(&mut command);
        }
        Process::start(&format!("node-{id}"), command)
    }

    /// Removes all that a node kept; it must not be running.
    pub fn wipe(&mut self, id: u64) {
        let node = self.node(id);
        assert!(node.process.is_none(), "node {id} runs");
        std::fs::remove_dir_all(&node.data).expect("a data folder that can be removed");
    }

    /// The leader that a majority knows.
    pub fn leader(&self) -> u64 {
        eventually("a leader that a majority knows", Duration::from_secs(30), || {
            let leaders: Vec<u64> = self.running().filter_map(|id| self.state(id)?.leader).collect();
            let majority = self.nodes.len() / 2 + 1;
            leaders.iter().copied().find(|one| leaders.iter().filter(|other| *other == one).count() >= majority)
        })
    }

    /// Sees to it that one of these leads: who else does is killed and comes back.
    pub fn lead_from(&mut self, wanted: &[u64]) {
        while let leader = self.leader()
            && !wanted.contains(&leader)
        {
            self.kill(leader);
            let another = || Some(self.leader()).filter(|now| *now != leader);
            eventually("another leader", Duration::from_secs(30), another);
            self.restart(leader);
        }
    }

    fn running(&self) -> impl Iterator<Item = u64> {
        self.nodes.iter().filter(|node| node.process.is_some()).map(|node| node.id)
    }

    /// What a node says of itself; `None` when it does not answer.
    pub fn state(&self, id: u64) -> Option<NodeState> {
        let status = Admin::new(self.address(id)).status()?;
        let me = status.nodes.iter().find(|node| node.id == id)?;
        let not_yet = |line: &String| line.contains("does not vote") || line.contains("waiting to hear");
        let votes = !status.health.iter().any(not_yet);
        Some(NodeState { leader: status.leader, applied: me.applied, slices: me.slices, votes })
    }

    /// All that a node that runs says of the cluster.
    pub fn status(&self, id: u64) -> StatusReply {
        eventually("a node answers", Duration::from_secs(20), || Admin::new(self.address(id)).status())
    }

    /// Waits until a node votes, has applied all that the others had applied when this was called, and holds as many slices.
    pub fn wait_caught_up(&self, id: u64, within: Duration) {
        let others: Vec<u64> = self.running().filter(|other| *other != id).collect();
        let of_others = || others.iter().filter_map(|other| self.state(*other)).collect::<Vec<NodeState>>();
        let applied = of_others().iter().map(|state| state.applied).max().unwrap_or(0);
        // What was deleted a moment ago the others still hold, and soon no longer.
        let slices = || of_others().iter().map(|state| state.slices).max().unwrap_or(0);
        let full = |now: &NodeState| now.votes && now.applied >= applied && now.slices >= slices();
        let what = format!("node {id} votes, has applied {applied} and holds as many slices as the others");
        eventually(&what, within, || self.state(id).filter(full));
    }

    /// Waits until a node has applied all that the others had applied when this was called, and may vote.
    pub fn wait_caught_up_in_log(&self, id: u64, within: Duration) {
        let others = self.running().filter(|other| *other != id).collect::<Vec<_>>();
        let applied = others.iter().filter_map(|other| Some(self.state(*other)?.applied)).max().unwrap_or(0);
        let full = |now: &NodeState| now.votes && now.applied >= applied;
        eventually(&format!("node {id} has applied {applied}"), within, || self.state(id).filter(full));
    }

    /// Waits until a node has whatever is listed for it.
    pub fn wait_has_its_slices(&self, id: u64, within: Duration) {
        eventually_ok(within, || {
            let status = self.status(self.leader());
            let has_all = status.nodes.iter().any(|node| node.id == id && node.lacks == Some(0));
            has_all.then_some(()).ok_or_else(|| format!("node {id} has what it should have, and not {status:#?}"))
        });
    }

    /// `baton fsck --deep`: what it says, as an error where it found something.
    pub fn deep_check(&self, more: &[&str]) -> Result<String, String> {
        let output = baton().args(["fsck", "--deep", &self.addresses()]).args(more).output().expect("baton starts");
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    /// How many of these ("slices", "extents") the files consist of; a check counts them though a node may be dead.
    pub fn counted(&self, what: &str) -> u64 {
        let (Ok(said) | Err(said)) = self.deep_check(&[]);
        let (before, _) = said.split_once(&format!(" {what}")).expect("their number");
        let number = before.rsplit([' ', '\n']).next().and_then(|number| number.parse().ok());
        number.expect("a number")
    }

    /// `baton fsck` of every node that runs: no problems anywhere.
    pub fn assert_sound(&self) {
        for id in self.running() {
            let output = baton().args(["fsck", self.address(id)]).output().expect("baton starts");
            let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "baton fsck of node {id}:\n{out}{err}");
        }
    }
}

/// Ports that were free a moment ago, all held at once so that no two are the same.
fn free_addresses(count: usize) -> Vec<String> {
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    held.iter().map(|listener| listener.local_addr().expect("an address").to_string()).collect()
}
