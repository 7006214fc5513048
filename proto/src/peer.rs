//! Node to node: [`ToPeer`], the frames it travels in, and the greeting that comes first.

use crate::bad::{BadMessage, Why};
use crate::field::{Field, Message, at_least, at_most, enums, messages, need};
use crate::session::have_one_in_common;
use crate::session::{read_client, read_commands, read_question, wire_commands, wire_question, wire_who_holds};
use crate::v1::{self, to_peer};
use crate::{WIRE_OLDEST, WIRE_VERSION};
use baton_core::node::{Fetching, PARCEL_MAX, Parcel, Seat, Space, Speaks, ToPeer, ViewId, Walked};
use baton_core::token::{self, Grant, Mode, Say};
use baton_core::types::{ClusterId, NodeId, SessionId};
use std::collections::BTreeMap;

/// What travels on the stream between two nodes: a greeting first, in each direction, then messages.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerFrame {
    Hello(PeerHello),
    /// The other side will not talk to us, and says why; nothing follows.
    Refused(PeerRefusal),
    Message(ToPeer),
}

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerHello {
    /// `None` while it does not belong to a cluster yet.
    pub cluster: Option<ClusterId>,
    pub node: NodeId,
    /// Not checked while unpacking, so that whoever greets from the future can be told why it is refused.
    pub wire_version: u32,
    /// The oldest version that it speaks.
    pub wire_oldest: u32,
    /// Where the others reach it.
    pub address: String,
    /// The version in force in its cluster; 0: it knows of none.
    pub in_force: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRefusal {
    pub reason: Refusal,
    /// For people: what was met and what was expected.
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    WrongCluster,
    WrongNode,
    NewerVersion,
    OlderVersion,
    Removed,
}

/// Asks for a node's state, at this Raft index or a later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRequest {
    pub cluster: ClusterId,
    /// Who asks.
    pub node: NodeId,
    pub index: u64,
}

/// Bytes of an address: a name of 253 and a port.
const ADDRESS_MAX: usize = 260;
/// Nodes in one tree.
const TREE_MAX: usize = 1_024;

enums! {
    Refusal = v1::Refusal { WrongCluster, WrongNode, NewerVersion, OlderVersion, Removed }
}

messages! {
    PeerHello = v1::PeerHello { cluster, node, wire_version, wire_oldest, address, in_force } if is_a_greeting;
    PeerRefusal = v1::PeerRefusal { reason, detail };
    SnapshotRequest = v1::SnapshotRequest { cluster, node, index };
    Space = v1::Space { total, free };
    ViewId = to_peer::View { term, number };
}

fn is_a_greeting(hello: &PeerHello) -> Result<(), BadMessage> {
    at_least(hello.wire_version as usize, 1, "wire_version")?;
    at_most(hello.address.len(), ADDRESS_MAX, "address")
}

impl PeerHello {
    /// The greeting of this build.
    pub fn new(cluster: Option<ClusterId>, node: NodeId, address: String, in_force: u32) -> PeerHello {
        PeerHello { cluster, node, wire_version: WIRE_VERSION, wire_oldest: WIRE_OLDEST, address, in_force }
    }

    fn speaks(&self) -> Speaks {
        Speaks { oldest: self.wire_oldest, newest: self.wire_version }
    }

    /// Why this node cannot work where that version is in force.
    fn cannot_speak(&self, in_force: u32) -> Option<String> {
        let (node, Speaks { oldest, newest }) = (self.node, self.speaks());
        if in_force == 0 || self.speaks().knows(in_force) {
            None
        } else if in_force > newest {
            Some(format!(
                "version {in_force} is in force in the cluster and node {node} knows {newest}: install the newer baton there"
            ))
        } else {
            Some(format!(
                "version {in_force} is in force in the cluster and node {node} knows none before {oldest}: install an older \
                 baton there, and the newer one when all nodes have one in between"
            ))
        }
    }

