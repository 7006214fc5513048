//! Nodes of two builds in one cluster.

use super::super::version::{decode_batch, newest_of};
use super::*;
use crate::types::MemberChange;
use raft::Storage;

/// A build that speaks one version more than the first one.
const SECOND_BUILD: Speaks = Speaks { oldest: 10, newest: 11 };
const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);

/// What a node has on its disk.
#[derive(Debug, PartialEq)]
struct Kept {
    start: (u64, u64),
    entries: Vec<Entry>,
    hard_state: HardState,
    state: BTreeMap<Key, Value>,
}

fn kept(peer: &Peer) -> Kept {
    let log = peer.machine.raw.store();
    Kept {
        start: (log.first_index().unwrap() - 1, 0),
        entries: log.all().cloned().collect(),
        hard_state: log.hard_state.clone(),
        state: peer.disk.0.read().unwrap().clone(),
    }
}

fn raises(entry: &Entry) -> bool {
    !entry.data.is_empty() && decode_batch(&entry.data).is_ok_and(|(_, batch)| batch.items.contains(&Item::Raise(11)))
}

impl Cluster {
    /// Ends a node and starts it with this build, on the disk that it has.
    fn restarts(&mut self, id: NodeId, build: Speaks) -> Result<(), Unfit> {
        let stopped = self.stopped.remove(&id).map(|(peer, _)| peer);
        let old = self.peers.remove(&id).or(stopped).unwrap();
        self.builds.insert(id, build);
        let log = old.machine.raw.store();
        let recovered = Recovered {
            imported_over: None,
            member: old.machine.join.votes(),
            hard_state: log.hard_state.clone(),
            start: (log.first_index().unwrap() - 1, log.term(log.first_index().unwrap() - 1).unwrap()),
            entries: log.all().cloned().collect(),
            base: old.disk.clone(),
            stored: log.stored,
        };
        let config = self.config(id, old.machine.members.clone(), false);
        match NodeMachine::new(config, recovered, at(self.now)) {
            Ok(machine) => {
                let peer = Peer { machine, disk: old.disk, inbox: Vec::new(), unsynced: Vec::new() };
                self.peers.insert(id, peer);
                for other in self.peers.values_mut() {
                    other.inbox.push(Input::PeerLost(id));
                }
                self.pass(4_000_000);
                Ok(())
            }
            Err(why) => {
                let Unfit::Unspoken(unspoken) = why else { panic!("{why}") };
                self.stopped.insert(id, (old, unspoken));
                Err(why)
            }
        }
    }

    /// A mount comes, and a command of its is carried out by everybody who is there.
    fn carries_out(&mut self, nonce: u64) {
        let via = self.follower();
        self.mounts.clear();
        self.mount_says(via, ToNode::Hello { session: None, client: "host:/mnt".into(), nonce, link: nonce });
        self.pass(1_000_000);
        let welcome = |(_, _, message): &(NodeId, Conn, ToMount)| match message {
            ToMount::Welcome { session, .. } => Some(*session),
            _ => None,
        };
        let session = self.mounts.iter().find_map(welcome).expect("a welcome");
        let before = self.machine(via).status().inodes;
        self.mount_says(via, ToNode::Commands(vec![Cluster::mkdir_named(session, 1, &format!("d{nonce}"))]));
        self.pass(1_000_000);
        for (id, peer) in self.peers.iter().filter(|(id, _)| !self.cut.contains(id)) {
            assert_eq!(peer.machine.status().inodes, before + 1, "node {id}");
        }
    }

    fn in_force(&self) -> BTreeSet<Option<u32>> {
        self.peers.iter().filter(|(id, _)| !self.cut.contains(id)).map(|(_, peer)| peer.machine.in_force).collect()
    }

    /// The versions of the entries in a node's log, in order, each once.
    fn written_by(&self, id: NodeId) -> Vec<u32> {
        let log = self.machine(id).raw.store();
        let versions = log.all().filter(|entry| !entry.data.is_empty()).map(|entry| newest_of([entry]));
        let mut versions: Vec<u32> = versions.collect();
        versions.dedup();
        versions
    }

