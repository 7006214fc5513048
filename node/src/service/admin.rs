use super::health::health;
use super::versions;
use crate::config::check_address;
use crate::handle::{Event, NodeHandle, NotBroken, NotChanged, NotFrozen};
use crate::slices::{Found, VerifiedCopy};
use baton_core::meta::locks::FileLock;
use baton_core::meta::{Fault, Key, Stop, Store, Value, check, encode_key, encode_value};
use baton_core::node::{CopyRow, Input, Pace, PeerStatus, Speaks, Status as NodeStatus};
use baton_core::token::{Mode, Row};
use baton_core::types::{Ino, Member, MemberChange, NodeId, Object, SessionId, SliceId};
use baton_proto::v1::{self, admin_server::Admin};
use std::collections::BTreeMap;
use std::time::Instant;
use tonic::{Request, Response, Status};

/// What does not change while a node runs.
pub(crate) struct About {
    /// Where this node finds the others, as its operator said; mounts near it find them there too.
    pub(crate) addresses: BTreeMap<NodeId, String>,
    pub(crate) regions: BTreeMap<NodeId, String>,
    pub(crate) started: Instant,
}

/// For the people who run the cluster.
pub(crate) struct AdminService {
    pub(crate) node: NodeHandle,
    pub(crate) about: About,
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusReply>, Status> {
        let status = self.node.status().await.ok_or_else(|| Status::unavailable("the node has stopped"))?;
        Ok(Response::new(self.reply(&status)))
    }

    async fn check(&self, request: Request<v1::CheckRequest>) -> Result<Response<v1::CheckReply>, Status> {
        let v1::CheckRequest { hash: wants_hash, at } = request.into_inner();
        let state = self.node.freeze(at).await.map_err(|why| match why {
            NotFrozen::Passed => Status::aborted(why.to_string()),
            NotFrozen::TooLong => Status::deadline_exceeded(why.to_string()),
            NotFrozen::Stopped => Status::unavailable(why.to_string()),
        })?;
        let (applied, slices) = (state.at, self.node.slices().store.stats());
        let walk = move || {
            let hash = if wants_hash { hash(&state) } else { Ok(0) };
            (check::check(&state), hash)
        };
        let walked = tokio::task::spawn_blocking(walk).await;
        let (report, hash) = walked.map_err(|e| Status::internal(e.to_string()))?;
        let hash = hash.map_err(|_| Status::data_loss("the state cannot be read"))?;
        let report = match report {
            Ok(report) => report,
            Err(Stop::Errno(errno)) => return Err(Status::internal(errno.to_string())),
            Err(_) => return Err(Status::data_loss("the state cannot be read")),
        };
        Ok(Response::new(v1::CheckReply {
            problems: report.problems.iter().map(ToString::to_string).collect(),
            inodes: report.inodes,
            extents: report.extents,
            slices: report.slices,
            slice_bytes: slices.bytes,
            applied: Some(applied),
            hash,
        }))
    }

    async fn verify(&self, request: Request<v1::VerifyRequest>) -> Result<Response<v1::VerifyReply>, Status> {
        let v1::VerifyRequest { session, number, mend } = request.into_inner();
        let behind = SliceId { session: SessionId(session), number };
        let verified = self.node.slices().verify(behind, mend).await;
        let (copies, more) = verified.map_err(|_| Status::data_loss("the state cannot be read"))?;
        let row = |copy: VerifiedCopy| v1::VerifiedCopy {
            session: copy.id.session.0,
            number: copy.id.number,
            checksum: copy.checksum.ok(),
            problem: copy.checksum.err().map_or(String::new(), |fault| format!("{fault:?}").to_lowercase()),
            mended: copy.mended,
        };
        let behind = more.unwrap_or(behind);
        Ok(Response::new(v1::VerifyReply {
            copies: copies.into_iter().map(row).collect(),
            more: more.is_some(),
            behind_session: behind.session.0,
            behind_number: behind.number,
        }))
    }

