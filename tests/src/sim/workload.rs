//! What the programs do: each process makes one call after the other, on few names, so that they collide.

use super::data::{WriteId, whole};
use super::history::{Act, NameId, Saw};
use super::kernel::Since;
use super::world::{Event, Life, World};
use baton_core::meta::ops::*;
use baton_core::meta::{Answer, Op, Query};
use baton_core::mount::{Call, CallId, Done, Handle, Input, Valid};
use baton_core::session::Reply;
use baton_core::types::{Cookie, Cred, Errno, Ino, Kind, Name, XattrName};
use bytes::Bytes;
use std::collections::VecDeque;

const NAMES: usize = 6;
/// The name of the file that is only appended to.
const LOG: NameId = 100;
const OPEN_MAX: usize = 4;
/// Ranges that are locked: more than one, so that processes wait for each other in circles.
const LOCK_RANGES: u8 = 3;
const KNOWN_MAX: usize = 8;
/// Files stay below this.
const SIZE_MAX: u64 = 300_000;

/// A file that a process has open.
#[derive(Clone, Copy, Debug)]
struct Held {
    handle: Handle,
    ino: Ino,
    /// How often the mount had been fenced when it was opened.
    fenced: u64,
}

#[derive(Debug)]
pub(super) struct Process {
    client: u64,
    /// The call under way, and the file that must stay alive during it.
    pending: Option<(usize, Act, Option<Held>)>,
    /// What the kernel knew when that began.
    since: Since,
    open: Vec<Held>,
    known: Vec<Ino>,
    dirs: Vec<Ino>,
    log: Option<Ino>,
    /// Ranges of the root that it has locked.
    locked: Vec<u8>,
    /// What it does before anything else.
    script: VecDeque<Act>,
    /// Walks the whole tree and reads everything it finds.
    audits: bool,
    pub(super) idle: bool,
}

impl Process {
    pub(super) fn act_under_way(&self) -> Option<&Act> {
        self.pending.as_ref().map(|(_, act, _)| act)
    }
}

impl World {
    pub(super) fn new_process(&mut self) -> Process {
        self.stats.processes += 1;
        Process {
            client: self.stats.processes,
            pending: None,
            since: Since::default(),
            open: Vec::new(),
            known: Vec::new(),
            dirs: vec![Ino::ROOT],
            log: None,
            locked: Vec::new(),
            script: VecDeque::from([Act::Create { dir: Ino::ROOT, name: LOG, exclusive: false }]),
            audits: false,
            idle: false,
        }
    }

    /// Turns one process into the one that reads everything there is.
    pub(super) fn start_audit(&mut self, mount: usize) {
        let life = self.mounts[mount].life;
        let process = &mut self.mounts[mount].processes[0];
        process.audits = true;
        process.idle = false;
        process.script = VecDeque::from([Act::List { dir: Ino::ROOT }]);
        self.after(1, Event::Process(mount, life, 0));
    }

    pub(super) fn process(&mut self, mount: usize, life: Life, at: usize) {
        if !self.mount_lives(mount, life) || self.mounts[mount].processes[at].pending.is_some() {
            return;
        }
        let act = if self.calm { self.last_act(mount, at) } else { Some(self.next_act(mount, at)) };
        let Some((act, held)) = act else {
            self.mounts[mount].processes[at].idle = true;
            return;
        };
        let now = self.mounts[mount].clock.mono(self.now);
        if let Some(outcome) = self.mounts[mount].kernel.answer(&act, now)
            && !self.is_being_changed_here(mount, &act)
        {
            return self.kernel_answers(mount, at, act, outcome);
        }
        // A mount that is stopped, or a directory in which another process of this kernel is busy.
        let frozen = self.mounts[mount].frozen_until;
        if frozen > self.now || self.directory_is_locked(mount, &act) {
            let process = &mut self.mounts[mount].processes[at];
            match held {
                Some(held) if matches!(act, Act::Release) => process.open.push(held),
                Some(_) => {}
                None => process.script.push_front(act),
            }
            let later = frozen.max(self.now + 1_000);
            return self.at(later, Event::Process(mount, life, at));
        }
        self.make_call(mount, at, act, held);
    }