    /// Three nodes of the second build, with 11 in force.
    fn raised() -> Cluster {
        let mut cluster = Cluster::formed();
        for id in [ONE, TWO, THREE] {
            cluster.restarts(id, SECOND_BUILD).unwrap();
        }
        assert_eq!(cluster.in_force(), BTreeSet::from([Some(11)]));
        cluster
    }
}

#[test]
fn nodes_get_a_newer_build_in_turns_while_commands_go_on() {
    let mut cluster = Cluster::formed();
    assert_eq!(cluster.in_force(), BTreeSet::from([Some(10)]));
    cluster.carries_out(1);
    for (number, id) in [(2, TWO), (3, THREE)] {
        cluster.restarts(id, SECOND_BUILD).unwrap();
        cluster.carries_out(number);
        assert_eq!(cluster.in_force(), BTreeSet::from([Some(10)]), "node 1 does not speak 11");
    }
    // One that is put back works as before.
    cluster.restarts(TWO, FIRST_BUILD).unwrap();
    cluster.carries_out(4);
    cluster.restarts(TWO, SECOND_BUILD).unwrap();
    assert_eq!(cluster.written_by(TWO), [10]);
    cluster.restarts(ONE, SECOND_BUILD).unwrap();
    assert_eq!(cluster.in_force(), BTreeSet::from([Some(11)]));
    cluster.carries_out(5);
    assert_eq!(cluster.written_by(ONE), [10, 11]);
    assert_eq!(cluster.machine(ONE).raw.store().all().filter(|entry| raises(entry)).count(), 1, "once is enough");
}

#[test]
fn a_leader_of_the_old_build_follows_one_of_the_new_and_the_other_way_round() {
    let mut cluster = Cluster::formed();
    let mut led = BTreeSet::new();
    cluster.restarts(THREE, SECOND_BUILD).unwrap();
    for number in 1..=12 {
        let leader = cluster.leader();
        led.insert(cluster.builds.get(&leader).is_some_and(|build| *build == SECOND_BUILD));
        cluster.carries_out(number);
        cluster.peers.get_mut(&leader).unwrap().inbox.push(Input::StepDown);
        cluster.pass(4_000_000);
    }
    assert_eq!(led.len(), 2, "both builds have led");
    assert_eq!(cluster.in_force(), BTreeSet::from([Some(10)]));
    assert_eq!(cluster.written_by(THREE), [10]);
}

#[test]
fn nothing_is_raised_while_a_node_is_not_heard_of_whatever_it_spoke_before() {
    for had in [FIRST_BUILD, SECOND_BUILD] {
        let mut cluster = Cluster::formed();
        let lost = cluster.follower();
        cluster.restarts(lost, had).unwrap();
        cluster.cut.insert(lost);
        let there: Vec<NodeId> = cluster.peers.keys().copied().filter(|id| *id != lost).collect();
        for id in there {
            cluster.restarts(id, SECOND_BUILD).unwrap();
        }
        cluster.pass(AWAY_AFTER_US + 5_000_000);
        assert!(cluster.machine(cluster.leader()).members.nodes[&lost].away);
        assert_eq!(cluster.in_force(), BTreeSet::from([Some(10)]), "it may come back with another build");
        cluster.cut.clear();
        cluster.pass(5_000_000);
        assert_eq!(cluster.in_force(), BTreeSet::from([Some(had.newest)]), "it is there");
        cluster.restarts(lost, SECOND_BUILD).unwrap();
        assert_eq!(cluster.in_force(), BTreeSet::from([Some(11)]));
    }
}

#[test]
fn a_node_that_is_to_join_is_waited_for() {
    let mut cluster = Cluster::formed();
    for id in [ONE, TWO] {
        cluster.restarts(id, SECOND_BUILD).unwrap();
    }
    let leader = cluster.leader();
    let change = MemberChange::Join { address: "new:1".into() };
    cluster.peers.get_mut(&leader).unwrap().inbox.push(Input::ChangeMembers { request: 1, change });
    cluster.pass(1_000_000);
    cluster.restarts(THREE, SECOND_BUILD).unwrap();
    assert_eq!(cluster.in_force(), BTreeSet::from([Some(10)]), "nobody knows what node 4 speaks");
    cluster.builds.insert(NodeId(4), SECOND_BUILD);
    let members = cluster.machine(cluster.leader()).members.clone();
    cluster.start_among(NodeId(4), members, false);
    cluster.pass(5_000_000);
    assert_eq!(cluster.in_force(), BTreeSet::from([Some(11)]));
}

