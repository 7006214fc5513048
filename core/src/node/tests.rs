//! A small cluster in one place: messages arrive at once unless cut, disks finish at once unless held.

mod breaks;
mod copies;
mod fairness;
mod freezing;
mod members;
mod merging;
mod parted;
mod tokens;
mod versions;

use super::*;
use crate::meta::ops::{Fallocate, FallocateHow, GetAttr, Mkdir};
use crate::meta::{Answer, Fault, Op, Query};
use crate::session::{Command, Reply, ToMount, ToNode};
use crate::types::{Cred, Errno, Ino, Name, NoChange, Owner};
use raft::eraftpb::{Message, MessageType};
use std::collections::BTreeSet;
use std::sync::RwLock;

#[derive(Default)]
struct Disk(RwLock<BTreeMap<Key, Value>>);

impl Store for Disk {
    fn get(&self, key: &Key) -> Result<Option<Value>, Fault> {
        Ok(self.0.read().unwrap().get(key).cloned())
    }

    fn range(&self, from: &Key, to: &Key, max: usize) -> Result<Vec<(Key, Value)>, Fault> {
        let state = self.0.read().unwrap();
        Ok(state.range(from.clone()..to.clone()).take(max).map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}

impl Freeze for Disk {
    fn freeze(self: Arc<Self>) -> Base {
        Arc::new(Disk(RwLock::new(self.0.read().unwrap().clone())))
    }
}

struct Peer {
    machine: NodeMachine,
    disk: Arc<Disk>,
    inbox: Vec<Input>,
    /// Writes that the disk has not finished.
    unsynced: Vec<u64>,
}

struct Cluster {
    topology: Topology,
    peers: BTreeMap<NodeId, Peer>,
    now: u64,
    cut: BTreeSet<NodeId>,
    /// Ways between two nodes, one way round.
    cut_links: BTreeSet<(NodeId, NodeId)>,
    /// What Raft says does not reach these.
    deaf: BTreeSet<NodeId>,
    /// Appends do not reach these.
    no_appends: BTreeSet<NodeId>,
    /// Who is to fetch the state has it at once, and hears no append then; else it takes for ever.
    state_is_fetched: bool,
    held_disks: BTreeSet<NodeId>,
    mounts: Vec<(NodeId, Conn, ToMount)>,
    sent: Vec<(NodeId, NodeId, ToPeer)>,
    /// Orders to break locks that were carried out, by node.
    broke: Vec<(NodeId, u64, Reply)>,
    frozen: Vec<(NodeId, u64, Option<Frozen>)>,
    /// What came of orders to change the list of nodes, by who says so.
    changed: Vec<(NodeId, Result<NodeId, NoChange>)>,
    spare: Vec<(NodeId, SliceId)>,
    orders: Vec<(NodeId, MergeOrder)>,
    dropped: Vec<(NodeId, SliceId)>,
    /// The builds of the nodes; who is not named has the first one.
    builds: BTreeMap<NodeId, Speaks>,
    /// Nodes that need another build, as they ended.
    stopped: BTreeMap<NodeId, (Peer, Unspoken)>,
}

fn at(now: u64) -> Now {
    Now { mono: now, real: Stamp::from_nanos(i128::from(now) * 1000) }
}

fn empty(disk: &Arc<Disk>) -> Recovered {
    Recovered {
        imported_over: None,
        member: false,
        hard_state: HardState::default(),
        start: (0, 0),
        entries: Vec::new(),
        base: disk.clone(),
        stored: (0, 0),
    }
}

impl Cluster {
    fn new(nodes: u64) -> Cluster {
        Cluster::with(nodes, Topology::default())
    }

    fn with(nodes: u64, topology: Topology) -> Cluster {
        let mut cluster = Cluster {
            topology,
            peers: BTreeMap::new(),
            now: 1_000_000,
            cut: BTreeSet::new(),
            cut_links: BTreeSet::new(),
            deaf: BTreeSet::new(),
            no_appends: BTreeSet::new(),
            state_is_fetched: false,
            held_disks: BTreeSet::new(),
            mounts: Vec::new(),
            sent: Vec::new(),
            broke: Vec::new(),
            frozen: Vec::new(),
            changed: Vec::new(),
            spare: Vec::new(),
            orders: Vec::new(),
            dropped: Vec::new(),
            builds: BTreeMap::new(),
            stopped: BTreeMap::new(),
        };
        for id in 1..=nodes {
            cluster.start(NodeId(id), nodes);
        }
        cluster
    }

    /// Three nodes, of which one leads.
    fn formed() -> Cluster {
        let mut cluster = Cluster::new(3);
        cluster.pass(2_000_000);
        cluster
    }

    /// A node with an empty disk.
    fn start(&mut self, id: NodeId, nodes: u64) {
        self.start_as_founder(id, Members::founding((1..=nodes).map(|id| (NodeId(id), format!("host:{id}")))));
    }

    fn start_as_founder(&mut self, id: NodeId, members: Members) {
        self.start_among(id, members, true);
    }

    fn start_among(&mut self, id: NodeId, members: Members, is_founder: bool) {
        let disk = Arc::new(Disk::default());
        let config = self.config(id, members, is_founder);
        let machine = NodeMachine::new(config, empty(&disk), at(self.now)).unwrap();
        self.peers.insert(id, Peer { machine, disk, inbox: Vec::new(), unsynced: Vec::new() });
    }

    fn config(&self, id: NodeId, members: Members, is_founder: bool) -> Config {
        Config {
            id,
            is_founder,
            members,
            seed: id.0 * 77 + self.now,
            cluster: ClusterId(id.0 + 100),
            founder: FOUNDER,
            topology: self.topology.clone(),
            away_after_us: AWAY_AFTER_US,
            merge: MergeRule::default(),
            speaks: self.builds.get(&id).copied().unwrap_or(FIRST_BUILD),
        }
    }

    /// Time passes, a tick after the other.
    fn pass(&mut self, us: u64) {
        let end = self.now + us;
        while self.now < end {
            self.now += TICK_US;
            for peer in self.peers.values_mut() {
                peer.inbox.push(Input::Tick);
            }
            self.settle();
        }
    }

    /// Everything that was sent arrives.
    fn settle(&mut self) {
        while let Some(id) = self.peers.iter().find(|(_, p)| !p.inbox.is_empty()).map(|(id, _)| *id) {
            let now = at(self.now);
            let Some(peer) = self.peers.get_mut(&id) else { return };
            let inputs = std::mem::take(&mut peer.inbox);
            for output in peer.machine.step(now, inputs) {
                self.carry_out(id, output);
            }
            while let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.machine.is_behind()) {
                for output in peer.machine.catch_up(now) {
                    self.carry_out(id, output);
                }
            }
        }
    }

    fn carry_out(&mut self, id: NodeId, output: Output) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        match output {
            Output::Persist(write) => {
                peer.unsynced.push(write.number);
                if !self.held_disks.contains(&id) {
                    self.finish_disk(id);
                }
            }
            Output::Store { index, changes, .. } => {
                let mut state = peer.disk.0.write().unwrap();
                for (key, value) in changes.iter() {
                    match value {
                        Some(value) => state.insert(key.clone(), value.clone()),
                        None => state.remove(key),
                    };
                }
                peer.inbox.push(Input::Stored(index));
            }
            Output::FetchSnapshot { from } if self.state_is_fetched => {
                self.no_appends.insert(id);
                let (stored, state) = {
                    let from = &self.peers[&from];
                    (from.machine.raw.store().stored, from.disk.0.read().unwrap().clone())
                };
                let Some(peer) = self.peers.get_mut(&id) else { return };
                *peer.disk.0.write().unwrap() = state;
                peer.inbox.push(Input::SnapshotFetched(Some(stored)));
            }
            Output::BecomeMember => peer.inbox.push(Input::MemberRecorded),
            Output::Mount { conn, message } => self.mounts.push((id, conn, message)),
            Output::Peer { to, message } => {
                self.sent.push((id, to, message.clone()));
                let is_append = |m: &Message| m.get_msg_type() == MessageType::MsgAppend;
                let unheard = |m: &Message| self.deaf.contains(&to) || (self.no_appends.contains(&to) && is_append(m));
                let heard = !matches!(&message, ToPeer::Raft(message) if unheard(message));
                let links = &self.cut_links;
                if !self.cut.contains(&id)
                    && !self.cut.contains(&to)
                    && !links.contains(&(id, to))
                    && !links.contains(&(to, id))
                    && heard
                    && let Some(to) = self.peers.get_mut(&to)
                {
                    to.inbox.push(Input::Peer { from: id, message });
                }
            }
            Output::Frozen { request, state } => self.frozen.push((id, request, state)),
            Output::Broke { request, reply } => self.broke.push((id, request, reply)),
            Output::MembersChanged { outcome, .. } => self.changed.push((id, outcome)),
            Output::Merge(order) => self.orders.push((id, order)),
            Output::DropSlices(ids) => self.dropped.extend(ids.into_iter().map(|slice| (id, slice))),
            Output::SpareCopy(slice) => self.spare.push((id, slice)),
            Output::StopUnspoken(unspoken) => {
                let peer = self.peers.remove(&id).expect("it is there");
                self.stopped.insert(id, (peer, unspoken));
            }
            Output::Stop(why) => panic!("node {id} stops: {why}"),
            _ => {}
        }
    }