    /// In the calm a process closes what it has open, and the auditor reads on.
    fn last_act(&mut self, mount: usize, at: usize) -> Option<(Act, Option<Held>)> {
        let process = &mut self.mounts[mount].processes[at];
        if let Some(range) = process.locked.first() {
            return Some((Act::Unlock { range: *range }, None));
        }
        if let Some(held) = process.open.pop() {
            return Some((Act::Release, Some(held)));
        }
        if process.audits { process.script.pop_front().map(|act| (act, None)) } else { None }
    }

    fn next_act(&mut self, mount: usize, at: usize) -> (Act, Option<Held>) {
        let rng = &mut self.rng;
        let process = &mut self.mounts[mount].processes[at];
        if let Some(act) = process.script.pop_front() {
            return (act, None);
        }
        let dir = *rng.pick(&process.dirs).unwrap_or(&Ino::ROOT);
        let new_dir = *rng.pick(&process.dirs).unwrap_or(&Ino::ROOT);
        let name = rng.below(NAMES) as NameId;
        let new_name = rng.below(NAMES) as NameId;
        let known = rng.pick(&process.known).copied();
        let held = rng.pick(&process.open).copied();
        if process.open.len() > OPEN_MAX {
            return (Act::Release, Some(process.open.remove(0)));
        }
        if let Some(range) = process.locked.first().filter(|_| rng.one_in(4)) {
            return (Act::Unlock { range: *range }, None);
        }
        let choice = rng.range(0, 140);
        match (choice, held, known, process.log) {
            (0..=9, _, _, _) => (Act::Create { dir, name, exclusive: rng.one_in(2) }, None),
            (10..=16, _, _, _) => (Act::Lookup { dir, name }, None),
            (17..=21, _, _, _) => (Act::Unlink { dir, name }, None),
            (22..=24, _, _, _) => (Act::Mkdir { dir, name }, None),
            (25..=26, _, _, _) => (Act::Rmdir { dir, name }, None),
            (27..=32, _, _, _) => {
                let how = *rng
                    .pick(&[RenameHow::Replace, RenameHow::Replace, RenameHow::NoReplace, RenameHow::Exchange])
                    .unwrap_or(&RenameHow::Replace);
                (Act::Rename { dir, name, new_dir, new_name, how }, None)
            }
            (33..=34, _, Some(ino), _) => (Act::Link { ino, dir, name }, None),
            (35, _, _, _) => (Act::Symlink { dir, name }, None),
            (36..=38, _, _, _) => (Act::List { dir }, None),
            (39..=42, _, Some(ino), _) => (Act::Open { ino }, None),
            (43..=45, _, Some(ino), _) => (Act::SetXattr { ino, id: rng.next() }, None),
            (46..=48, _, Some(ino), _) => (Act::GetXattr { ino }, None),
            (49..=52, Some(held), _, _) => {
                let at = process.open.iter().position(|h| h.handle == held.handle).unwrap_or(0);
                (Act::Release, Some(process.open.remove(at)))
            }
            (53..=64, _, _, Some(ino)) => (Act::Write { ino, at: None, len: rng.range(20, 120), id: rng.next() }, None),
            // What is asked again and again comes to be kept.
            (110..=119, _, _, _) => again(rng, process, Act::Lookup { dir, name }),
            (120..=126, _, Some(ino), _) => again(rng, process, Act::Stat { ino }),
            (127..=131, _, Some(ino), _) => again(rng, process, Act::GetXattr { ino }),
            (132.., _, _, _) => again(rng, process, Act::List { dir }),
            (100.., _, _, _) => {
                let range = rng.below(LOCK_RANGES as usize) as u8;
                (Act::Lock { range, exclusive: rng.one_in(2), wait: !rng.one_in(4) }, None)
            }
            (_, Some(held), _, _) => (file_act(rng, held.ino), Some(held)),
            _ => (Act::Create { dir, name, exclusive: false }, None),
        }
    }

    fn kernel_answers(&mut self, mount: usize, at: usize, act: Act, outcome: Result<Done, Errno>) {
        self.stats.count("answered by a kernel");
        self.stats.operations += 1;
        self.trace.line(self.now, || format!("the kernel of mount {mount} answers {act:?}: {outcome:?}"));
        let (life, client) = (self.mounts[mount].life, self.mounts[mount].processes[at].client);
        let entry = self.history.begin(client, self.now, act.clone());
        let saw = saw(&act, &outcome);
        self.learn(mount, at, &act, &saw, outcome.ok());
        self.history.end(entry, self.now, saw);
        let pause = self.rng.range(self.plan.think_us / 10, self.plan.think_us * 2);
        self.after(pause, Event::Process(mount, life, at));
    }