    /// Whether this node talks to the one that greeted with `theirs`; `expected` is the node that was dialled, where that
    /// is known. Of two clusters that differ neither talks to the other; a node without one yet talks to any.
    pub fn judge(&self, theirs: &PeerHello, expected: Option<NodeId>) -> Result<(), PeerRefusal> {
        let refuse = |reason, detail| Err(PeerRefusal { reason, detail });
        if let Err(why) = have_one_in_common(self.speaks(), theirs.wire_oldest, theirs.wire_version) {
            let is_newer = matches!(why, Why::Newer { .. });
            let (older, newer) = if is_newer { (self, theirs) } else { (theirs, self) };
            let detail = format!(
                "node {} speaks wire version {}, node {} no older one than {}: update node {0}",
                older.node, older.wire_version, newer.node, newer.wire_oldest
            );
            return refuse(if is_newer { Refusal::NewerVersion } else { Refusal::OlderVersion }, detail);
        }
        if let (Some(ours), Some(other)) = (self.cluster, theirs.cluster)
            && ours != other
        {
            let detail = format!("node {} belongs to cluster {ours}, node {} to {other}", self.node, theirs.node);
            return refuse(Refusal::WrongCluster, detail);
        }
        // Of two clusters that differ it says nothing.
        if let Some(detail) = theirs.cannot_speak(self.in_force) {
            let is_older = theirs.wire_version < self.in_force;
            return refuse(if is_older { Refusal::OlderVersion } else { Refusal::NewerVersion }, detail);
        }
        if let Some(detail) = self.cannot_speak(theirs.in_force) {
            let is_older = theirs.in_force < self.wire_oldest;
            return refuse(if is_older { Refusal::OlderVersion } else { Refusal::NewerVersion }, detail);
        }
        match expected {
            Some(expected) if theirs.node != expected => {
                refuse(Refusal::WrongNode, format!("node {} answers where node {expected} should be", theirs.node))
            }
            _ if theirs.node == self.node => {
                refuse(Refusal::WrongNode, format!("both sides say that they are node {}", self.node))
            }
            _ => Ok(()),
        }
    }
}

impl From<PeerFrame> for v1::PeerFrame {
    fn from(frame: PeerFrame) -> Self {
        use v1::peer_frame::Is;
        let is = match frame {
            PeerFrame::Hello(hello) => Is::Hello(hello.into()),
            PeerFrame::Refused(refusal) => Is::Refused(refusal.into()),
            PeerFrame::Message(message) => Is::Message(message.into()),
        };
        Self { is: Some(is) }
    }
}

impl TryFrom<v1::PeerFrame> for PeerFrame {
    type Error = BadMessage;
    fn try_from(frame: v1::PeerFrame) -> Result<Self, BadMessage> {
        use v1::peer_frame::Is;
        Ok(match frame.is.ok_or(Why::Missing.at("a peer's frame"))? {
            Is::Hello(hello) => PeerFrame::Hello(need(Some(hello), "hello")?),
            Is::Refused(refusal) => PeerFrame::Refused(need(Some(refusal), "refused")?),
            Is::Message(message) => PeerFrame::Message(need(Some(message), "message")?),
        })
    }
}