    fn finish_disk(&mut self, id: NodeId) {
        if let Some(peer) = self.peers.get_mut(&id)
            && let Some(last) = peer.unsynced.drain(..).next_back()
        {
            peer.inbox.push(Input::Persisted(last));
        }
    }

    fn machine(&self, id: NodeId) -> &NodeMachine {
        &self.peers[&id].machine
    }

    /// Those who believe that they lead, of those who are not cut off.
    fn leader(&self) -> NodeId {
        let leads = |(id, p): (&NodeId, &Peer)| (p.machine.is_leader() && !self.cut.contains(id)).then_some(*id);
        let leaders: Vec<NodeId> = self.peers.iter().filter_map(leads).collect();
        assert_eq!(leaders.len(), 1, "{leaders:?} lead");
        leaders[0]
    }

    fn follower(&self) -> NodeId {
        let leader = self.leader();
        self.peers.keys().copied().find(|id| *id != leader && !self.cut.contains(id)).unwrap()
    }

    fn mount_says(&mut self, node: NodeId, message: ToNode) {
        self.says_at(node, Conn(9), message);
    }

    fn greet(&mut self, node: NodeId) -> SessionId {
        self.mount_says(node, ToNode::Hello { session: None, client: "host:/mnt".into(), nonce: 4, link: 1 });
        self.pass(200_000);
        let welcome = |(_, _, m): &(NodeId, Conn, ToMount)| match m {
            ToMount::Welcome { session, .. } => Some(*session),
            _ => None,
        };
        self.mounts.iter().find_map(welcome).expect("a welcome")
    }

