//! The machine's only owner: takes what happened, steps, carries out what comes back.

use crate::Clock;
use crate::disk::Disk;
use crate::handle::{Event, Events, NotBroken, NotChanged, Sink};
use crate::merging;
use crate::peers::Peers;
use crate::peers::grpc::Identity;
use crate::slices::Slices;
use crate::storage::{DataFolder, FolderError, StorageError};
use crate::waits::Watch;
use baton_core::node::{Conn, Frozen, Input, NodeMachine, Output, TICK_US, Unspoken};
use baton_core::session::Reply;
use baton_core::types::{Members, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

/// Events taken before the machine steps: what comes together is decided, logged and sent together.
const EVENTS_AT_ONCE: usize = 1024;
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a node stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(
        "{0}. Nothing is lost while the other nodes live: move this node's data folder away and start it with an empty one"
    )]
    Machine(String),
    #[error("this node stops: {0}")]
    Unspoken(Unspoken),
    #[error("a disk failed; the message before this one says which")]
    Disk,
    #[error(
        "this node was removed from its cluster. To use the machine in a cluster again, start a node with --join and an empty \
         data folder"
    )]
    Removed,
}

pub(crate) struct Runner {
    pub(crate) id: NodeId,
    pub(crate) machine: NodeMachine,
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    /// The other end: what was done for the machine beside it comes back this way.
    pub(crate) tell: Events,
    pub(crate) disk: Disk,
    pub(crate) peers: Arc<dyn Peers>,
    /// What is sent has left when `send` returns.
    pub(crate) sends_at_once: bool,
    pub(crate) slices: Arc<Slices>,
    pub(crate) conns: BTreeMap<Conn, Sink>,
    /// Orders to break locks that were proposed, and who waits for what comes of them.
    pub(crate) freezing: BTreeMap<u64, oneshot::Sender<Option<Frozen>>>,
    pub(crate) breaking: BTreeMap<u64, oneshot::Sender<Result<Reply, NotBroken>>>,
    /// The same for orders to change the list of nodes.
    pub(crate) changing: BTreeMap<u64, oneshot::Sender<Result<NodeId, NotChanged>>>,
    pub(crate) clock: Clock,
    pub(crate) folder: DataFolder,
    pub(crate) identity: Identity,
    /// Told to stop from outside, not by a failing disk.
    pub(crate) asked_to_stop: Arc<std::sync::atomic::AtomicBool>,
}

impl Runner {
    pub(crate) async fn run(mut self) -> Result<(), Stopped> {
        let mut ticks = tokio::time::interval(Duration::from_micros(TICK_US));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let mut watch = Watch::default();
        let mut batch = Vec::with_capacity(EVENTS_AT_ONCE);
        let outcome = loop {
            let mut inputs = Vec::new();
            tokio::select! {
                taken = self.events.recv_many(&mut batch, EVENTS_AT_ONCE) => if taken == 0 { break Ok(()) },
                _ = ticks.tick() => inputs.push(Input::Tick),
                _ = looks.tick() => {
                    inputs.extend(self.space());
                    watch.look(&self.machine, self.clock.mono());
                }
            }
            if let Some(end) = self.sort(&mut batch, &mut inputs) {
                self.hand_lead_over().await;
                break end;
            }
            if let Err(stopped) = self.step(inputs) {
                break Err(stopped);
            }
        };
        self.disk.stop();
        outcome
    }

    /// The others elect somebody at once when they hear that this node ends, and else only when they miss it.
    async fn hand_lead_over(&mut self) {
        const ON_ITS_WAY: Duration = Duration::from_millis(30);
        if self.machine.leads() && self.step(vec![Input::StepDown]).is_ok() {
            tokio::time::sleep(ON_ITS_WAY).await;
        }
    }

    /// Splits what came into the machine's inputs and the rest; answers how it ends, if it does.
    fn sort(&mut self, batch: &mut Vec<Event>, inputs: &mut Vec<Input>) -> Option<Result<(), Stopped>> {
        let mut end = None;
        for event in batch.drain(..) {
            match event {
                Event::Input(input) => {
                    if let Input::MountLost(conn) = &input {
                        self.conns.remove(conn);
                    }
                    inputs.push(input);
                }
                Event::Streamed { input, room } => {
                    drop(room);
                    inputs.push(input);
                }
                Event::Attach { conn, sink } => {
                    self.conns.insert(conn, sink);
                }
                Event::Status(tell) => {
                    let _gone = tell.send(self.machine.status());
                }
                Event::Copies { of, max, tell } => {
                    let _gone = tell.send(self.machine.copies(of, max));
                }
                Event::Tokens { from, max, tell } => {
                    let _gone = tell.send(self.machine.tokens(from, max));
                }
                Event::Freeze { request, at, tell } => {
                    self.freezing.retain(|_, tell| !tell.is_closed());
                    self.freezing.insert(request, tell);
                    inputs.push(Input::Freeze { request, at });
                }
                Event::BreakLocks { order, tell } => {
                    if self.machine.leads() {
                        self.breaking.insert(order.request, tell);
                        inputs.push(Input::BreakLocks(order));
                    } else {
                        let _gone = tell.send(Err(NotBroken::NotLeading));
                    }
                }
                Event::ChangeMembers { request, change, tell } => {
                    if self.machine.leads() {
                        self.changing.insert(request, tell);
                        inputs.push(Input::ChangeMembers { request, change });
                    } else {
                        let _gone = tell.send(Err(NotChanged::NotLeading));
                    }
                }
                Event::Overtaken(before) => {
                    let (slices, after) = (self.slices.clone(), self.disk.state());
                    self.slices.bulk.spawn_blocking(move || slices.note_what_went(&*before, &*after));
                }
                Event::AnotherBuild(error) => end = Some(Err(error.into())),
                Event::Removed => end = Some(Err(Stopped::Removed)),
                Event::Stop if self.asked_to_stop.load(std::sync::atomic::Ordering::SeqCst) => end = Some(Ok(())),
                Event::Stop => end = Some(Err(Stopped::Disk)),
            }
        }
        end
    }