impl From<ToPeer> for v1::ToPeer {
    fn from(message: ToPeer) -> Self {
        use to_peer::Is;
        let is = match message {
            ToPeer::Raft(raft) => Is::Raft((*raft).into()),
            ToPeer::Hello { fresh, member, reply, last, life, term, asked } => {
                Is::Joining(to_peer::Joining { fresh, member, reply, last, life, term, asked })
            }
            ToPeer::Beat { term, sent } => Is::Beat(to_peer::Clock { term, sent, ..to_peer::Clock::default() }),
            ToPeer::Promise { term, sent, life, hangs, speaks } => {
                Is::Promise(to_peer::Clock { term, sent, life, hangs, speaks })
            }
            ToPeer::Copied { slice, instead_of, life } => {
                Is::Copied(to_peer::Copied { slice: slice.into_wire(), instead_of: instead_of.into_wire(), life })
            }
            ToPeer::Spaces(spaces) => {
                let one = |(node, space): (NodeId, Space)| to_peer::NodeSpace {
                    node: node.into_wire(),
                    space: space.into_wire(),
                };
                Is::Spaces(to_peer::Spaces { spaces: spaces.into_iter().map(one).collect() })
            }
            ToPeer::Commands(commands) => Is::Commands(wire_commands(commands)),
            ToPeer::Held { view, commands } => {
                Is::Held(to_peer::Held { view: view.into_wire(), commands: Some(wire_commands(commands)) })
            }
            ToPeer::View { id, seats } => {
                let one = |(node, Seat { parent, life }): (NodeId, Seat)| to_peer::Seat {
                    node: node.into_wire(),
                    parent: parent.into_wire(),
                    life,
                };
                Is::Tree(to_peer::Tree { view: id.into_wire(), seats: seats.into_iter().map(one).collect() })
            }
            ToPeer::Tokens { view, parcel: Parcel { number, heard, messages } } => {
                Is::Tokens(to_peer::Parcel { view: view.into_wire(), number, heard, messages: messages.into_wire() })
            }
            ToPeer::LeadOver { term, lasts } => Is::LeadOver(to_peer::Over { term, lasts }),
            ToPeer::Parted { view, neighbour } => {
                Is::Parted(to_peer::Parted { view: view.into_wire(), neighbour: neighbour.into_wire() })
            }
            ToPeer::RenewNode { view, sent } => {
                Is::RenewNode(to_peer::Lease { view: view.into_wire(), sent, lasts: 0 })
            }
            ToPeer::NodeLease { view, sent, lasts } => {
                Is::NodeLease(to_peer::Lease { view: view.into_wire(), sent, lasts })
            }
            ToPeer::OpenSession { client, nonce } => Is::OpenSession(to_peer::OpenSession { client, nonce }),
            ToPeer::Claim(session) => Is::Claim(session.into_wire()),
            ToPeer::Claimed { session, applied } => {
                Is::Claimed(to_peer::Claimed { session: session.into_wire(), applied })
            }
            ToPeer::EndSession(session) => Is::EndSession(session.into_wire()),
            ToPeer::Ask { id, cred, query } => Is::Ask(wire_question(id, cred, query)),
            ToPeer::Answer { id, reply } => Is::Answer(to_peer::Answered { id, reply: reply.into_wire() }),
            ToPeer::Replies(replies) => {
                let numbered = |(session, number, reply): (SessionId, u64, _)| to_peer::Numbered {
                    session: session.into_wire(),
                    number,
                    reply: Field::into_wire(reply),
                };
                Is::Replies(to_peer::Replies { replies: replies.into_iter().map(numbered).collect() })
            }
            ToPeer::Again(sessions) => Is::Again(to_peer::Again { sessions: sessions.into_wire() }),
            ToPeer::Report { sessions, space, applied, walked: Walked { life, began, lacks, fetching } } => {
                let Fetching { lacks: to_fetch, left_us: fetch_us, in_vain } = fetching;
                let walked = Some(to_peer::Walked { life, began, lacks, to_fetch, fetch_us, in_vain });
                Is::Report(to_peer::Report {
                    sessions: sessions.into_wire(),
                    space: space.into_wire(),
                    applied,
                    walked,
                })
            }
            ToPeer::WhoHolds { round, inos } => Is::WhoHolds(wire_who_holds(round, inos)),
            ToPeer::Holds { round, session, inos } => {
                Is::Holds(to_peer::Holds { round, session: session.into_wire(), inos: inos.into_wire() })
            }
        };
        Self { is: Some(is) }
    }
}

