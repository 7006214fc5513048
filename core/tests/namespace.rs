//! Random sequences of operations, on the namespace and on the reference model side by side: the same errors, the same tree,
//! the same bytes, and a state without contradictions. Every operation runs a second time on a store that knows nothing and
//! is fed fault by fault: it must come to the same end.

mod model;

use baton_core::meta::ops::*;
use baton_core::meta::{
    Answer, Fault, Key, Memory, Op, PieceSource, Query, Step, Stop, Store, Txn, Value, check, format,
};
use baton_core::types::{Attr, Cookie, Cred, Errno, Ino, Kind, Name, NodeId, Owner, SessionId, SliceId, Stamp};
use bytes::Bytes;
use model::{Id, Model, Move, Node, Outcome, Path};
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

/// Knows only what it was fed.
#[derive(Default)]
struct Partial {
    pairs: Memory,
    keys: BTreeSet<Key>,
    ranges: Vec<(Key, Key)>,
}

impl Partial {
    fn feed(&mut self, fault: Fault, full: &Memory) {
        match fault {
            Fault::Key(key) => {
                assert!(self.keys.insert(key.clone()), "{key:?} was fed already");
                self.pairs.0.extend(full.0.get(&key).map(|value| (key, value.clone())));
            }
            Fault::Range(from, to) => {
                self.pairs.0.extend(full.range(&from, &to, usize::MAX).unwrap());
                self.ranges.push((from, to));
            }
        }
    }
}

impl Store for Partial {
    fn get(&self, key: &Key) -> Result<Option<Value>, Fault> {
        let known = self.keys.contains(key) || self.ranges.iter().any(|(from, to)| from <= key && key < to);
        if known { self.pairs.get(key) } else { Err(Fault::Key(key.clone())) }
    }

    fn range(&self, from: &Key, to: &Key, max: usize) -> Result<Vec<(Key, Value)>, Fault> {
        let known = self.ranges.iter().any(|(first, end)| first <= from && to <= end);
        if known { self.pairs.range(from, to, max) } else { Err(Fault::Range(from.clone(), to.clone())) }
    }
}

/// Runs a step over a store that starts empty and learns what it is asked for.
fn by_faults(full: &Memory, now: Stamp, step: &impl Step) -> (Result<Answer, Stop>, BTreeMap<Key, Option<Value>>) {
    let mut partial = Partial::default();
    loop {
        let mut txn = Txn::new(&partial, now);
        match step.run(&mut txn, &Cred::ROOT) {
            Err(Stop::Fault(fault)) => partial.feed(fault, full),
            answer => return (answer, txn.into_changes()),
        }
    }
}

struct Baton {
    store: Memory,
    now: Cell<i64>,
    slices: BTreeMap<SliceId, Vec<u8>>,
}

impl Baton {
    fn new() -> Baton {
        let mut store = Memory::default();
        store.apply(format(Stamp::new(1, 0), Owner::ROOT));
        Baton { store, now: Cell::new(1), slices: BTreeMap::new() }
    }

    fn step(&self, step: &impl Step) -> (Outcome<Answer>, BTreeMap<Key, Option<Value>>) {
        self.now.set(self.now.get() + 1);
        let now = Stamp::new(self.now.get(), 0);
        let mut txn = Txn::new(&self.store, now);
        let answer = step.run(&mut txn, &Cred::ROOT);
        let changes = txn.into_changes();
        assert_eq!(by_faults(&self.store, now, step), (answer.clone(), changes.clone()));
        match answer {
            Ok(answer) => (Ok(answer), changes),
            Err(Stop::Errno(errno)) => (Err(errno), changes),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn op(&mut self, op: impl Into<Op>) -> Outcome<Answer> {
        let (answer, changes) = self.step(&op.into());
        let answer = answer?;
        self.store.apply(changes);
        Ok(answer)
    }

    fn ask(&self, query: impl Into<Query>) -> Outcome<Answer> {
        self.step(&query.into()).0
    }

    fn find(&self, path: &[String]) -> Outcome<Ino> {
        path.iter().try_fold(Ino::ROOT, |dir, text| {
            Ok(attr(self.ask(Lookup { dir, name: LookupName::Name(name(text)) })?).ino)
        })
    }

    fn place(&self, path: &[String]) -> Outcome<(Ino, Name)> {
        let (last, dir) = path.split_last().unwrap();
        let dir = self.find(dir)?;
        self.ask(Lookup { dir, name: LookupName::Dot })?;
        Ok((dir, name(last)))
    }

    fn read(&self, ino: Ino) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            // An odd length, so that reads begin and end in the middle of extents.
            let query = ReadLayout { ino, offset: bytes.len() as u64, len: 7_777 };
            let Ok(Answer::Layout(layout)) = self.ask(query) else { panic!("no layout") };
            for piece in layout.pieces {
                let len = piece.len as usize;
                match piece.source {
                    PieceSource::Zeros => bytes.resize(bytes.len() + len, 0),
                    PieceSource::Inline(data) => {
                        assert_eq!(data.len(), len);
                        bytes.extend_from_slice(&data);
                    }
                    PieceSource::Slice { id, at, .. } => {
                        bytes.extend_from_slice(&self.slices[&id][at as usize..at as usize + len]);
                    }
                }
            }
            if bytes.len() as u64 >= layout.size {
                return bytes;
            }
        }
    }