    fn space(&self) -> Option<Input> {
        self.folder.space().ok().map(Input::Space)
    }

    fn step(&mut self, mut inputs: Vec<Input>) -> Result<(), Stopped> {
        loop {
            let now = self.clock.now();
            let outputs = match (inputs.is_empty(), self.machine.is_behind()) {
                (false, _) => self.machine.step(now, inputs.drain(..)),
                (true, true) => self.machine.catch_up(now),
                (true, false) => return Ok(()),
            };
            for output in outputs {
                self.carry_out(output, &mut inputs)?;
            }
            if !self.machine.leads() {
                // What was proposed may have been lost; if it was not, this node may hear of it late, or never.
                for (_, tell) in std::mem::take(&mut self.breaking) {
                    let _gone = tell.send(Err(NotBroken::LostLead));
                }
                for (_, tell) in std::mem::take(&mut self.changing) {
                    let _gone = tell.send(Err(NotChanged::LostLead));
                }
            }
        }
    }

    /// Nothing of this version may be on the disk before its folder names it. Where there is no room for that, all waits for it.
    fn keep_version(&mut self, version: u32) -> Result<(), FolderError> {
        const AGAIN: Duration = Duration::from_millis(200);
        loop {
            match self.folder.set_version(version) {
                Err(error) if error.is_full() && !self.asked_to_stop.load(std::sync::atomic::Ordering::SeqCst) => {
                    tracing::error!(version, "no room to write down what is in force: {error}");
                    std::thread::sleep(AGAIN);
                }
                outcome => return outcome,
            }
        }
    }

    /// For the next start, to find the others. Where there is no room for it, what is there from before has to do.
    fn keep_members(&self, members: &Members) -> Result<(), Stopped> {
        if self.folder.members().ok().flatten().as_ref() == Some(members) {
            return Ok(());
        }
        match self.folder.set_members(members) {
            Err(error) if error.is_full() => {
                tracing::warn!("the list of nodes could not be written down: {error}");
                Ok(())
            }
            outcome => Ok(outcome?),
        }
    }

    fn carry_out(&mut self, output: Output, inputs: &mut Vec<Input>) -> Result<(), Stopped> {
        match output {
            Output::Peer { to, message } => self.peers.send(to, message),
            Output::Mount { conn, message } => {
                if let Some(sink) = self.conns.get(&conn) {
                    sink(message);
                }
            }
            // A follower's leader waits for it: at once, then. So may a leader whose messages have already reached their
            // receivers, in the same process; over a network its messages leave only when this thread is free again, and
            // all would sync one after the other.
            Output::Persist(write) => {
                let at_once = self.sends_at_once || !self.machine.leads();
                if !at_once || !self.disk.write_log_now(&write)? {
                    self.disk.queue_log(write);
                } else {
                    inputs.push(Input::Persisted(write.number));
                }
            }
            Output::Store { index, term, changes, soon } => self.disk.store(index, term, changes, soon),
            Output::Compact { index, term } => self.disk.compact(index, term),
            Output::FetchSnapshot { from } => {
                tracing::info!(%from, "this node is far behind: fetching the whole state");
                self.disk.import(self.peers.snapshot(from));
            }
            Output::BecomeMember => {
                self.folder.set_member()?;
                inputs.push(Input::MemberRecorded);
            }
            Output::Cluster(cluster) => {
                self.folder.set_cluster(cluster)?;
                let _known = self.identity.cluster.set(cluster);
            }
            Output::DropSlices(ids) => {
                let own = self.slices.own.clone();
                self.slices.bulk.spawn(async move { own.delete(ids).await });
            }
            Output::SpareCopy(id) => self.slices.note_spare(id),
            Output::Merge(order) => {
                self.slices.bulk.spawn(merging::carry_out(order, self.slices.clone(), self.tell.clone()));
            }
            Output::Frozen { request, state } => {
                if let Some(tell) = self.freezing.remove(&request) {
                    let _gone = tell.send(state);
                }
            }
            Output::Broke { request, reply } => {
                if let Some(tell) = self.breaking.remove(&request) {
                    let _gone = tell.send(Ok(reply));
                }
            }
            Output::MembersChanged { request, outcome } => {
                if let Some(tell) = self.changing.remove(&request) {
                    let _gone = tell.send(outcome.map_err(NotChanged::Refused));
                }
            }
            Output::Members(members) => {
                self.keep_members(&members)?;
                self.identity.set_members(&members);
                self.peers.members(&members);
                self.slices.set_members(members.clone());
                if members.was_removed(self.id) {
                    return Err(Stopped::Removed);
                }
            }
            Output::Keeps(version) => self.keep_version(version)?,
            Output::InForce(version) => {
                tracing::info!(version, "in force in the cluster");
                self.identity.set_in_force(version);
            }
            Output::StopUnspoken(unspoken) => return Err(Stopped::Unspoken(unspoken)),
            Output::Stop(why) => {
                if let Some(error) = self.disk.state_of_another_build() {
                    return Err(error.into());
                }
                if self.disk.state_failed() {
                    return Err(Stopped::Disk);
                }
                self.folder.ask_for_rebuild()?;
                return Err(Stopped::Machine(why));
            }
        }
        Ok(())
    }
}