    async fn locks(&self, _: Request<v1::LocksRequest>) -> Result<Response<v1::LocksReply>, Status> {
        let node = self.node.clone();
        let listed = tokio::task::spawn_blocking(move || node.reader().with_state(list_locks)).await;
        let listed = listed.map_err(|e| Status::internal(e.to_string()))?;
        listed.map(Response::new).map_err(|_| Status::data_loss("the state cannot be read"))
    }

    async fn break_locks(
        &self,
        request: Request<v1::BreakLocksRequest>,
    ) -> Result<Response<v1::BreakLocksReply>, Status> {
        let v1::BreakLocksRequest { ino, session } = request.into_inner();
        let (ino, only) = (Ino(ino), session.map(SessionId));
        let broken = self.node.break_locks(ino, only).await.map_err(|why| {
            tracing::warn!(inode = ino.0, session, "locks were not broken: {why}");
            match why {
                NotBroken::NotLeading => Status::failed_precondition(why.to_string()),
                NotBroken::NoSuchObject => Status::not_found(why.to_string()),
                NotBroken::LostLead | NotBroken::TooLong | NotBroken::Stopped => Status::unavailable(why.to_string()),
                NotBroken::Refused(_) => Status::internal(why.to_string()),
            }
        })?;
        let row = |state: &dyn Store, lock: &FileLock| Ok(lock_row(ino, lock, client(state, lock.by.session)?, false));
        let rows: Result<Vec<v1::LockRow>, Fault> =
            self.node.reader().with_state(|state| broken.iter().map(|lock| row(state, lock)).collect());
        let locks =
            rows.map_err(|_| Status::data_loss("the locks were broken, and the state cannot be read any more"))?;
        for lock in &locks {
            let (session, mount, pid) = (lock.session, &lock.client, lock.pid);
            tracing::warn!(inode = ino.0, session, mount, pid, "an operator broke a lock");
        }
        Ok(Response::new(v1::BreakLocksReply { locks }))
    }

    async fn change_members(
        &self,
        request: Request<v1::ChangeMembersRequest>,
    ) -> Result<Response<v1::ChangeMembersReply>, Status> {
        use v1::change_members_request::Change;
        let request = request.into_inner();
        let change = match request.change {
            Some(Change::Join(address)) => {
                let speaks = Speaks { oldest: request.wire_oldest, newest: request.wire_version };
                self.node.reader().with_state(|state| versions::may_join(state, speaks))?;
                check_address("the address of a node", &address)
                    .map_err(|e| Status::invalid_argument(e.to_string()))?;
                MemberChange::Join { address }
            }
            Some(Change::Leave(node)) => MemberChange::Leave(NodeId(node)),
            Some(Change::Stay(node)) => MemberChange::Stay(NodeId(node)),
            Some(Change::GiveUp(node)) => {
                self.node.tell(Event::Input(Input::GiveUp(NodeId(node))));
                return Ok(Response::new(v1::ChangeMembersReply { node, ..v1::ChangeMembersReply::default() }));
            }
            None => return Err(Status::invalid_argument("no change is named")),
        };
        let (node, members) = self.node.change_members(change.clone()).await.map_err(|why| match why {
            NotChanged::NotLeading | NotChanged::Refused(_) => Status::failed_precondition(why.to_string()),
            NotChanged::LostLead | NotChanged::TooLong | NotChanged::Stopped => Status::unavailable(why.to_string()),
        })?;
        tracing::warn!(%node, ?change, "an operator changed the list of nodes");
        let member = |(id, member): (&NodeId, &Member)| v1::Member {
            id: id.0,
            address: member.address.clone(),
            votes: member.votes,
            leaves: member.leaves,
            away: member.away,
        };
        let (next, members) = (members.next.0, members.nodes.iter().map(member).collect());
        Ok(Response::new(v1::ChangeMembersReply { node: node.0, members, next }))
    }