    fn mkdir(session: SessionId, number: u64) -> Command {
        Cluster::mkdir_named(session, number, &format!("d{number}"))
    }

    fn mkdir_named(session: SessionId, number: u64, name: &str) -> Command {
        let name = Name::new(name.as_bytes()).unwrap();
        let op = Op::Mkdir(Mkdir { dir: Ino::ROOT, name, mode: 0o755 });
        Command { session, number, acked: 0, cred: Cred::ROOT, op }
    }

    /// The numbers that were replied to. Both the leader's reply and the follower's own may come.
    fn replies(&self) -> BTreeSet<u64> {
        let numbers = |(_, _, m): &(NodeId, Conn, ToMount)| match m {
            ToMount::Replies(replies) => replies.iter().map(|(n, _)| *n).collect(),
            _ => Vec::new(),
        };
        self.mounts.iter().flat_map(numbers).collect()
    }

    fn reads(&self, id: NodeId) -> bool {
        let query = Query::GetAttr(GetAttr { ino: Ino::ROOT });
        self.machine(id).reader().ask(|| self.now, &Cred::ROOT, &query).is_some()
    }
}

const AWAY_AFTER_US: u64 = 30_000_000;
const FIRST_BUILD: Speaks = Speaks { oldest: 10, newest: 10 };
const FOUNDER: Owner = Owner { uid: 1000, gid: 100 };

#[test]
fn the_root_belongs_to_who_formed_the_cluster() {
    let cluster = Cluster::formed();
    for peer in cluster.peers.values() {
        peer.machine.reader().with_state(|state| match state.get(&Key::Inode(Ino::ROOT)) {
            Ok(Some(Value::Inode(root))) => assert_eq!((root.uid, root.gid), (FOUNDER.uid, FOUNDER.gid)),
            other => panic!("{other:?}"),
        });
    }
}

