//! A mount and its node: [`Command`], [`ToNode`], [`ToMount`].

use crate::bad::{BadMessage, Why};
use crate::copies::{read_objects, wire_objects};
use crate::field::{Field, Message, at_most, messages, need};
use crate::ops::is_clusters_own;
use crate::v1::{self, to_mount, to_node};
use crate::{CLIENT_MAX, MESSAGE_MAX, SPEAKS, WIRE_OLDEST, WIRE_VERSION};
use baton_core::limits::SESSION_WINDOW;
use baton_core::meta::{
    Op, Query,
    ops::{SliceRef, WriteData},
};
use baton_core::node::Speaks;
use baton_core::session::{Command, ToMount, ToNode};
use baton_core::types::{Cred, Ino};

messages! {
    Command = v1::Command { session, number, acked, cred, op } if mount_may_send;
}

fn mount_may_send(command: &Command) -> Result<(), BadMessage> {
    if is_clusters_own(&command.op) {
        return Err(Why::ClusterOnly.at(command.op.name()));
    }
    if command.number == 0 { Err(Why::Zero.at("number")) } else { Ok(()) }
}

pub(crate) fn wire_commands(commands: Vec<Command>) -> v1::Commands {
    v1::Commands { commands: commands.into_wire() }
}

pub(crate) fn read_commands(wire: v1::Commands) -> Result<Vec<Command>, BadMessage> {
    at_most(wire.commands.len(), SESSION_WINDOW, "commands")?;
    need(wire.commands, "commands")
}

/// Cuts commands into lists that each fit a message, in their order.
pub fn in_messages(commands: Vec<Command>) -> Vec<Vec<Command>> {
    let mut lists = Vec::new();
    let mut list = Vec::new();
    let mut bytes = 0;
    for command in commands {
        let more = room_for(&command);
        if !list.is_empty() && (list.len() == SESSION_WINDOW || bytes + more > MESSAGE_MAX) {
            lists.push(std::mem::take(&mut list));
            bytes = 0;
        }
        bytes += more;
        list.push(command);
    }
    if !list.is_empty() {
        lists.push(list);
    }
    lists
}

/// At least the bytes that a command takes in a message: what can be long, and a kilobyte for all the rest (two names at
/// most, and some twenty numbers).
fn room_for(command: &Command) -> usize {
    const VARINT32_MAX: usize = 5;
    const VARINT64_MAX: usize = 10;
    let slice = |slice: &SliceRef| slice.nodes.len() * VARINT64_MAX;
    let op = match &command.op {
        Op::Write(write) => match &write.data {
            WriteData::Inline(bytes) => bytes.len(),
            WriteData::Slice(of) => slice(of),
        },
        Op::Symlink(link) => link.target.len(),
        Op::SetXattr(set) => set.value.len(),
        Op::PlaceSlice(place) => place.nodes.len() * VARINT64_MAX,
        Op::Merge(merge) => slice(&merge.slice),
        _ => 0,
    };
    1024 + op + command.cred.groups.as_ref().map_or(0, Vec::len) * VARINT32_MAX
}

pub(crate) fn wire_question(id: u64, cred: Cred, query: Query) -> v1::Question {
    v1::Question { id, cred: cred.into_wire(), query: query.into_wire() }
}

pub(crate) fn read_question(wire: v1::Question) -> Result<(u64, Cred, Query), BadMessage> {
    Ok((wire.id, need(wire.cred, "ask.cred")?, need(wire.query, "ask.query")?))
}

pub(crate) fn wire_who_holds(round: u64, inos: Vec<Ino>) -> v1::WhoHolds {
    v1::WhoHolds { round, inos: inos.into_wire() }
}

pub(crate) fn read_client(client: String) -> Result<String, BadMessage> {
    at_most(client.len(), CLIENT_MAX, "client")?;
    Ok(client)
}

/// Whether there is a version that both speak: one who speaks `ours`, and one that speaks from `oldest` to `newest`. Versions count
/// from 1; who names no oldest speaks one only.
pub(crate) fn have_one_in_common(ours: Speaks, oldest: u32, newest: u32) -> Result<(), Why> {
    let oldest = if oldest == 0 { newest } else { oldest };
    if oldest > ours.newest {
        Err(Why::Newer { theirs: oldest, ours: ours.newest })
    } else if newest < ours.oldest {
        Err(Why::Older { theirs: newest, ours: ours.oldest })
    } else {
        Ok(())
    }
}

impl From<ToNode> for v1::ToNode {
    fn from(message: ToNode) -> Self {
        use to_node::Is;
        let is = match message {
            ToNode::Hello { session, client, nonce, link } => {
                let (wire_version, wire_oldest) = (WIRE_VERSION, WIRE_OLDEST);
                let session = session.into_wire();
                Is::Hello(to_node::Hello { session, client, nonce, wire_version, wire_oldest, link })
            }
            ToNode::Commands(commands) => Is::Commands(wire_commands(commands)),
            ToNode::Ask { id, cred, query, keep: false } => Is::Ask(wire_question(id, cred, query)),
            ToNode::Ask { id, cred, query, keep: true } => Is::AskAndKeep(wire_question(id, cred, query)),
            ToNode::Renew { sent } => Is::Renew(sent),
            ToNode::GaveBack(objects) => Is::GaveBack(wire_objects(objects)),
            ToNode::Returned(objects) => Is::Returned(wire_objects(objects)),
            ToNode::Empty => Is::Empty(v1::Unit {}),
            ToNode::Alive => Is::Alive(v1::Unit {}),
            ToNode::Holds { round, inos } => Is::Holds(to_node::Holds { round, inos: inos.into_wire() }),
            ToNode::Goodbye => Is::Goodbye(v1::Unit {}),
        };
        Self { is: Some(is) }
    }
}