    /// A reply of the mount reaches its kernel, and the process behind it.
    pub(super) fn reply_arrives(
        &mut self,
        mount: usize,
        life: Life,
        call: CallId,
        outcome: Result<Done, Errno>,
        valid: Valid,
    ) {
        if !self.mount_lives(mount, life) {
            return;
        }
        let sim = &mut self.mounts[mount];
        if let Some(at) = sim.calls.get(&call)
            && let Some((_, act, _)) = &sim.processes[*at].pending
        {
            let since = sim.processes[*at].since;
            sim.kernel.hear(act, since, &outcome, valid);
        }
        self.responded(mount, call, outcome);
    }

    fn make_call(&mut self, mount: usize, at: usize, act: Act, held: Option<Held>) {
        self.mounts[mount].next_call += 1;
        let id = CallId(self.mounts[mount].next_call);
        let cred = match self.rng.next() % 10 {
            0 if act_is_for_anyone(&act) => Cred { uid: 1000, gid: 1000, groups: None },
            _ => Cred::ROOT,
        };
        let handle = held.map(|h| h.handle);
        let call = call_of(&act, handle, self.mounts[mount].processes[at].client);
        self.stats.operations += 1;
        self.trace.line(self.now, || format!("mount {mount} process {at} calls {} {act:?}", id.0));
        let since = self.mounts[mount].kernel.since();
        let process = &mut self.mounts[mount].processes[at];
        process.since = since;
        let entry = self.history.begin(process.client, self.now, act.clone());
        process.pending = Some((entry, act, held));
        self.mounts[mount].calls.insert(id, at);
        self.step_mount(mount, Input::Call { id, cred, call });
    }

    pub(super) fn responded(&mut self, mount: usize, call: CallId, outcome: Result<Done, Errno>) {
        self.trace.line(self.now, || format!("mount {mount} answers {} {:.120}", call.0, format!("{outcome:?}")));
        self.trace.detail(call.0 * 2 + u64::from(outcome.is_ok()));
        let Some(at) = self.mounts[mount].calls.remove(&call) else {
            return self.fail(format!("mount {mount} answered call {} twice", call.0));
        };
        let (life, fenced) = (self.mounts[mount].life, self.mounts[mount].fenced);
        let Some((entry, act, held)) = self.mounts[mount].processes[at].pending.take() else { return };
        let may_be_broken = matches!(act, Act::Lock { .. }) && self.orders.contains(&true);
        if let Err(Errno::EIO) = outcome
            && self.mounts[mount].fenced_at != self.now
            && !may_be_broken
        {
            self.fail(format!("{act:?} on mount {mount} failed with EIO, and nothing had cut it off"));
        }
        if let (Err(errno @ (Errno::ENOENT | Errno::ESTALE)), Some(held)) = (&outcome, held)
            && held.fenced == fenced
            && !self.session_is_over(mount)
        {
            self.fail(format!("{act:?} on mount {mount}: {errno:?}, but the file is open"));
        }
        let saw = saw(&act, &outcome);
        self.learn(mount, at, &act, &saw, outcome.ok());
        self.history.end(entry, self.now, saw);
        let pause = self.plan.think_us;
        let pause = if self.mounts[mount].processes[at].audits { 100 } else { self.rng.range(pause / 10, pause * 2) };
        self.after(pause, Event::Process(mount, life, at));
    }

    /// Whether the session has ended already, though the mount may not have heard of it: then nothing is kept open for it.
    fn session_is_over(&self, mount: usize) -> bool {
        let session = self.mounts[mount].machine.as_ref().and_then(|m| m.session());
        let statuses = self.nodes.iter().filter_map(|n| n.machine.as_ref().map(|m| m.status()));
        let newest = statuses.max_by_key(|s| s.applied);
        newest.is_some_and(|s| s.sessions.iter().all(|known| Some(known.session) != session))
    }