impl TryFrom<v1::ToPeer> for ToPeer {
    type Error = BadMessage;
    fn try_from(message: v1::ToPeer) -> Result<Self, BadMessage> {
        use to_peer::Is;
        Ok(match message.is.ok_or(Why::Missing.at(""))? {
            Is::Raft(raft) => ToPeer::Raft(Box::new(need(Some(raft), "raft")?)),
            Is::Joining(to_peer::Joining { fresh, member, reply, last, life, term, asked }) => {
                ToPeer::Hello { fresh, member, reply, last, life, term, asked }
            }
            Is::Copied(to_peer::Copied { slice, instead_of, life }) => ToPeer::Copied {
                slice: need(slice, "copied.slice")?,
                instead_of: need(instead_of, "copied.instead_of")?,
                life,
            },
            Is::Spaces(to_peer::Spaces { spaces }) => {
                at_most(spaces.len(), TREE_MAX, "spaces")?;
                let one = |s: to_peer::NodeSpace| Ok((need(s.node, "spaces.node")?, need(s.space, "spaces.space")?));
                ToPeer::Spaces(spaces.into_iter().map(one).collect::<Result<_, BadMessage>>()?)
            }
            Is::Beat(clock) => ToPeer::Beat { term: clock.term, sent: clock.sent },
            Is::Promise(to_peer::Clock { term, sent, life, hangs, speaks }) => {
                ToPeer::Promise { term, sent, life, hangs, speaks }
            }
            Is::Commands(commands) => ToPeer::Commands(read_commands(commands)?),
            Is::Held(held) => ToPeer::Held {
                view: need(held.view, "held.view")?,
                commands: read_commands(held.commands.ok_or(Why::Missing.at("held.commands"))?)?,
            },
            Is::Tree(tree) => {
                at_most(tree.seats.len(), TREE_MAX, "tree.seats")?;
                let one = |s: to_peer::Seat| {
                    let seat = Seat { parent: need(s.parent, "tree.parent")?, life: s.life };
                    Ok((need(s.node, "tree.node")?, seat))
                };
                let seats = tree.seats.into_iter().map(one).collect::<Result<BTreeMap<_, _>, BadMessage>>()?;
                ToPeer::View { id: need(tree.view, "tree.view")?, seats }
            }
            Is::Tokens(to_peer::Parcel { view, number, heard, messages }) => {
                at_most(messages.len(), PARCEL_MAX, "tokens.messages")?;
                let parcel = Parcel { number, heard, messages: need(messages, "tokens.messages")? };
                ToPeer::Tokens { view: need(view, "tokens.view")?, parcel }
            }
            Is::LeadOver(to_peer::Over { term, lasts }) => ToPeer::LeadOver { term, lasts },
            Is::Parted(parted) => ToPeer::Parted {
                view: need(parted.view, "parted.view")?,
                neighbour: need(parted.neighbour, "parted.neighbour")?,
            },
            Is::RenewNode(lease) => ToPeer::RenewNode { view: need(lease.view, "renew_node.view")?, sent: lease.sent },
            Is::NodeLease(to_peer::Lease { view, sent, lasts }) => {
                ToPeer::NodeLease { view: need(view, "node_lease.view")?, sent, lasts }
            }
            Is::OpenSession(open) => ToPeer::OpenSession { client: read_client(open.client)?, nonce: open.nonce },
            Is::Claim(session) => ToPeer::Claim(need(session, "claim")?),
            Is::Claimed(to_peer::Claimed { session, applied }) => {
                ToPeer::Claimed { session: need(session, "claimed.session")?, applied }
            }
            Is::EndSession(session) => ToPeer::EndSession(need(session, "end_session")?),
            Is::Ask(question) => {
                let (id, cred, query) = read_question(question)?;
                ToPeer::Ask { id, cred, query }
            }
            Is::Answer(answered) => ToPeer::Answer { id: answered.id, reply: need(answered.reply, "answer.reply")? },
            Is::Replies(all) => {
                let one = |n: to_peer::Numbered| {
                    Ok((need(n.session, "replies.session")?, n.number, need(n.reply, "replies.reply")?))
                };
                ToPeer::Replies(all.replies.into_iter().map(one).collect::<Result<_, BadMessage>>()?)
            }
            Is::Again(again) => ToPeer::Again(need(again.sessions, "again.sessions")?),
            Is::Report(report) => ToPeer::Report {
                sessions: need(report.sessions, "report.sessions")?,
                space: need(report.space, "report.space")?,
                applied: report.applied,
                walked: {
                    let to_peer::Walked { life, began, lacks, to_fetch, fetch_us, in_vain } =
                        report.walked.ok_or(Why::Missing.at("report.walked"))?;
                    let fetching = Fetching { lacks: to_fetch, left_us: fetch_us, in_vain };
                    Walked { life, began, lacks, fetching }
                },
            },
            Is::WhoHolds(who) => ToPeer::WhoHolds { round: who.round, inos: need(who.inos, "who_holds.inos")? },
            Is::Holds(holds) => ToPeer::Holds {
                round: holds.round,
                session: need(holds.session, "holds.session")?,
                inos: need(holds.inos, "holds.inos")?,
            },
        })
    }
}

impl From<token::Message> for to_peer::Token {
    fn from(message: token::Message) -> Self {
        use to_peer::Say as Wire;
        let (say, serial, stamp) = match message.say {
            Say::Want(Mode::Shared) => (Wire::WantShared, 0, 0),
            Say::Want(Mode::Exclusive) => (Wire::WantExclusive, 0, 0),
            Say::Copy(Grant { serial, stamp }) => (Wire::Copy, serial, stamp),
            Say::Token(Grant { serial, stamp }) => (Wire::Token, serial, stamp),
            Say::Recall => (Wire::Recall, 0, 0),
            Say::Recalled { serial } => (Wire::Recalled, serial, 0),
            Say::Dropped { serial } => (Wire::Dropped, serial, 0),
        };
        Self { object: message.object.into_wire(), say: say as i32, serial, stamp }
    }
}