impl TryFrom<v1::ToNode> for ToNode {
    type Error = BadMessage;
    fn try_from(message: v1::ToNode) -> Result<Self, BadMessage> {
        use to_node::Is;
        Ok(match message.is.ok_or(Why::Missing.at("a mount's message"))? {
            Is::Hello(hello) => {
                have_one_in_common(SPEAKS, hello.wire_oldest, hello.wire_version)
                    .map_err(|why| why.at("wire_version"))?;
                ToNode::Hello {
                    session: need(hello.session, "hello.session")?,
                    client: read_client(hello.client)?,
                    nonce: hello.nonce,
                    link: hello.link,
                }
            }
            Is::Commands(commands) => ToNode::Commands(read_commands(commands)?),
            Is::Ask(question) => {
                let (id, cred, query) = read_question(question)?;
                ToNode::Ask { id, cred, query, keep: false }
            }
            Is::AskAndKeep(question) => {
                let (id, cred, query) = read_question(question)?;
                ToNode::Ask { id, cred, query, keep: true }
            }
            Is::Renew(sent) => ToNode::Renew { sent },
            Is::GaveBack(objects) => ToNode::GaveBack(read_objects(objects)?),
            Is::Returned(objects) => ToNode::Returned(read_objects(objects)?),
            Is::Empty(_) => ToNode::Empty,
            Is::Alive(_) => ToNode::Alive,
            Is::Holds(holds) => ToNode::Holds { round: holds.round, inos: need(holds.inos, "holds.inos")? },
            Is::Goodbye(_) => ToNode::Goodbye,
        })
    }
}

impl From<ToMount> for v1::ToMount {
    fn from(message: ToMount) -> Self {
        use to_mount::Is;
        let is = match message {
            ToMount::Welcome { session, nonce, last, node } => {
                Is::Welcome(to_mount::Welcome { session: session.into_wire(), nonce, last, node: node.into_wire() })
            }
            ToMount::Gone { session } => Is::Gone(session.into_wire()),
            ToMount::Replies(replies) => {
                let numbered =
                    |(number, reply): (u64, _)| to_mount::Numbered { number, reply: Field::into_wire(reply) };
                Is::Replies(to_mount::Replies { replies: replies.into_iter().map(numbered).collect() })
            }
            ToMount::Answer { id, reply, facts } => {
                Is::Answer(to_mount::Answered { id, reply: reply.into_wire(), facts: facts.into_wire() })
            }
            ToMount::Lease { sent, lasts } => Is::Lease(to_mount::Lease { sent, lasts }),
            ToMount::Recall(objects) => Is::Recall(wire_objects(objects)),
            ToMount::Again => Is::Again(v1::Unit {}),
            ToMount::WhoHolds { round, inos } => Is::WhoHolds(wire_who_holds(round, inos)),
            ToMount::LocksMoved { ino } => Is::LocksMoved(ino.into_wire()),
            ToMount::LocksBroken { ino } => Is::LocksBroken(ino.into_wire()),
        };
        Self { is: Some(is) }
    }
}

impl TryFrom<v1::ToMount> for ToMount {
    type Error = BadMessage;
    fn try_from(message: v1::ToMount) -> Result<Self, BadMessage> {
        use to_mount::Is;
        Ok(match message.is.ok_or(Why::Missing.at("a node's message"))? {
            Is::Welcome(welcome) => ToMount::Welcome {
                session: need(welcome.session, "welcome.session")?,
                nonce: welcome.nonce,
                last: welcome.last,
                node: need(welcome.node, "welcome.node")?,
            },
            Is::Gone(session) => ToMount::Gone { session: need(session, "gone")? },
            Is::Replies(all) => {
                let one = |n: to_mount::Numbered| Ok((n.number, need(n.reply, "replies.reply")?));
                ToMount::Replies(all.replies.into_iter().map(one).collect::<Result<_, BadMessage>>()?)
            }
            Is::Answer(answered) => ToMount::Answer {
                id: answered.id,
                reply: need(answered.reply, "answer.reply")?,
                facts: need(answered.facts, "answer.facts")?,
            },
            Is::Lease(lease) => ToMount::Lease { sent: lease.sent, lasts: lease.lasts },
            Is::Recall(objects) => ToMount::Recall(read_objects(objects)?),
            Is::Again(_) => ToMount::Again,
            Is::LocksMoved(ino) => ToMount::LocksMoved { ino: need(ino, "locks_moved")? },
            Is::LocksBroken(ino) => ToMount::LocksBroken { ino: need(ino, "locks_broken")? },
            Is::WhoHolds(who) => ToMount::WhoHolds { round: who.round, inos: need(who.inos, "who_holds.inos")? },
        })
    }
}

impl Message for ToNode {
    type Wire = v1::ToNode;
}
impl Message for ToMount {
    type Wire = v1::ToMount;
}