#[test]
fn a_node_put_back_after_the_raise_stops_by_name_and_the_others_go_on() {
    let mut cluster = Cluster::raised();
    cluster.carries_out(1);
    let old = cluster.follower();
    let before = kept(&cluster.peers[&old]);
    let Err(Unfit::Unspoken(unspoken)) = cluster.restarts(old, FIRST_BUILD) else { panic!("it started") };
    assert_eq!((unspoken.found, unspoken.speaks), (11, FIRST_BUILD));
    assert!(unspoken.to_string().contains("install the newer baton again"), "{unspoken}");
    assert_eq!(kept(&cluster.stopped[&old].0), before);
    cluster.carries_out(2);
    cluster.restarts(old, SECOND_BUILD).unwrap();
    cluster.carries_out(3);
}

#[test]
fn a_state_of_a_later_version_is_refused_though_the_log_says_nothing_of_it() {
    let cluster = Cluster::raised();
    let peer = &cluster.peers[&TWO];
    let log = peer.machine.raw.store();
    assert!(peer.disk.0.read().unwrap().contains_key(&Key::Version));
    let recovered = || Recovered {
        start: log.stored,
        stored: log.stored,
        member: true,
        hard_state: log.hard_state.clone(),
        ..empty(&peer.disk)
    };
    let config = |speaks| Config { speaks, ..cluster.config(TWO, peer.machine.members.clone(), false) };
    let refused = NodeMachine::new(config(FIRST_BUILD), recovered(), at(cluster.now)).map(|_| ());
    let unspoken = Unspoken { what: Written::State, found: 11, speaks: FIRST_BUILD };
    assert_eq!(refused, Err(Unfit::Unspoken(unspoken)));
    assert!(NodeMachine::new(config(SECOND_BUILD), recovered(), at(cluster.now)).is_ok());
    // One of a cluster whose version was never written down is of a build from before.
    peer.disk.0.write().unwrap().remove(&Key::Version);
    let refused = NodeMachine::new(config(FIRST_BUILD), recovered(), at(cluster.now)).map(|_| ());
    assert!(matches!(refused, Err(Unfit::Unspoken(Unspoken { found: 9, .. }))), "{refused:?}");
}

/// It was put back to the old build in the moment of the raise, of which it has not heard.
#[test]
fn a_node_of_the_old_build_takes_nothing_of_a_later_version_from_a_leader() {
    let mut cluster = Cluster::formed();
    for id in [ONE, TWO, THREE] {
        cluster.restarts(id, SECOND_BUILD).unwrap_or_else(|why| panic!("{why}"));
    }
    // What it had before any of this was raised.
    let late = cluster.follower();
    let (log, disk) = {
        let peer = &cluster.peers[&late];
        let log: Vec<Entry> = peer.machine.raw.store().all().cloned().collect();
        (log, Arc::new(Disk::default()))
    };
    let raise = log.iter().position(raises).expect("it was raised");
    cluster.carries_out(1);
    let cases =
        [(raise + 1, "has the entry that raises it"), (raise, "has what is before it"), (raise - 1, "has less")];
    for (ends, at_entry) in cases {
        let entries = log[..ends].to_vec();
        let last = entries.last().unwrap();
        let hard_state = HardState { term: last.term, commit: last.index, ..HardState::default() };
        let recovered = Recovered { member: true, hard_state, entries, ..empty(&disk) };
        cluster.builds.insert(late, FIRST_BUILD);
        let config = cluster.config(late, cluster.machine(cluster.leader()).members.clone(), false);
        let machine = NodeMachine::new(config, recovered, at(cluster.now)).unwrap();
        let peer = Peer { machine, disk: disk.clone(), inbox: Vec::new(), unsynced: Vec::new() };
        cluster.peers.insert(late, peer);
        cluster.sent.clear();
        // Its place in the log is news to who leads.
        let leader = cluster.leader();
        let progress = cluster.peers.get_mut(&leader).unwrap().machine.raw.raft.mut_prs().get_mut(late.0).unwrap();
        progress.become_probe();
        (progress.matched, progress.next_idx) = (0, last_index(&log[..ends]) + 1);
        cluster.pass(4_000_000);
        let (stopped, unspoken) = cluster.stopped.remove(&late).unwrap_or_else(|| panic!("it goes on at {at_entry}"));
        assert_eq!(unspoken.found, 11, "{at_entry}");
        if ends > raise {
            assert_eq!(unspoken.what, Written::Entry(log[raise].index), "it acts on what it cannot");
        }
        let unknown = stopped.machine.raw.store().all().find(|entry| newest_of([*entry]) > 10);
        assert_eq!(unknown, None, "it took what it cannot read");
        let acknowledged = cluster.sent.iter().filter_map(|(from, _, message)| match message {
            ToPeer::Raft(message) if *from == late && !message.reject => Some(message.index),
            _ => None,
        });
        let first_unknown = log.iter().find(|entry| newest_of([*entry]) > 10).map_or(u64::MAX, |entry| entry.index);
        assert!(acknowledged.max().unwrap_or(0) < first_unknown, "it acknowledged what it cannot read");
    }
    cluster.carries_out(2);
}