#[test]
fn a_cluster_forms_and_elects_one_leader() {
    let cluster = Cluster::formed();
    cluster.leader();
    for peer in cluster.peers.values() {
        let status = peer.machine.status();
        assert!(status.member && status.applied > 0 && status.cluster.is_some(), "{status:?}");
    }
}

#[test]
fn nobody_leads_before_everybody_was_heard() {
    let mut cluster = Cluster::new(3);
    cluster.cut.insert(NodeId(3));
    cluster.pass(10_000_000);
    assert!(cluster.peers.values().all(|p| !p.machine.is_leader()));
    assert_eq!(cluster.machine(NodeId(1)).status().waiting_for, [NodeId(3)]);
    cluster.cut.clear();
    cluster.pass(2_000_000);
    cluster.leader();
}

#[test]
fn a_mount_of_a_follower_gets_its_answers() {
    let mut cluster = Cluster::formed();
    let follower = cluster.follower();
    let session = cluster.greet(follower);
    cluster.mount_says(follower, ToNode::Commands(vec![Cluster::mkdir(session, 1), Cluster::mkdir(session, 2)]));
    cluster.pass(200_000);
    assert_eq!(cluster.replies(), BTreeSet::from([1, 2]));
    let query = Query::GetAttr(GetAttr { ino: Ino::ROOT });
    cluster.mount_says(follower, ToNode::Ask { id: 5, cred: Cred::ROOT, query, keep: false });
    let Some((_, _, ToMount::Answer { id: 5, reply: Reply::Done(Answer::Attr(root)), .. })) = cluster.mounts.last()
    else {
        panic!("{:?}", cluster.mounts.last());
    };
    assert_eq!(root.nlink, 4);
    for peer in cluster.peers.values() {
        assert_eq!(peer.machine.status().inodes, 3, "every node has applied it");
    }
}

#[test]
fn a_command_that_comes_twice_happens_once() {
    let mut cluster = Cluster::formed();
    let follower = cluster.follower();
    let session = cluster.greet(follower);
    for _ in 0..3 {
        cluster.mount_says(follower, ToNode::Commands(vec![Cluster::mkdir(session, 1)]));
        cluster.pass(200_000);
    }
    assert_eq!(cluster.replies(), BTreeSet::from([1]));
    assert_eq!(cluster.machine(follower).status().inodes, 2);
}

#[test]
fn a_leader_that_is_cut_off_stops_reading_before_another_one_leads() {
    let mut cluster = Cluster::formed();
    let old = cluster.leader();
    assert!(cluster.reads(old));
    assert!(!cluster.reads(cluster.follower()));
    cluster.cut.insert(old);
    for _ in 0..80 {
        cluster.pass(TICK_US);
        let others = cluster.peers.iter().any(|(id, p)| *id != old && p.machine.is_leader());
        assert!(!(others && cluster.reads(old)), "two may answer");
    }
    assert!(!cluster.reads(old));
    let new = cluster.leader();
    assert!(cluster.reads(new));
}

#[test]
fn a_leader_whose_disk_lags_goes_on_with_the_others_disks() {
    let mut cluster = Cluster::formed();
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let session = cluster.greet(follower);
    let stored = |cluster: &Cluster| cluster.peers[&leader].disk.0.read().unwrap().len();
    let before = stored(&cluster);
    cluster.held_disks.insert(leader);
    cluster.mount_says(follower, ToNode::Commands(vec![Cluster::mkdir(session, 1)]));
    cluster.pass(300_000);
    assert_eq!(cluster.replies(), BTreeSet::from([1]), "the followers are a majority");
    assert!(cluster.reads(leader));
    assert_eq!(cluster.machine(leader).status().inodes, 2, "and it answers with what they have");
    assert_eq!(stored(&cluster), before, "but its state does not get ahead of its log");
    cluster.held_disks.clear();
    cluster.finish_disk(leader);
    cluster.pass(TICK_US);
    assert!(stored(&cluster) > before);
}