    fn list(&self, ino: Ino) -> BTreeMap<String, Attr> {
        let mut found = BTreeMap::new();
        let mut after = Cookie(0);
        loop {
            let answer = self.ask(ReadDir { ino, after, max: 2, attrs: true });
            let Ok(Answer::Listing { entries, end }) = answer else { panic!("{answer:?}") };
            for entry in entries {
                assert!(entry.cookie > after);
                after = entry.cookie;
                assert_eq!(found.insert(entry.name.to_string(), entry.attr.unwrap()), None);
            }
            if end {
                return found;
            }
        }
    }

    fn check(&self) {
        let report = check::check(&self.store).unwrap();
        assert!(report.problems.is_empty(), "{:#?}", report.problems);
    }
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn attr(answer: Answer) -> Attr {
    match answer {
        Answer::Attr(attr) => attr,
        other => panic!("{other:?}"),
    }
}

#[derive(Clone, Debug)]
enum Action {
    Create(Path),
    Mkdir(Path),
    Symlink(Path),
    Link(Path, Path),
    Unlink(Path),
    Rmdir(Path),
    Rename(Path, Path, Move),
    Write { path: Path, offset: Option<u16>, len: u16, fill: u8, slice: bool },
    Truncate(Path, u16),
    Fallocate(Path, u16, u16, FallocateHow, bool),
    Copy(Path, u16, Path, u16, u16),
    ReapAll,
}

impl Action {
    /// Does the same to both; the outcomes must be the same.
    fn run(&self, baton: &mut Baton, model: &mut Model) {
        let (expected, got) = match self {
            Action::Write { path, offset, len, fill, slice } => {
                let data: Vec<u8> = (0..*len).map(|i| fill.wrapping_add(i as u8)).collect();
                let expected = model.write(path, offset.map(usize::from), &data);
                (expected, write(baton, path, *offset, data, *slice))
            }
            Action::ReapAll => (Ok(()), reap_all(baton)),
            _ => (self.on_model(model), self.on_baton(baton)),
        };
        assert_eq!(got, expected, "{self:?}");
    }

    fn on_model(&self, model: &mut Model) -> Outcome {
        match self {
            Action::Create(path) => model.add(path, Node::File(Vec::new())),
            Action::Mkdir(path) => model.add(path, Node::Dir(BTreeMap::new())),
            Action::Symlink(path) => model.add(path, Node::Link(b"there".to_vec())),
            Action::Link(from, to) => model.link(from, to),
            Action::Unlink(path) => model.unlink(path),
            Action::Rmdir(path) => model.rmdir(path),
            Action::Rename(from, to, how) => model.rename(from, to, *how),
            Action::Truncate(path, size) => model.truncate(path, usize::from(*size)),
            Action::Fallocate(path, offset, len, how, keep_size) => match how {
                FallocateHow::Allocate => {
                    let size = model.bytes(path)?.len();
                    let end = usize::from(*offset) + usize::from(*len);
                    if *keep_size { Ok(()) } else { model.truncate(path, size.max(end)) }
                }
                _ => model.zero(path, usize::from(*offset), usize::from(*len), !keep_size),
            },
            Action::Copy(from, at, to, to_at, len) => {
                model.copy(from, usize::from(*at), to, usize::from(*to_at), usize::from(*len))
            }
            Action::Write { .. } | Action::ReapAll => unreachable!("done for both at once"),
        }
    }