fn last_index(entries: &[Entry]) -> u64 {
    entries.last().map_or(0, |entry| entry.index)
}

#[test]
fn a_fetched_state_of_a_later_version_is_not_taken() {
    let mut cluster = Cluster::raised();
    cluster.carries_out(1);
    let late = cluster.follower();
    cluster.peers.remove(&late);
    cluster.builds.insert(late, FIRST_BUILD);
    cluster.state_is_fetched = true;
    for peer in cluster.peers.values_mut() {
        let stored = peer.machine.raw.store().stored;
        peer.machine.keep_log_tail(0);
        peer.inbox.push(Input::Checkpointed(stored.0));
    }
    cluster.settle();
    let members = cluster.machine(cluster.leader()).members.clone();
    cluster.start_among(late, members, false);
    cluster.pass(15_000_000);
    let (peer, unspoken) = &cluster.stopped[&late];
    assert_eq!((unspoken.what, unspoken.found), (Written::State, 11));
    assert!(peer.machine.raw.store().is_empty());
}

#[test]
fn what_a_node_keeps_names_its_newest_version_before_it_is_there() {
    let mut cluster = Cluster::formed();
    let leader = cluster.leader();
    let follower = cluster.follower();
    for id in [ONE, TWO, THREE] {
        cluster.restarts(id, SECOND_BUILD).unwrap();
    }
    let last = cluster.machine(follower).raw.store().last();
    let batch = Batch { stamp: Stamp::default(), items: vec![Item::EndSession(SessionId(77))] };
    let term = cluster.machine(follower).raw.raft.term + 1;
    let entry = |version| Entry {
        index: last + 1,
        term,
        data: encode_batch(version, &batch).unwrap().into(),
        ..Entry::default()
    };
    let machine = &mut cluster.peers.get_mut(&follower).unwrap().machine;
    machine.keeps = 10; // as if 11 were news
    machine.promised_until = 0;
    let mut append = Message { from: leader.0, to: follower.0, term, index: last, ..Message::default() };
    append.set_msg_type(MessageType::MsgAppend);
    append.log_term = machine.raw.store().term_of(last).unwrap();
    append.entries = vec![entry(11)].into();
    let message = ToPeer::Raft(Box::new(append));
    let outputs = machine.step(at(cluster.now), [Input::Peer { from: leader, message }]);
    let at_of = |is: fn(&Output) -> bool| outputs.iter().position(is).unwrap_or_else(|| panic!("{outputs:?}"));
    let keeps = at_of(|output| matches!(output, Output::Keeps(11)));
    let persist = at_of(|output| matches!(output, Output::Persist(write) if !write.entries.is_empty()));
    assert!(keeps < persist);
}