    async fn copies(&self, request: Request<v1::CopiesRequest>) -> Result<Response<v1::CopiesReply>, Status> {
        let of = request.into_inner().ino.map(Ino);
        let stopped = || Status::unavailable("the node has stopped");
        let mut rows = self.node.copies(of, COPIES_LISTED + 1).await.ok_or_else(stopped)?;
        let more = rows.len() > COPIES_LISTED;
        rows.truncate(COPIES_LISTED);
        let (from, max) = of.map_or((Ino(0), COPIES_LISTED), |ino| (ino, 1));
        let tokens = self.node.tokens(from, max).await.ok_or_else(stopped)?;
        let tokens = tokens.into_iter().filter(|row| of.is_none_or(|ino| ino == row.object)).map(token_row).collect();
        let node = self.node.id().0;
        Ok(Response::new(v1::CopiesReply { node, tokens, rows: rows.into_iter().map(copy_row).collect(), more }))
    }
}

/// A checksum over all that a state holds.
fn hash(state: &dyn Store) -> Result<u32, Fault> {
    const STEP: usize = 4_096;
    let (mut hash, mut from) = (0, Key::Volume);
    for key in [Key::Members, Key::Version] {
        let value = state.get(&key)?.and_then(|value| encode_value(&value).ok());
        hash = crc32c::crc32c_append(hash, &value.unwrap_or_default());
    }
    loop {
        let step = state.range(&from, &Key::LAST, STEP)?;
        // The last of a full step comes again, as the first of the next.
        let full = step.len() == STEP;
        let taken = if full { STEP - 1 } else { step.len() };
        for (key, value) in &step[..taken] {
            hash = crc32c::crc32c_append(hash, &encode_key(key));
            hash = crc32c::crc32c_append(hash, &encode_value(value).unwrap_or_default());
        }
        match step.into_iter().next_back() {
            Some((last, _)) if full => from = last,
            _ => return Ok(hash),
        }
    }
}

/// Rows in one answer.
const COPIES_LISTED: usize = 10_000;

fn copy_row(row: CopyRow) -> v1::CopyRow {
    let (ino, part, name) = match row.object {
        Object::Whole(ino) => (ino, "all", Vec::new()),
        Object::Rights(ino) => (ino, "rights", Vec::new()),
        Object::Entry(dir, name) => (dir, "name", name.as_bytes().to_vec()),
    };
    v1::CopyRow {
        ino: ino.0,
        part: part.into(),
        name: name.into(),
        client: row.client,
        since_ms: row.since / 1000,
        asked_back_ms: row.asked_back.map(|us| us / 1000),
        waits: row.waits.map(Into::into),
    }
}

fn token_row(row: Row<NodeId>) -> v1::TokenRow {
    let held = match row.held {
        Some(Mode::Exclusive) => "exclusive",
        Some(Mode::Shared) => "shared",
        None => "",
    };
    let wait = |(node, mode): (Option<NodeId>, Mode)| v1::TokenWait {
        node: node.map(|node| node.0),
        exclusive: mode == Mode::Exclusive,
    };
    v1::TokenRow {
        ino: row.object.0,
        towards: row.towards.map(|node| node.0),
        held: held.into(),
        copies: row.copies.into_iter().map(|node| node.0).collect(),
        queue: row.queue.into_iter().map(wait).collect(),
    }
}

/// Rows in one answer.
const LOCKS_LISTED: usize = 10_000;

fn list_locks(state: &dyn Store) -> Result<v1::LocksReply, Fault> {
    let mut reply = v1::LocksReply { broken: list_broken(state)?, ..v1::LocksReply::default() };
    let found = state.range(&Key::Locks(Ino(0)), &Key::Locks(Ino(u64::MAX)), LOCKS_LISTED)?;
    for (key, value) in found {
        let (Key::Locks(ino), Value::Locks(locks)) = (key, value) else { continue };
        let held = locks.held.iter().map(|lock| (lock, false));
        for (lock, waiting) in held.chain(locks.waiting.iter().map(|w| (&w.lock, true))) {
            if reply.locks.len() == LOCKS_LISTED {
                reply.more = true;
                return Ok(reply);
            }
            reply.locks.push(lock_row(ino, lock, client(state, lock.by.session)?, waiting));
        }
    }
    Ok(reply)
}