impl TryFrom<to_peer::Token> for token::Message {
    type Error = BadMessage;
    fn try_from(wire: to_peer::Token) -> Result<Self, BadMessage> {
        use to_peer::Say as Wire;
        let to_peer::Token { object, say, serial, stamp } = wire;
        let say = match Wire::try_from(say) {
            Ok(Wire::WantShared) => Say::Want(Mode::Shared),
            Ok(Wire::WantExclusive) => Say::Want(Mode::Exclusive),
            Ok(Wire::Copy) => Say::Copy(Grant { serial, stamp }),
            Ok(Wire::Token) => Say::Token(Grant { serial, stamp }),
            Ok(Wire::Recall) => Say::Recall,
            Ok(Wire::Recalled) => Say::Recalled { serial },
            Ok(Wire::Dropped) => Say::Dropped { serial },
            Ok(Wire::Unspecified) | Err(_) => return Err(Why::Unknown(say).at("say")),
        };
        Ok(Self { object: need(object, "object")?, say })
    }
}

impl Message for token::Message {
    type Wire = to_peer::Token;
}

impl Message for ToPeer {
    type Wire = v1::ToPeer;
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: ClusterId = ClusterId(7);

    fn greeting(cluster: Option<ClusterId>, node: u64) -> PeerHello {
        PeerHello::new(cluster, NodeId(node), "host:1".into(), 0)
    }

    fn reason(theirs: PeerHello, expected: Option<u64>) -> Option<Refusal> {
        let me = greeting(Some(OURS), 1);
        me.judge(&theirs, expected.map(NodeId)).err().map(|refusal| refusal.reason)
    }

    #[test]
    fn a_node_of_the_same_cluster_or_of_none_yet_is_welcome() {
        assert_eq!(reason(greeting(Some(OURS), 2), Some(2)), None);
        assert_eq!(reason(greeting(None, 2), None), None);
    }

    #[test]
    fn strangers_impostors_and_newer_builds_are_told_why() {
        assert_eq!(reason(greeting(Some(ClusterId(8)), 2), None), Some(Refusal::WrongCluster));
        assert_eq!(reason(greeting(Some(OURS), 3), Some(2)), Some(Refusal::WrongNode));
        assert_eq!(reason(greeting(Some(OURS), 1), None), Some(Refusal::WrongNode));
        let speaks = |wire_oldest, wire_version| PeerHello { wire_oldest, wire_version, ..greeting(Some(OURS), 2) };
        assert_eq!(reason(speaks(WIRE_VERSION + 1, WIRE_VERSION + 1), None), Some(Refusal::NewerVersion));
        assert_eq!(reason(speaks(0, WIRE_OLDEST - 1), None), Some(Refusal::OlderVersion));
        assert_eq!(reason(speaks(WIRE_VERSION, WIRE_VERSION + 7), None), None, "it speaks as this one does");
    }

    #[test]
    fn who_does_not_speak_the_version_in_force_is_told_so() {
        let node = |id, oldest, newest, in_force| PeerHello {
            wire_oldest: oldest,
            wire_version: newest,
            in_force,
            ..greeting(Some(OURS), id)
        };
        let (old, both, new) = (node(1, 10, 10, 10), node(2, 10, 11, 10), node(3, 11, 12, 0));
        assert_eq!(old.judge(&both, None), Ok(()));
        assert_eq!(both.judge(&old, None), Ok(()));
        let raised = PeerHello { in_force: 11, ..both };
        for (refused, reason) in
            [(raised.judge(&old, None), Refusal::OlderVersion), (old.judge(&raised, None), Refusal::NewerVersion)]
        {
            let refusal = refused.unwrap_err();
            assert_eq!(refusal.reason, reason);
            assert!(refusal.detail.contains("version 11 is in force"), "{}", refusal.detail);
            assert!(refusal.detail.contains("node 1 knows 10: install the newer baton there"), "{}", refusal.detail);
        }
        assert_eq!(raised.judge(&new, None), Ok(()));
        let low = node(2, 10, 11, 10);
        let refusal = low.judge(&new, None).unwrap_err();
        assert_eq!(refusal.reason, Refusal::NewerVersion);
        assert!(refusal.detail.contains("node 3 knows none before 11"), "{}", refusal.detail);
        assert_eq!(new.judge(&low, None).unwrap_err().reason, Refusal::OlderVersion);
    }
}
