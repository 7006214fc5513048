//! # A node's tokens: what it may let its mounts change, and what it may answer for
//!
//! Every file and directory has one token, which moves along a tree of the nodes by Raymond's algorithm ([`crate::token`]).
//! The leader is the tree's root: what nobody has touched it may change at once. The other nodes hold what their mounts use:
//!
//! ```text
//!   leader (root) ---- hub ---- near          a mount at `near` asks for the third time:  near wants the object shared
//!      |                         |            a mount at `near` changes what near holds:  near wants it exclusively
//!    mounts                    mounts         nobody here holds anything of it:           the command travels to the root
//! ```
//! * **Shared:** the node answers questions about the object from its own state and gives its mounts copies ([`super::copies`]).
//! * **Exclusive:** the node lets commands of its mounts in: it takes its own mounts' copies back and sends the command to the
//!   leader as *let in*. The leader puts it into the log without asking anybody. All that a command touches is held at once,
//!   and taken in the order of the inode numbers, here as at the root, so that nobody waits in a circle. The use ends when the
//!   command has been carried out here.
//! * **Travelling:** the command of a node that holds nothing of what it touches is let in by the root, under the root's own
//!   tokens. So the first change costs one way, as it would without tokens; and what several nodes change in turn stays at the
//!   root, because a node that had to give an object up leaves it alone for a while, longer each time ([`Tokens::is_quiet`]).
//!
//! What a session sent on its way must not be overtaken by what follows under tokens, which might wait for each other: while
//! a command of a session travels, those behind it travel too.
//!
//! **Views.** The tree and everything in it belong to one view: a term and a number. The leader makes a new one when a node
//! went or came or was started anew ([`super::lead`]): it lets nobody's lease be renewed, waits until all are over, then begins with an empty tree.
//! Nothing is to be recovered: all that was held and given is over by then, like at the end of a term. Messages and commands of
//! another view are dropped. What was let in under the old view is in the log before the new one begins.
//!
//! **Leases.** A node relies on what it holds for as long as the leader said when it asked last, at most for as long as the
//! leader is sure to lead; its mounts' leases end before its own. (To let commands in it needs no lease: the leader looks at
//! the view.)
//!
//! Invariants:
//! * a mount's copy is of an object that its node holds, while its lease lasts;
//! * a command is proposed only while the node that let it in holds all that it touches exclusively, and until it was applied
//!   there;
//! * what is held is used only when the state here has reached the index that came with it.

use super::NodeMachine;
use super::edges::Edge;
use super::messages::{Seat, ToPeer, ViewId};
use crate::token::{Mode, Output, Row, Vertex, Wanted};
use crate::types::{Ino, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// A node's lease is renewed this often, for this long after anybody had use for it.
const RENEW_US: u64 = 150_000;
const ACTIVE_US: u64 = 3_000_000;
/// What a node's clock may be slow by, against the leader's: a tenth.
const CLOCK_MARGIN: u64 = 10;
/// What was not used for so long is let go.
const IDLE_US: u64 = 10_000_000;
const SWEEP_US: u64 = 1_000_000;
/// Objects that a node holds at most, of its own will.
const HOLDS_MAX: usize = 1_000_000;
/// Messages in one parcel.
pub const PARCEL_MAX: usize = 4_096;
/// For so long a node leaves an object alone that it had to give up; twice as long with each time, up to the longest.
const QUIET_US: u64 = 1_000_000;
const QUIET_DOUBLINGS: u32 = 5;

/// A node's place in the tree of one view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) id: ViewId,
    /// Every node in the view but the root.
    pub(super) seats: BTreeMap<NodeId, Seat>,
}

/// When an object that had to be given up may be wanted again, and how often that happened of late.
struct Quiet {
    until: u64,
    times: u32,
}

pub(super) struct Tokens {
    place: Place,
    /// Whether this node is in the tree at all.
    member: bool,
    vertex: Vertex<NodeId>,
    edges: BTreeMap<NodeId, Edge>,
    /// Until when (on this node's clock) what is held may be relied on. The root relies on the leader's lease instead.
    until: u64,
    asked_at: u64,
    active_until: u64,
    /// Exclusive grants that the commands which wait for them have not taken yet.
    granted: BTreeMap<Ino, u32>,
    /// Exclusive wants whose commands are gone.
    unwanted: BTreeMap<Ino, u32>,
    /// Shared wants under way.
    sharing: BTreeSet<Ino>,
    /// What is to be given up, down to what may be kept.
    revoking: BTreeMap<Ino, Option<Mode>>,
    used: BTreeMap<Ino, u64>,
    quiet: BTreeMap<Ino, Quiet>,
    swept: u64,
    came: u64,
    went: u64,
    refused: u64,
}