#[test]
fn a_leader_whose_disk_hangs_does_not_fill_its_memory() {
    let mut cluster = Cluster::formed();
    let leader = cluster.leader();
    let session = cluster.greet(leader);
    cluster.held_disks.insert(leader);
    let last = |cluster: &Cluster| cluster.machine(leader).raw.raft.raft_log.last_index();
    let before = last(&cluster);
    for number in 1..=600 {
        cluster.mount_says(leader, ToNode::Commands(vec![Cluster::mkdir(session, number)]));
    }
    assert!((200..300).contains(&(last(&cluster) - before)), "{} entries wait for the disk", last(&cluster) - before);
    cluster.held_disks.clear();
    cluster.finish_disk(leader);
    cluster.pass(TICK_US);
    assert_eq!(cluster.replies().len(), 600, "what waited goes on when the disk does");
}

#[test]
fn a_leader_whose_disk_hangs_leaves_the_lead_to_one_whose_does_not() {
    let mut cluster = Cluster::formed();
    let (hangs, follower) = (cluster.leader(), cluster.follower());
    let session = cluster.greet(follower);
    cluster.held_disks.insert(hangs);
    for number in 1..=4 {
        cluster.mount_says(follower, ToNode::Commands(vec![Cluster::mkdir(session, number)]));
        cluster.pass(1_000_000);
    }
    assert_ne!(cluster.leader(), hangs);
    assert_eq!(cluster.replies().len(), 4);
    // It follows, and leads not again before its disk goes on, even if it is needed.
    cluster.cut.insert(cluster.leader());
    cluster.pass(10_000_000);
    assert!(!cluster.machine(hangs).is_leader());
    cluster.held_disks.clear();
    cluster.finish_disk(hangs);
    cluster.pass(5_000_000);
    cluster.leader();
}

/// What it holds in the tree others would wait for as long as its disk hangs.
#[test]
fn a_follower_whose_disk_hangs_leaves_the_tree_and_is_left_by_its_mounts() {
    let mut cluster = Cluster::formed();
    let (leader, hangs) = (cluster.leader(), cluster.follower());
    cluster.pass(3_000_000);
    let in_tree = |cluster: &Cluster| cluster.machine(leader).status().tokens.parents.contains_key(&hangs);
    assert!(in_tree(&cluster));
    let session = cluster.greet(hangs);
    cluster.held_disks.insert(hangs);
    cluster.mount_says(hangs, ToNode::Commands(vec![Cluster::mkdir(session, 1)]));
    cluster.pass(4_000_000);
    assert!(!in_tree(&cluster));
    assert_eq!(cluster.machine(hangs).status().leader, None, "so its mounts go elsewhere");
    cluster.held_disks.clear();
    cluster.finish_disk(hangs);
    cluster.pass(4_000_000);
    assert!(in_tree(&cluster));
    assert_eq!(cluster.machine(hangs).status().leader, Some(leader));
}

#[test]
fn who_hangs_where_the_others_are_no_majority_leads_on() {
    let mut cluster = Cluster::formed();
    let leader = cluster.leader();
    let session = cluster.greet(leader);
    cluster.held_disks.insert(leader);
    cluster.mount_says(leader, ToNode::Commands(vec![Cluster::mkdir(session, 1)]));
    let gone = cluster.follower();
    cluster.cut.insert(gone);
    cluster.pass(1_300_000);
    for _ in 0..4 {
        assert!(cluster.machine(leader).is_leader());
        cluster.pass(1_000_000);
    }
}

#[test]
fn where_all_disks_hang_nobody_else_is_a_better_leader() {
    let mut cluster = Cluster::formed();
    let leader = cluster.leader();
    let session = cluster.greet(leader);
    cluster.held_disks.extend(cluster.peers.keys().copied().collect::<Vec<_>>());
    cluster.mount_says(leader, ToNode::Commands(vec![Cluster::mkdir(session, 1)]));
    cluster.pass(6_000_000);
    assert_eq!(cluster.leader(), leader);
    assert_eq!(cluster.replies().len(), 0);
    assert!(cluster.reads(leader), "what was there before can be read");
    for id in std::mem::take(&mut cluster.held_disks) {
        cluster.finish_disk(id);
    }
    cluster.pass(100_000);
    assert_eq!(cluster.replies().len(), 1);
}