/// Who may not write to what because its locks there were broken.
fn list_broken(state: &dyn Store) -> Result<Vec<v1::BrokenRow>, Fault> {
    let mut rows = Vec::new();
    for (key, value) in state.range(&Key::LockUse(SessionId(0), Ino(0)), &Key::LAST, LOCKS_LISTED)? {
        if let (Key::LockUse(session, ino), Value::LocksBroken) = (key, value) {
            rows.push(v1::BrokenRow { ino: ino.0, session: session.0, client: client(state, session)? });
        }
    }
    Ok(rows)
}

fn client(state: &dyn Store, session: SessionId) -> Result<String, Fault> {
    Ok(match state.get(&Key::Session(session))? {
        Some(Value::Session(session)) => session.client,
        _ => String::new(),
    })
}

fn lock_row(ino: Ino, lock: &FileLock, client: String, waiting: bool) -> v1::LockRow {
    let (pid, start, end, exclusive) = (lock.pid, lock.start, lock.end, lock.exclusive);
    v1::LockRow { ino: ino.0, session: lock.by.session.0, client, pid, start, end, exclusive, waiting }
}

impl AdminService {
    fn reply(&self, status: &NodeStatus) -> v1::StatusReply {
        let found = self.node.slices().last_found();
        let row = |peer| self.node_row(status, peer, found.as_ref());
        let nodes: Vec<v1::NodeStatus> = status.peers.iter().map(row).collect();
        let mounts = status.sessions.iter().map(|s| v1::MountStatus {
            session: s.session.0,
            client: s.client.clone(),
            node: if s.here { status.node.0 } else { 0 },
            since: s.since.secs,
        });
        v1::StatusReply {
            cluster: status.cluster.map(|c| c.0),
            node: status.node.0,
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_ms: self.about.started.elapsed().as_millis() as u64,
            leader: status.leader.map(|l| l.0),
            term: status.term,
            mounts: mounts.collect(),
            inodes: status.inodes,
            allocated: status.allocated,
            health: health(status, &nodes, found.as_ref()),
            slices_short: found.as_ref().map(|found| found.survey.short),
            short_ms: found.as_ref().and_then(|found| millis(&found.making)),
            to_move: found.as_ref().map(|found| found.survey.to_move),
            move_ms: found.as_ref().and_then(|found| millis(&found.moving)),
            nodes,
            tree: status.tokens.view.1,
            in_force: status.in_force,
        }
    }

    fn node_row(&self, status: &NodeStatus, peer: &PeerStatus, found: Option<&Found>) -> v1::NodeStatus {
        let me = peer.node == status.node;
        let role = match peer {
            _ if status.leader == Some(peer.node) => v1::Role::Leader,
            _ if peer.voter => v1::Role::Voter,
            _ => v1::Role::Learner,
        };
        let slices = if me { self.node.slices().store.stats() } else { Default::default() };
        let applied = peer.applied.unwrap_or(0);
        let parent = status.tokens.parents.get(&peer.node).map(|node| node.0);
        v1::NodeStatus {
            id: peer.node.0,
            address: self.about.addresses.get(&peer.node).unwrap_or(&peer.address).clone(),
            role: role.into(),
            region: self.about.regions.get(&peer.node).cloned().unwrap_or_default(),
            parent,
            in_tree: parent.is_some() || status.leader == Some(peer.node),
            speaks: peer.speaks,
            reachable: me || peer.active.unwrap_or(status.leader == Some(peer.node)),
            applied,
            lag: peer.applied.map_or(0, |applied| status.committed.saturating_sub(applied)),
            disk_total: peer.space.map_or(0, |s| s.total),
            disk_free: peer.space.map_or(0, |s| s.free),
            slices: slices.slices as u64,
            slice_bytes: slices.bytes,
            leaves: peer.leaves,
            away: peer.away,
            still_needed: found.and_then(|found| found.survey.needed.get(&peer.node).copied()),
            lacks: peer.lacks,
            to_fetch: peer.fetching.map(|fetching| fetching.lacks),
            fetch_ms: peer.fetching.and_then(|fetching| fetching.left_us).map(|us| us / 1000),
            leave_ms: found.and_then(|found| found.leaving.get(&peer.node)).and_then(millis),
        }
    }
}

fn millis(pace: &Pace) -> Option<u64> {
    pace.left().map(|left| left.as_millis() as u64)
}