/// What a node can say of its tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenStatus {
    /// The term and the number of the view; the number is 0 while the leader is alone in its tree.
    pub view: (u64, u64),
    /// The tree: of each node but the root the next one towards it.
    pub parents: BTreeMap<NodeId, NodeId>,
    pub held: u64,
    /// Objects of which this node knows anything.
    pub known: u64,
    /// What came to this node, and what it had to give up, in this view.
    pub came: u64,
    pub went: u64,
    /// What neighbours said that they cannot have said: never, unless one of them is not what it should be.
    pub refused: u64,
    /// What it is to give up and still uses.
    pub leaving: u64,
}

impl Default for Tokens {
    /// Out of every tree.
    fn default() -> Tokens {
        Tokens::new(NodeId(0), Place { id: ViewId { term: 0, number: 0 }, seats: BTreeMap::new() }, 0, None)
    }
}

impl Tokens {
    /// A node's place in a view; `root` is who leads it.
    pub(super) fn new(me: NodeId, place: Place, life: u64, root: Option<NodeId>) -> Tokens {
        let parent = place.seats.get(&me).filter(|seat| seat.life == life).map(|seat| seat.parent);
        let member = parent.is_some() || root == Some(me);
        let mut vertex = Vertex::new(parent);
        let below = place.seats.iter().filter(|(_, seat)| member && seat.parent == me).map(|(node, _)| *node);
        let neighbours: Vec<NodeId> = below.chain(parent).collect();
        for node in &neighbours {
            vertex.edge_added(*node);
        }
        Tokens {
            place,
            member,
            vertex,
            edges: neighbours.into_iter().map(|node| (node, Edge::default())).collect(),
            until: 0,
            asked_at: 0,
            active_until: 0,
            granted: BTreeMap::new(),
            unwanted: BTreeMap::new(),
            sharing: BTreeSet::new(),
            revoking: BTreeMap::new(),
            used: BTreeMap::new(),
            quiet: BTreeMap::new(),
            swept: 0,
            came: 0,
            went: 0,
            refused: 0,
        }
    }

    /// The root of a tree, whose untouched objects are as they are at this index.
    pub(super) fn root(me: NodeId, place: Place, at: u64) -> Tokens {
        let mut tokens = Tokens::new(me, place, 0, Some(me));
        tokens.vertex.begin_at(at);
        tokens
    }

    pub(super) fn view(&self) -> ViewId {
        self.place.id
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn is_member(&self) -> bool {
        self.member
    }

    /// Whether anything of this is held here, and not about to go.
    pub(super) fn holds(&self, ino: Ino) -> bool {
        self.vertex.held(ino).is_some() && !self.revoking.contains_key(&ino)
    }

    /// Whether the state here is as the token says.
    pub(super) fn is_current(&self, ino: Ino, applied: u64) -> bool {
        self.vertex.stamp(ino) <= applied
    }

    /// Whether copies of this may be given out: what is not held is wanted for the next time, unless it had to be given up
    /// lately.
    pub(super) fn share(&mut self, ino: Ino, now: u64) -> bool {
        if !self.member || self.revoking.contains_key(&ino) {
            return false;
        }
        if self.vertex.held(ino).is_some() {
            self.used.insert(ino, now);
            return true;
        }
        if self.sharing.contains(&ino) || self.is_quiet(ino, now) || self.used.len() >= HOLDS_MAX {
            return false;
        }
        match self.vertex.want(ino, Mode::Shared) {
            Wanted::Granted { .. } => {
                self.shared(ino, 1, now);
                true
            }
            Wanted::Queued => {
                self.sharing.insert(ino);
                false
            }
        }
    }

    /// At the root of a tree in which nobody else has anything.
    pub(super) fn hold(&mut self, ino: Ino, now: u64) {
        if let Wanted::Granted { .. } = self.vertex.want(ino, Mode::Shared) {
            self.shared(ino, 1, now);
        }
    }

    /// Shared uses last no longer than the look at them: what stays is the hold.
    fn shared(&mut self, ino: Ino, users: u32, now: u64) {
        for _ in 0..users {
            let _never = self.vertex.done(ino, Mode::Shared);
        }
        self.used.insert(ino, now);
    }

    fn is_quiet(&self, ino: Ino, now: u64) -> bool {
        self.quiet.get(&ino).is_some_and(|quiet| quiet.until > now)
    }

    /// Begins an exclusive use; whether at once.
    pub(super) fn want(&mut self, ino: Ino, now: u64) -> bool {
        match self.vertex.want(ino, Mode::Exclusive) {
            Wanted::Granted { .. } => {
                self.used.insert(ino, now);
                true
            }
            Wanted::Queued => false,
        }
    }

    /// Whether an exclusive use that was wanted before has begun.
    pub(super) fn take(&mut self, ino: Ino) -> bool {
        let Some(left) = self.granted.get_mut(&ino) else { return false };
        *left -= 1;
        if *left == 0 {
            self.granted.remove(&ino);
        }
        true
    }

    /// An exclusive use that was wanted is not wanted any more.
    pub(super) fn withdraw(&mut self, ino: Ino) {
        if self.take(ino) {
            self.end_use(ino);
        } else {
            *self.unwanted.entry(ino).or_default() += 1;
        }
    }

    pub(super) fn end_use(&mut self, ino: Ino) {
        let _never = self.vertex.done(ino, Mode::Exclusive);
    }

    /// Nothing of this is used here: it is let go, if it is held at all.
    pub(super) fn let_go(&mut self, ino: Ino, stamp: u64) {
        if !self.revoking.contains_key(&ino) && self.vertex.revoked(ino, stamp).is_ok() {
            self.used.remove(&ino);
        }
    }

    fn gave_up(&mut self, ino: Ino, now: u64) {
        self.went += 1;
        self.used.remove(&ino);
        let times = self.quiet.get(&ino).map_or(0, |before| (before.times + 1).min(QUIET_DOUBLINGS));
        self.quiet.insert(ino, Quiet { until: now + (QUIET_US << times), times });
    }

    /// Somebody has use for what is held here.
    pub(super) fn is_used(&mut self, now: u64) {
        self.active_until = now + ACTIVE_US;
    }

    pub(super) fn status(&self) -> TokenStatus {
        TokenStatus {
            view: (self.place.id.term, self.place.id.number),
            parents: self.place.seats.iter().map(|(node, seat)| (*node, seat.parent)).collect(),
            held: self.vertex.holds().count() as u64,
            known: self.vertex.records() as u64,
            came: self.came,
            went: self.went,
            refused: self.refused,
            leaving: self.revoking.len() as u64,
        }
    }
}

impl NodeMachine {
    /// Where nothing that this node lets go of can have changed later.
    fn stamp(&self) -> u64 {
        if self.is_leader() { self.raw.raft.raft_log.committed } else { self.applied.0 }
    }