#[test]
fn growth_is_refused_when_no_majority_has_room() {
    let mut cluster = Cluster::formed();
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let third = cluster.peers.keys().copied().find(|id| *id != leader && *id != follower).unwrap();
    let session = cluster.greet(leader);
    let mut number = 0;
    let mut answers = |cluster: &mut Cluster, op: Op| {
        number += 1;
        let command = Command { session, number, acked: number - 1, cred: Cred::ROOT, op };
        cluster.mounts.clear();
        cluster.mount_says(leader, ToNode::Commands(vec![command]));
        cluster.pass(100_000);
        let reply = |(_, _, m): &(NodeId, Conn, ToMount)| match m {
            ToMount::Replies(replies) => replies.first().map(|(_, reply)| reply.clone()),
            _ => None,
        };
        cluster.mounts.iter().find_map(reply).expect("a reply")
    };
    let mkdir = |name: &str| Cluster::mkdir_named(session, 1, name).op;
    let reserve = |len| {
        let how = FallocateHow::Allocate;
        Op::Fallocate(Fallocate { ino: Ino::ROOT, offset: 0, len, how, keep_size: true })
    };
    // Nothing is known of the disks, but what is counted has an end.
    assert_eq!(answers(&mut cluster, reserve(1 << 50)), Reply::Failed(Errno::EISDIR), "it got so far");
    assert_eq!(answers(&mut cluster, reserve((1 << 63) - 1)), Reply::Failed(Errno::ENOSPC));
    let room = |cluster: &mut Cluster, id: NodeId, free: u64| {
        let space = Input::Space(Space { total: 1 << 40, free });
        cluster.peers.get_mut(&id).unwrap().inbox.push(space);
        cluster.pass(1_500_000);
    };
    for id in [leader, follower, third] {
        room(&mut cluster, id, 1 << 39);
    }
    assert_eq!(answers(&mut cluster, reserve(1 << 39)), Reply::Failed(Errno::EISDIR));
    assert_eq!(answers(&mut cluster, reserve(1 << 41)), Reply::Failed(Errno::ENOSPC), "more than all disks");
    room(&mut cluster, follower, 1 << 20);
    assert!(matches!(answers(&mut cluster, mkdir("a")), Reply::Done(_)), "two have room");
    cluster.cut.insert(third);
    cluster.pass(1_500_000);
    assert!(matches!(answers(&mut cluster, mkdir("a2")), Reply::Done(_)), "one that is not heard for a moment");
    for _ in 0..5 {
        room(&mut cluster, leader, 1 << 39);
        cluster.mount_says(leader, ToNode::Alive);
    }
    assert_eq!(answers(&mut cluster, mkdir("b")), Reply::Failed(Errno::ENOSPC), "one of the two that are there");
    cluster.cut.clear();
    cluster.pass(1_500_000);
    assert!(matches!(answers(&mut cluster, mkdir("b")), Reply::Done(_)));
    room(&mut cluster, third, 1 << 20);
    assert_eq!(answers(&mut cluster, mkdir("c")), Reply::Failed(Errno::ENOSPC));
    let rmdir = Op::Rmdir(crate::meta::ops::Rmdir { dir: Ino::ROOT, name: Name::new(b"a").unwrap() });
    assert!(matches!(answers(&mut cluster, rmdir), Reply::Done(_)), "what makes room is done");
}

#[test]
fn an_append_is_acknowledged_only_when_it_is_on_disk() {
    let mut cluster = Cluster::formed();
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let session = cluster.greet(leader);
    cluster.held_disks.insert(follower);
    cluster.sent.clear();
    cluster.mount_says(leader, ToNode::Commands(vec![Cluster::mkdir(session, 1)]));
    let last = cluster.machine(leader).raw.raft.raft_log.last_index();
    let acknowledged = |cluster: &Cluster| {
        let says = |(from, _, m): &(NodeId, NodeId, ToPeer)| match m {
            ToPeer::Raft(m) => {
                *from == follower && m.get_msg_type() == MessageType::MsgAppendResponse && m.index >= last
            }
            _ => false,
        };
        cluster.sent.iter().any(says)
    };
    assert!(!acknowledged(&cluster));
    cluster.held_disks.clear();
    cluster.finish_disk(follower);
    cluster.settle();
    assert!(acknowledged(&cluster));
}