    /// What a process remembers of what it saw.
    fn learn(&mut self, mount: usize, at: usize, act: &Act, saw: &Saw, done: Option<Done>) {
        let fenced = self.mounts[mount].fenced;
        let process = &mut self.mounts[mount].processes[at];
        match (act, saw) {
            (Act::Create { name: LOG, .. }, Saw::Object(ino)) => {
                process.log = Some(*ino);
                self.history.log = Some(*ino);
            }
            (Act::Create { name: LOG, .. }, _) => process.script.push_front(act.clone()),
            (Act::Mkdir { .. }, Saw::Object(ino)) => remember(&mut process.dirs, *ino),
            (Act::Lookup { .. }, Saw::Object(ino)) => remember(&mut process.known, *ino),
            (Act::List { .. }, Saw::Listing(_)) if process.audits => {}
            (Act::Lock { range, .. }, Saw::Done) if !process.locked.contains(range) => process.locked.push(*range),
            // What came of it is unknown: asked for again, in the calm.
            (Act::Unlock { range }, Saw::Done) => process.locked.retain(|locked| locked != range),
            _ => {}
        }
        let Some(done) = done else {
            if process.audits && matches!(saw, Saw::Nothing) {
                process.script.push_front(act.clone());
            }
            return;
        };
        match done {
            // The log is only appended to, so it is not among the files to do anything with.
            Done::Opened { .. } if process.log.is_some() && process.log == object(saw) => {}
            Done::Opened { handle, attr } => process.open.push(Held { handle, ino: attr.ino, fenced }),
            Done::Answer(Answer::Listing { entries, .. }) => {
                for entry in entries {
                    if process.audits {
                        audit(&mut process.script, entry.ino, entry.kind);
                    } else if entry.kind == Kind::Directory {
                        remember(&mut process.dirs, entry.ino);
                    } else if entry.name.as_bytes() != b"log" {
                        remember(&mut process.known, entry.ino);
                    }
                }
            }
            _ => {}
        }
    }

    /// The session of a mount ended, with all locks.
    pub(super) fn locks_lost(&mut self, mount: usize) {
        for process in &mut self.mounts[mount].processes {
            process.locked.clear();
            let entry = self.history.begin(process.client, self.now, Act::LocksLost);
            self.history.end(entry, self.now, Saw::Done);
        }
    }

    /// The locks that were broken are over from now on, though their programs do not know it. No node shows it before the
    /// first one that applies it.
    pub(super) fn locks_broken(&mut self, request: u64, reply: &Reply) {
        let Reply::Done(Answer::Broken(locks)) = reply else {
            return self.fail(format!("an order to break locks was answered {reply:?}"));
        };
        if std::mem::replace(&mut self.orders[request as usize], true) {
            return;
        }
        if !locks.is_empty() {
            self.stats.count("locks broken");
        }
        for lock in locks {
            let entry = self.history.begin(lock.by.owner, self.now, Act::LocksLost);
            self.history.end(entry, self.now, Saw::Done);
        }
    }

    /// Every process that lives has finished what it began.
    pub(super) fn all_idle(&self) -> bool {
        self.mounts.iter().all(|m| m.machine.is_none() || m.processes.iter().all(|p| p.idle))
    }

    pub(super) fn wake_processes(&mut self) {
        for mount in 0..self.mounts.len() {
            let life = self.mounts[mount].life;
            for at in 0..self.mounts[mount].processes.len() {
                self.after(1, Event::Process(mount, life, at));
            }
        }
    }
}

/// The same some more times.
fn again(rng: &mut super::rng::Rng, process: &mut Process, act: Act) -> (Act, Option<Held>) {
    process.script.extend(std::iter::repeat_n(act.clone(), rng.below(8)));
    (act, None)
}

fn object(saw: &Saw) -> Option<Ino> {
    if let Saw::Object(ino) = saw { Some(*ino) } else { None }
}

fn audit(script: &mut VecDeque<Act>, ino: Ino, kind: Kind) {
    match kind {
        Kind::Directory => script.push_back(Act::List { dir: ino }),
        Kind::File => {
            script.push_back(Act::Stat { ino });
            script.push_back(Act::Read { ino, offset: 0, len: 4 << 20 });
            script.push_back(Act::GetXattr { ino });
        }
        _ => {}
    }
}

fn remember(list: &mut Vec<Ino>, ino: Ino) {
    if !list.contains(&ino) {
        list.push(ino);
        if list.len() > KNOWN_MAX {
            list.remove(1);
        }
    }
}