    /// Carries on whatever tokens have to do; whether commands that wait may find a token granted.
    pub(super) fn drive_tokens(&mut self) -> bool {
        let mut granted = false;
        loop {
            self.give_up();
            let outputs = self.tokens.vertex.outputs();
            if outputs.is_empty() {
                return granted;
            }
            let now = self.now.mono;
            for output in outputs {
                match output {
                    Output::Send { edge, messages } => {
                        for some in messages.chunks(PARCEL_MAX) {
                            let tokens = &mut self.tokens;
                            let Some(to) = tokens.edges.get_mut(&edge) else { break };
                            let (view, parcel) = (tokens.place.id, to.say(some.to_vec(), now));
                            self.send(edge, ToPeer::Tokens { view, parcel });
                        }
                    }
                    Output::Granted { object, mode: Mode::Shared, users, .. } => {
                        self.tokens.came += 1;
                        self.tokens.sharing.remove(&object);
                        self.tokens.shared(object, users, now);
                    }
                    Output::Granted { object, mode: Mode::Exclusive, users, .. } => {
                        self.tokens.came += 1;
                        self.tokens.used.insert(object, now);
                        *self.tokens.granted.entry(object).or_default() += users;
                        for _ in 0..self.tokens.unwanted.remove(&object).unwrap_or(0) {
                            self.tokens.withdraw(object);
                        }
                        granted = true;
                    }
                    Output::Revoke { object, keep } => {
                        self.tokens.revoking.insert(object, keep);
                    }
                }
            }
        }
    }

    /// What others want is given up as soon as the uses of it have ended and the mounts' copies are back.
    fn give_up(&mut self) {
        if self.tokens.revoking.is_empty() {
            return;
        }
        let (now, stamp) = (self.now.mono, self.stamp());
        for (ino, keep) in self.tokens.revoking.clone() {
            if keep.is_some() {
                if self.tokens.vertex.downgrade(ino, stamp).is_ok() {
                    self.tokens.revoking.remove(&ino);
                }
                continue;
            }
            self.recall_all_of(ino);
            if !self.copies.are_given(ino) && self.tokens.vertex.revoked(ino, stamp).is_ok() {
                self.tokens.revoking.remove(&ino);
                self.tokens.gave_up(ino, now);
            }
        }
    }

    /// At the end of a step: who said something is told that it was heard.
    pub(super) fn confirm_tokens(&mut self) {
        let view = self.tokens.place.id;
        let words: Vec<_> =
            self.tokens.edges.iter_mut().filter_map(|(node, edge)| Some((*node, edge.word()?))).collect();
        for (node, parcel) in words {
            self.send(node, ToPeer::Tokens { view, parcel });
        }
    }