#[test]
fn a_node_that_lost_its_disk_votes_only_when_it_has_caught_up() {
    let mut cluster = Cluster::formed();
    let (leader, lost) = (cluster.leader(), cluster.follower());
    cluster.start(lost, 3);
    cluster.cut.insert(leader);
    cluster.pass(5_000_000);
    let others = cluster.peers.iter().filter(|(id, _)| **id != leader);
    assert!(others.clone().all(|(_, p)| !p.machine.is_leader()), "one that forgot its vote helped to elect");
    assert!(!cluster.machine(lost).status().member);
    cluster.cut.clear();
    cluster.pass(5_000_000);
    let leader = cluster.leader();
    assert!(cluster.machine(lost).status().member);
    assert_eq!(cluster.machine(lost).status().applied, cluster.machine(leader).status().applied);
}

/// It applies what others have on their disks. What it promised by that is to outlive its own.
#[test]
fn a_node_that_lost_its_disk_votes_only_when_what_it_caught_up_with_is_durable() {
    let mut cluster = Cluster::formed();
    let (leader, lost) = (cluster.leader(), cluster.follower());
    cluster.start(lost, 3);
    cluster.held_disks.insert(lost);
    let last = |cluster: &Cluster, id| cluster.machine(id).raw.raft.raft_log.last_index();
    for _ in 0..200 {
        cluster.pass(TICK_US);
        if last(&cluster, lost) < last(&cluster, leader) {
            cluster.finish_disk(lost);
        }
    }
    let applied = |id| cluster.machine(id).status().applied;
    assert_eq!(applied(lost), applied(leader), "it has caught up");
    assert!(!cluster.machine(lost).status().member);
    cluster.held_disks.clear();
    cluster.finish_disk(lost);
    cluster.pass(100_000);
    assert!(cluster.machine(lost).status().member);
}

/// Seed 4015343: everything came as a snapshot, and Raft had nothing more to say to it.
#[test]
fn a_node_that_fetched_all_there_is_votes_though_nothing_follows() {
    let mut cluster = Cluster::formed();
    let (leader, lost) = (cluster.leader(), cluster.follower());
    let session = cluster.greet(leader);
    cluster.cut.insert(lost);
    for number in 1..=10 {
        cluster.mount_says(leader, ToNode::Commands(vec![Cluster::mkdir(session, number)]));
    }
    cluster.mount_says(leader, ToNode::Goodbye);
    cluster.pass(1_000_000);
    let applied = cluster.machine(leader).status().applied;
    let peer = cluster.peers.get_mut(&leader).unwrap();
    peer.machine.keep_log_tail(0);
    peer.inbox.push(Input::Checkpointed(applied));
    cluster.pass(100_000);
    cluster.start(lost, 3);
    cluster.cut.clear();
    // The append that says how far the log is committed gets lost.
    cluster.state_is_fetched = true;
    cluster.pass(3_000_000);
    assert!(!cluster.machine(lost).status().member);
    cluster.no_appends.clear();
    cluster.pass(3_000_000);
    assert_eq!(cluster.machine(lost).status().applied, applied, "nothing followed");
    assert!(cluster.machine(lost).status().member);
}

#[test]
fn a_session_that_nobody_hears_of_ends() {
    let mut cluster = Cluster::formed();
    let follower = cluster.follower();
    let session = cluster.greet(follower);
    for _ in 0..6 {
        cluster.mount_says(follower, ToNode::Alive);
        cluster.pass(2_000_000);
    }
    assert_eq!(cluster.machine(follower).status().sessions.len(), 1);
    cluster.pass(13_000_000);
    assert_eq!(cluster.machine(follower).status().sessions.len(), 0);
    assert!(cluster.mounts.iter().any(|(_, _, m)| *m == ToMount::Gone { session }));
    cluster.mounts.clear();
    cluster.mount_says(follower, ToNode::Hello { session: Some(session), client: String::new(), nonce: 4, link: 1 });
    cluster.pass(1_000_000);
    assert!(cluster.mounts.iter().any(|(_, _, m)| *m == ToMount::Gone { session }), "{:?}", cluster.mounts);
}