fn file_act(rng: &mut super::rng::Rng, ino: Ino) -> Act {
    let offset = if rng.one_in(3) { rng.range(0, 200_000) } else { rng.range(0, 9_000) };
    match rng.range(0, 16) {
        0..=4 => {
            let len = if rng.one_in(8) { rng.range(60_000, 100_000) } else { rng.range(1, 6_000) };
            Act::Write { ino, at: Some(offset), len: len.min(SIZE_MAX - offset), id: rng.next() }
        }
        5 => Act::Write { ino, at: None, len: rng.range(1, 2_000), id: rng.next() },
        6..=10 => Act::Read { ino, offset, len: if rng.one_in(4) { SIZE_MAX } else { rng.range(1, 8_000) } },
        11 => Act::Truncate { ino, size: offset },
        12 => Act::Punch { ino, offset, len: rng.range(1, 10_000) },
        13 => Act::Allocate { ino, offset, len: rng.range(1, 10_000) },
        14 => {
            Act::CopyWithin { ino, from: rng.range(0, 5_000), to: rng.range(10_000, 20_000), len: rng.range(1, 5_000) }
        }
        _ => Act::Stat { ino },
    }
}

/// What a caller without rights may try as well: its failure says nothing, its success is one like any other.
fn act_is_for_anyone(act: &Act) -> bool {
    matches!(
        act,
        Act::Create { name: 0..LOG, .. }
            | Act::Mkdir { .. }
            | Act::Lookup { .. }
            | Act::List { .. }
            | Act::Unlink { .. }
    )
}

pub(super) fn name_of(id: NameId) -> Name {
    let text = if id == LOG { "log".to_string() } else { format!("n{id}") };
    Name::new(text.as_bytes()).expect("short and plain")
}

fn name_id(name: &Name) -> NameId {
    match name.as_bytes() {
        [b'n', digit] => digit - b'0',
        _ => LOG,
    }
}

fn bytes_of(range: u8) -> (u64, u64) {
    let start = u64::from(range) * 10;
    (start, start + 9)
}

fn xattr() -> XattrName {
    XattrName::new(b"user.sim").expect("short and plain")
}

fn setattr(ino: Ino, size: u64) -> SetAttr {
    SetAttr { ino, mode: None, uid: None, gid: None, size: Some(size), atime: None, mtime: None, opened: true }
}

fn call_of(act: &Act, handle: Option<Handle>, client: u64) -> Call {
    let op = |op: Op| Call::Do(op);
    let ask = |query: Query| Call::Ask(query);
    let fallocate = |ino, offset, len, how, keep_size| op(Fallocate { ino, offset, len, how, keep_size }.into());
    match act.clone() {
        Act::Create { dir, name, exclusive } => Call::Create(Create {
            dir,
            name: name_of(name),
            mode: 0o666,
            exclusive,
            truncate: false,
            read: true,
            write: true,
        }),
        Act::Mkdir { dir, name } => op(Mkdir { dir, name: name_of(name), mode: 0o777 }.into()),
        Act::Symlink { dir, name } => {
            op(Symlink { dir, name: name_of(name), target: Bytes::from_static(b"nowhere") }.into())
        }
        Act::Link { ino, dir, name } => op(Link { ino, dir, name: name_of(name) }.into()),
        Act::Unlink { dir, name } => op(Unlink { dir, name: name_of(name) }.into()),
        Act::Rmdir { dir, name } => op(Rmdir { dir, name: name_of(name) }.into()),
        Act::Rename { dir, name, new_dir, new_name, how } => {
            op(Rename { dir, name: name_of(name), new_dir, new_name: name_of(new_name), how }.into())
        }
        Act::Lookup { dir, name } => ask(Lookup { dir, name: LookupName::Name(name_of(name)) }.into()),
        Act::List { dir } => ask(ReadDir { ino: dir, after: Cookie(0), max: 1000, attrs: false }.into()),
        Act::Write { ino, at, len, id } => {
            let at = at.map_or(WriteAt::End, WriteAt::Offset);
            Call::Write { ino, at, data: whole(id, len), kill_suid: false, mapped: false }
        }
        Act::Read { ino, offset, len } => Call::Read { ino, offset, len: len as u32, pages: false },
        Act::Truncate { ino, size } => op(setattr(ino, size).into()),
        Act::Punch { ino, offset, len } => fallocate(ino, offset, len, FallocateHow::PunchHole, true),
        Act::Allocate { ino, offset, len } => fallocate(ino, offset, len, FallocateHow::Allocate, false),
        Act::CopyWithin { ino, from, to, len } => {
            op(CopyRange { from: ino, from_offset: from, to: ino, to_offset: to, len }.into())
        }
        Act::SetXattr { ino, id } => {
            let value = Bytes::copy_from_slice(&id.to_le_bytes());
            op(SetXattr { ino, name: xattr(), value, how: XattrHow::Either }.into())
        }
        Act::GetXattr { ino } => ask(GetXattr { ino, name: xattr() }.into()),
        Act::Stat { ino } => ask(GetAttr { ino }.into()),
        Act::Open { ino } => Call::Open { ino, read: true, write: true, exec: false },
        Act::Release => Call::Release(handle.unwrap_or(Handle(0))),
        Act::Lock { range, exclusive, wait } => {
            let (start, end) = bytes_of(range);
            Call::Lock { ino: Ino::ROOT, handle: None, owner: client, pid: 1, start, end, exclusive, wait }
        }
        Act::Unlock { range } => {
            let (start, end) = bytes_of(range);
            Call::Unlock { ino: Ino::ROOT, owner: client, start, end }
        }
        Act::LocksLost => unreachable!("nothing that a program calls"),
    }
}