    pub(super) fn tokens_came(&mut self, from: NodeId, view: ViewId, parcel: super::Parcel) {
        let tokens = &mut self.tokens;
        if view != tokens.place.id {
            return;
        }
        let Some(edge) = tokens.edges.get_mut(&from) else { return };
        for message in edge.hear(parcel, self.now.mono).unwrap_or_default() {
            // What no state allows changes nothing.
            if tokens.vertex.receive(from, message).is_err() {
                tokens.refused += 1;
            }
        }
    }

    /// The leader said what the tree is.
    pub(super) fn view_came(&mut self, from: NodeId, id: ViewId, seats: BTreeMap<NodeId, Seat>) {
        let newer = id > self.tokens.place.id;
        if !newer || self.is_leader() || self.leader != Some(from) || id.term != self.raw.raft.term {
            return;
        }
        self.tokens = Tokens::new(self.config.id, Place { id, seats }, self.config.seed, None);
        self.begin_in_tree();
    }

    /// Whatever was held, given out or let in belonged to another tree.
    pub(super) fn begin_in_tree(&mut self) {
        self.copies.begin_anew_in_another_tree();
        if self.tokens.member {
            self.begin_copies();
        }
        self.all_again();
    }

    /// The root's part is over with its leadership. Others stay in a tree until they hear of the next one: that of the leader
    /// they cannot hear at the moment may be theirs still.
    pub(super) fn leave_tree(&mut self) {
        if self.tokens.member {
            self.tokens = Tokens::default();
            self.begin_in_tree();
        }
    }

    /// Until when this node's mounts may use copies.
    pub(super) fn copies_last_until(&self) -> u64 {
        if !self.is_leader() {
            self.tokens.until
        } else if self.lead.settled() {
            self.lead.lease.until(self.config.id, &self.voters, self.now.mono)
        } else {
            0
        }
    }

    pub(super) fn node_lease_came(&mut self, from: NodeId, view: ViewId, sent: u64, lasts: u64) {
        if self.leader == Some(from) && view == self.tokens.place.id && sent <= self.now.mono {
            let until = sent.saturating_add(lasts - lasts / CLOCK_MARGIN);
            self.tokens.until = self.tokens.until.max(until);
        }
    }

    pub(super) fn tick_tokens(&mut self) {
        let now = self.now.mono;
        let view = self.tokens.place.id;
        let mut said = Vec::new();
        for (node, edge) in &mut self.tokens.edges {
            said.extend(edge.again(false, now).into_iter().map(|parcel| (*node, parcel)));
        }
        for (node, parcel) in said {
            self.send(node, ToPeer::Tokens { view, parcel });
        }
        let parted = self.tokens.edges.iter().filter(|(_, edge)| edge.is_parted(now)).map(|(node, _)| *node);
        for neighbour in parted.collect::<Vec<NodeId>>() {
            match self.leader {
                Some(leader) if leader != self.config.id => self.send(leader, ToPeer::Parted { view, neighbour }),
                _ => {}
            }
        }
        let tokens = &mut self.tokens;
        if let Some(leader) = self.leader.filter(|leader| *leader != self.config.id)
            && tokens.member
            && now < tokens.active_until
            && now >= tokens.asked_at + RENEW_US
        {
            tokens.asked_at = now;
            self.send(leader, ToPeer::RenewNode { view, sent: now });
        }
        self.send_held_again();
        if now >= self.tokens.swept + SWEEP_US {
            self.tokens.swept = now;
            self.let_go_of_idle();
        }
    }

    /// What nobody has used for long goes back towards the root.
    fn let_go_of_idle(&mut self) {
        let (now, stamp) = (self.now.mono, self.stamp());
        let is_old = |at: Option<&u64>| at.is_none_or(|at| now >= at + IDLE_US);
        let held: Vec<Ino> = self.tokens.vertex.holds().map(|(ino, _)| ino).collect();
        for ino in held {
            if is_old(self.tokens.used.get(&ino)) && !self.copies.are_given(ino) {
                self.tokens.let_go(ino, stamp);
            }
        }
        self.tokens.vertex.tidy_idle();
        let vertex = &self.tokens.vertex;
        self.tokens.used.retain(|ino, _| vertex.held(*ino).is_some());
        // Twice as long without a word is peace.
        self.tokens.quiet.retain(|_, quiet| now < quiet.until + (QUIET_US << quiet.times));
    }

    pub(super) fn lost_edge_says_again(&mut self, peer: NodeId) {
        let (now, view) = (self.now.mono, self.tokens.place.id);
        let again = self.tokens.edges.get_mut(&peer).map(|edge| edge.again(true, now)).unwrap_or_default();
        for parcel in again {
            self.send(peer, ToPeer::Tokens { view, parcel });
        }
    }

    /// What this node knows of tokens, from this object on.
    pub fn tokens(&self, from: Ino, max: usize) -> Vec<Row<NodeId>> {
        self.tokens.vertex.rows(from).take(max).collect()
    }
}