/// Seed 1200094: a beat that had been on its way for long said how far the leader had been before the session was opened.
#[test]
fn a_node_that_is_behind_says_of_no_session_that_it_is_over() {
    let mut cluster = Cluster::formed();
    let (leader, behind) = (cluster.leader(), cluster.follower());
    cluster.cut.insert(behind);
    let session = cluster.greet(leader);
    cluster.mounts.clear();
    cluster.mount_says(behind, ToNode::Hello { session: Some(session), client: String::new(), nonce: 4, link: 1 });
    let beats = |(from, to, m): &(NodeId, NodeId, ToPeer)| {
        (*from == leader && *to == behind && matches!(m, ToPeer::Beat { .. })).then(|| m.clone())
    };
    let late = cluster.sent.iter().find_map(beats).expect("a beat");
    cluster.peers.get_mut(&behind).unwrap().inbox.push(Input::Peer { from: leader, message: late });
    cluster.settle();
    assert_eq!(cluster.mounts, []);
    cluster.cut.clear();
    cluster.pass(3_000_000);
    let of_it = |(node, _, m): &(NodeId, Conn, ToMount)| match m {
        ToMount::Welcome { session: s, .. } => *node == behind && *s == session,
        ToMount::Gone { .. } => panic!("its session lives"),
        _ => false,
    };
    assert!(cluster.mounts.iter().any(of_it), "{:?}", cluster.mounts);
}

/// Seed 7085742: what a mount had said on a stream that it had left came behind what it said on the next one.
#[test]
fn a_greeting_on_an_old_connection_that_comes_late_takes_nothing_over() {
    let mut cluster = Cluster::formed();
    let node = cluster.follower();
    let session = cluster.greet(node);
    let hello = |link| ToNode::Hello { session: Some(session), client: "host:/mnt".into(), nonce: 4, link };
    cluster.says_at(node, Conn(12), hello(3));
    cluster.says_at(node, Conn(11), hello(2));
    cluster.mounts.clear();
    cluster.says_at(node, Conn(12), ToNode::Commands(vec![Cluster::mkdir(session, 1)]));
    cluster.pass(200_000);
    let to: BTreeSet<Conn> = cluster.mounts.iter().map(|(_, conn, _)| *conn).collect();
    assert_eq!(to, BTreeSet::from([Conn(12)]));
    assert_eq!(cluster.replies(), BTreeSet::from([1]));
}

#[test]
fn a_connection_that_greets_anew_has_nothing_to_do_with_the_session_before() {
    let mut cluster = Cluster::formed();
    let node = cluster.follower();
    let old = cluster.greet(node);
    cluster.mount_says(node, ToNode::Hello { session: None, client: "host:/mnt".into(), nonce: 5, link: 1 });
    for _ in 0..8 {
        cluster.mount_says(node, ToNode::Alive);
        cluster.pass(2_000_000);
    }
    let sessions: Vec<SessionId> = cluster.machine(node).status().sessions.iter().map(|s| s.session).collect();
    let [new] = sessions[..] else { panic!("{sessions:?}") };
    assert!(new != old, "the old one ended, the new one lives");
    assert!(!cluster.mounts.iter().any(|(_, _, m)| *m == ToMount::Gone { session: old }));
    cluster.mount_says(node, ToNode::Commands(vec![Cluster::mkdir(new, 1)]));
    cluster.pass(100_000);
    assert_eq!(cluster.replies(), BTreeSet::from([1]));
}

#[test]
fn a_leader_that_ends_is_followed_at_once() {
    let mut cluster = Cluster::formed();
    let old = cluster.leader();
    let before = cluster.machine(old).status().term;
    cluster.peers.get_mut(&old).unwrap().inbox.push(Input::StepDown);
    cluster.settle();
    assert!(!cluster.reads(old), "it answers nothing any more");
    cluster.cut.insert(old);
    cluster.pass(700_000);
    let new = cluster.leader();
    assert!(cluster.machine(new).status().term > before);
}

/// What the old one gave out is used until it is over; nobody leads before.
#[test]
fn copies_of_a_leader_that_ends_are_waited_for() {
    let mut cluster = Cluster::formed();
    let old = cluster.leader();
    cluster.attach_at(old, Conn(31));
    assert_eq!(cluster.asks_about(old, Conn(31), Ino::ROOT), 1, "a copy");
    cluster.says_at(old, Conn(31), ToNode::Renew { sent: 1 });
    let until = cluster.machine(old).copies_until;
    assert!(until > cluster.now);
    cluster.peers.get_mut(&old).unwrap().inbox.push(Input::StepDown);
    cluster.settle();
    cluster.cut.insert(old);
    while cluster.now < until {
        cluster.pass(TICK_US);
        assert!(cluster.peers.iter().all(|(id, p)| *id == old || !p.machine.is_leader() || cluster.now >= until));
    }
    cluster.pass(1_000_000);
    cluster.leader();
}