/// What a program's outcome means to the checkers.
fn saw(act: &Act, outcome: &Result<Done, Errno>) -> Saw {
    let done = match outcome {
        Err(Errno::EIO) => return Saw::Nothing,
        Err(Errno::ENODATA) if matches!(act, Act::GetXattr { .. }) => return Saw::Xattr(None),
        Err(errno) => return Saw::Failed(*errno),
        Ok(done) => done,
    };
    match done {
        Done::Opened { attr, .. } => Saw::Object(attr.ino),
        Done::Written { offset, attr, .. } => {
            Saw::Written { offset: *offset, size: attr.size, version: attr.version.0 }
        }
        Done::Data(pieces) => Saw::Bytes(pieces.concat()),
        Done::Nothing => Saw::Done,
        Done::Answer(answer) => match answer {
            Answer::Attr(attr) => match act {
                Act::Stat { .. } if attr.kind != Kind::File => Saw::Done,
                Act::Stat { .. } | Act::Truncate { .. } | Act::Allocate { .. } | Act::Punch { .. } => {
                    Saw::Size(attr.size)
                }
                _ => Saw::Object(attr.ino),
            },
            Answer::Listing { entries, .. } => {
                Saw::Listing(entries.iter().map(|e| (name_id(&e.name), e.ino)).collect())
            }
            Answer::Copied(len) => Saw::Copied(*len),
            Answer::Xattr(value) => Saw::Xattr(<[u8; 8]>::try_from(&value[..]).ok().map(WriteId::from_le_bytes)),
            _ => Saw::Done,
        },
    }
}

impl World {
    /// For the report: which calls are not answered, and on what they wait.
    pub(super) fn who_waits(&self) -> String {
        let mut text = String::new();
        for (at, mount) in self.mounts.iter().enumerate().filter(|(_, m)| m.machine.is_some()) {
            for process in &mount.processes {
                if let Some((entry, act, _)) = &process.pending {
                    let began = self.history.records[*entry].began / 1000;
                    text += &format!("[mount {at} since {began} ms: {act:?}] ");
                }
            }
            let ready = mount.machine.as_ref().is_some_and(|m| m.is_ready());
            let node = mount.conn.and_then(|conn| self.conns.get(&conn)).map(|conn| conn.node + 1);
            text += &format!("(mount {at}: at node {node:?}, ready {ready}) ");
        }
        for (at, machine) in self.nodes.iter().enumerate().filter_map(|(at, node)| Some((at, node.machine.as_ref()?))) {
            for row in
                machine.copies(None, 50).into_iter().filter(|row| row.waits.is_some() || row.asked_back.is_some())
            {
                text += &format!("\n  node {}: {:?} of {} {:?}", at + 1, row.object, row.client, row.waits);
            }
            for row in machine.tokens(Ino(0), 1000).into_iter().filter(|row| !row.queue.is_empty()) {
                text += &format!("\n  node {}: {row:?}", at + 1);
            }
        }
        text
    }
}