    fn on_baton(&self, baton: &mut Baton) -> Outcome {
        match self {
            Action::Create(path) => {
                let (dir, name) = baton.place(path)?;
                let how = (true, false, true, true);
                let (exclusive, truncate, read, write) = how;
                baton.op(Create { dir, name, mode: 0o644, exclusive, truncate, read, write })?;
            }
            Action::Mkdir(path) => {
                let (dir, name) = baton.place(path)?;
                baton.op(Mkdir { dir, name, mode: 0o755 })?;
            }
            Action::Symlink(path) => {
                let (dir, name) = baton.place(path)?;
                baton.op(Symlink { dir, name, target: Bytes::from_static(b"there") })?;
            }
            Action::Link(from, to) => {
                let ino = baton.find(from)?;
                let (dir, name) = baton.place(to)?;
                baton.op(Link { ino, dir, name })?;
            }
            Action::Unlink(path) => {
                let (dir, name) = baton.place(path)?;
                baton.op(Unlink { dir, name })?;
            }
            Action::Rmdir(path) => {
                let (dir, name) = baton.place(path)?;
                baton.op(Rmdir { dir, name })?;
            }
            Action::Rename(from, to, how) => {
                let ((dir, name), (new_dir, new_name)) = (baton.place(from)?, baton.place(to)?);
                let how = match how {
                    Move::Replace => RenameHow::Replace,
                    Move::NoReplace => RenameHow::NoReplace,
                    Move::Exchange => RenameHow::Exchange,
                };
                baton.op(Rename { dir, name, new_dir, new_name, how })?;
            }
            Action::Truncate(path, size) => resize(baton, path, *size)?,
            Action::Fallocate(path, offset, len, how, keep_size) => {
                let (offset, len) = (u64::from(*offset), u64::from(*len));
                let ino = baton.find(path)?;
                // What cannot be fallocated at all has an error of its own.
                baton.ask(ReadLayout { ino, offset: 0, len: 0 })?;
                baton.op(Fallocate { ino, offset, len, how: *how, keep_size: *keep_size })?;
            }
            Action::Copy(from, at, to, to_at, len) => {
                let from = baton.find(from)?;
                baton.ask(ReadLayout { ino: from, offset: 0, len: 0 })?;
                let to = baton.find(to)?;
                let (from_offset, to_offset) = (u64::from(*at), u64::from(*to_at));
                baton.op(CopyRange { from, from_offset, to, to_offset, len: u64::from(*len) })?;
            }
            Action::Write { .. } | Action::ReapAll => unreachable!("done for both at once"),
        }
        Ok(())
    }
}

fn write(baton: &mut Baton, path: &[String], offset: Option<u16>, data: Vec<u8>, as_slice: bool) -> Outcome {
    let ino = baton.find(path)?;
    let at = offset.map_or(WriteAt::End, |offset| WriteAt::Offset(u64::from(offset)));
    let data = if as_slice && !data.is_empty() {
        let id = SliceId { session: SessionId(1), number: baton.slices.len() as u64 };
        let len = data.len() as u32;
        baton.slices.insert(id, data);
        WriteData::Slice(SliceRef { id, len, nodes: vec![NodeId(1)] })
    } else {
        WriteData::Inline(data.into())
    };
    baton.op(Write { ino, at, data, kill_suid: true })?;
    Ok(())
}

fn resize(baton: &mut Baton, path: &[String], size: u16) -> Outcome {
    let ino = baton.find(path)?;
    let size = Some(u64::from(size));
    let (mode, uid, gid, atime, mtime) = (None, None, None, None, None);
    baton.op(SetAttr { ino, mode, uid, gid, size, atime, mtime, opened: false })?;
    Ok(())
}

fn reap_all(baton: &mut Baton) -> Outcome {
    let is_orphan = |key: &Key| if let Key::Orphan(ino) = key { Some(*ino) } else { None };
    let orphans: Vec<Ino> = baton.store.0.keys().filter_map(is_orphan).collect();
    for ino in orphans {
        assert_eq!(baton.op(Reap { ino }), Ok(Answer::Done));
        assert_eq!(baton.ask(GetAttr { ino }), Err(Errno::ESTALE));
    }
    Ok(())
}

/// The same names, kinds, link counts and bytes, from here down. `inos` remembers which node is which inode.
fn compare(baton: &Baton, model: &Model, ino: Ino, id: Id, inos: &mut BTreeMap<Id, Ino>) {
    assert_eq!(*inos.entry(id).or_insert(ino), ino, "hard links of one node are one inode");
    let attr = attr(baton.ask(GetAttr { ino }).unwrap());
    match &model.nodes[id] {
        Node::File(bytes) => {
            assert_eq!((attr.kind, attr.size, attr.nlink as usize), (Kind::File, bytes.len() as u64, model.names(id)));
            assert!(baton.read(ino) == *bytes, "the bytes differ");
        }
        Node::Link(target) => {
            assert_eq!((attr.kind, attr.nlink as usize), (Kind::Symlink, model.names(id)));
            assert_eq!(baton.ask(ReadLink { ino }), Ok(Answer::Target(target.clone().into())));
        }
        Node::Dir(entries) => {
            let listed = baton.list(ino);
            assert_eq!(listed.keys().collect::<Vec<_>>(), entries.keys().collect::<Vec<_>>());
            for (name, child) in entries {
                compare(baton, model, listed[name].ino, *child, inos);
            }
        }
    }
}

/// Few names and shallow paths, so that operations meet.
fn path() -> impl Strategy<Value = Path> {
    proptest::collection::vec(prop_oneof!["a", "b", "c"].prop_map(String::from), 1..4)
}

/// Mostly one file, so that writes meet.
fn file() -> impl Strategy<Value = Path> {
    prop_oneof![3 => Just(vec!["a".to_string()]), 1 => path()]
}

/// Near the bounds of pieces more often than not.
fn offset() -> impl Strategy<Value = u16> {
    prop_oneof![0..100u16, 4000..4200u16, 8100..8300u16, 0..20_000u16]
}

fn how() -> impl Strategy<Value = Move> {
    prop_oneof![3 => Just(Move::Replace), 1 => Just(Move::NoReplace), 1 => Just(Move::Exchange)]
}

fn fallocate() -> impl Strategy<Value = (FallocateHow, bool)> {
    prop_oneof![
        any::<bool>().prop_map(|keep| (FallocateHow::Allocate, keep)),
        any::<bool>().prop_map(|keep| (FallocateHow::ZeroRange, keep)),
        Just((FallocateHow::PunchHole, true)),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let len = || prop_oneof![0..50u16, 0..9000u16];
    prop_oneof![
        3 => path().prop_map(Action::Create),
        3 => path().prop_map(Action::Mkdir),
        1 => path().prop_map(Action::Symlink),
        2 => (path(), path()).prop_map(|(from, to)| Action::Link(from, to)),
        2 => path().prop_map(Action::Unlink),
        2 => path().prop_map(Action::Rmdir),
        5 => (path(), path(), how()).prop_map(|(from, to, how)| Action::Rename(from, to, how)),
        8 => (file(), proptest::option::of(offset()), len(), any::<u8>(), any::<bool>())
            .prop_map(|(path, offset, len, fill, slice)| Action::Write { path, offset, len, fill, slice }),
        2 => (file(), offset()).prop_map(|(path, size)| Action::Truncate(path, size)),
        3 => (file(), offset(), 1..9000u16, fallocate())
            .prop_map(|(path, offset, len, (how, keep))| Action::Fallocate(path, offset, len, how, keep)),
        3 => (file(), offset(), file(), offset(), len())
            .prop_map(|(from, at, to, to_at, len)| Action::Copy(from, at, to, to_at, len)),
        1 => Just(Action::ReapAll),
    ]
}

fn play(start: Action, actions: &[Action]) {
    let (mut baton, mut model) = (Baton::new(), Model::default());
    for action in std::iter::once(&start).chain(actions) {
        action.run(&mut baton, &mut model);
        baton.check();
    }
    compare(&baton, &model, Ino::ROOT, Model::ROOT, &mut BTreeMap::new());
    reap_all(&mut baton).unwrap();
    baton.check();
    compare(&baton, &model, Ino::ROOT, Model::ROOT, &mut BTreeMap::new());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn files_behave_as_the_model_says(actions in proptest::collection::vec(action(), 1..60)) {
        play(Action::Create(vec!["a".to_string()]), &actions);
    }

    #[test]
    fn directories_behave_as_the_model_says(actions in proptest::collection::vec(action(), 1..60)) {
        play(Action::Mkdir(vec!["a".to_string()]), &actions);
    }
}
