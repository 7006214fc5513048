use super::snapshot::{Import, Part};
use super::*;
use baton_core::meta::{Content, Entry, Extent, Memory, SliceInfo, format};
use baton_core::types::{Cookie, Ino, Kind, Name, NodeId, Owner, SessionId, SliceId, Stamp, XattrName};
use baton_proto::SPEAKS;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::FileExt;
use tempfile::TempDir;

const CACHE: usize = 16 * 1024 * 1024;

fn open(dir: &TempDir) -> State {
    State::open(&path(dir), CACHE).unwrap()
}

fn path(dir: &TempDir) -> PathBuf {
    dir.path().join("state.redb")
}

fn mark(index: u64) -> Mark {
    Mark { index, term: 7 }
}

fn name(n: u64) -> Name {
    Name::new(format!("name-{n}").as_bytes()).unwrap()
}

/// A change under a key that only `n` has.
fn change(n: u64) -> (Key, Option<Value>) {
    let entry = Entry { ino: Ino(n), kind: Kind::File, cookie: Cookie(n) };
    (Key::Entry(Ino::ROOT, name(n)), Some(Value::Entry(entry)))
}

fn all(store: &impl Store) -> Vec<(Key, Value)> {
    store.range(&Key::Volume, &Key::Session(SessionId(u64::MAX)), usize::MAX).unwrap()
}

fn any_key() -> impl Strategy<Value = Key> {
    // Few of each, so that keys meet; small and large numbers, so that their order shows.
    let word = || prop_oneof![0..4u64, 250..260u64, Just(1 << 40)];
    let short = || proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(0xff)], 1..4);
    prop_oneof![
        Just(Key::Volume),
        word().prop_map(|n| Key::Inode(Ino(n))),
        (word(), short()).prop_map(|(n, s)| Key::Entry(Ino(n), Name::new(&s).unwrap())),
        (word(), word()).prop_map(|(n, m)| Key::Listing(Ino(n), Cookie(m))),
        (word(), word()).prop_map(|(n, m)| Key::Extent(Ino(n), m)),
        (word(), short()).prop_map(|(n, s)| Key::Xattr(Ino(n), XattrName::new(&[b"user.", &s[..]].concat()).unwrap())),
        word().prop_map(|n| Key::Orphan(Ino(n))),
        (word(), word()).prop_map(|(n, m)| Key::Slice(SliceId { session: SessionId(n), number: m })),
        word().prop_map(|n| Key::Session(SessionId(n))),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Orphan),
        (0..9u64).prop_map(|n| Value::Listing(name(n))),
        (0..300usize).prop_map(|n| Value::Xattr(vec![n as u8; n].into())),
        (0..9u64).prop_map(|n| Value::Extent(Extent { start: n, content: Content::Zero })),
        (0..9u32).prop_map(|n| Value::Slice(SliceInfo { len: n, nodes: vec![NodeId(1)], refs: n })),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<(Key, Option<Value>)>),
    Get(Key),
    Range(Key, Key, usize),
    Reopen,
    WriteAnew,
}

fn any_step() -> impl Strategy<Value = Step> {
    let change = (any_key(), proptest::option::weighted(0.7, any_value()));
    prop_oneof![
        4 => proptest::collection::vec(change, 0..12).prop_map(Step::Apply),
        4 => any_key().prop_map(Step::Get),
        4 => (any_key(), any_key(), 0..9usize).prop_map(|(from, to, max)| Step::Range(from, to, max)),
        1 => Just(Step::Reopen),
        1 => Just(Step::WriteAnew),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn it_answers_as_the_model_does(steps in proptest::collection::vec(any_step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let (mut state, mut model) = (open(&dir), Memory::default());
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Apply(changes) => {
                    state.apply(mark(at as u64 + 1), changes.clone()).unwrap();
                    model.apply(changes);
                }
                Step::Get(key) => prop_assert_eq!(state.get(&key), model.get(&key)),
                Step::Range(from, to, max) => {
                    prop_assert_eq!(state.range(&from, &to, max), model.range(&from, &to, max));
                }
                Step::Reopen => {
                    state.checkpoint().unwrap();
                    drop(state);
                    state = open(&dir);
                }
                Step::WriteAnew => {
                    let applied = state.applied();
                    state = state.written_anew(CACHE).unwrap();
                    prop_assert_eq!(state.applied(), applied);
                }
            }
            prop_assert_eq!(state.size().unwrap().1, bytes_of(&state));
        }
        prop_assert_eq!(all(&state), all(&model));
    }
}

/// Of all keys and values, counted.
fn bytes_of(state: &State) -> u64 {
    let pairs = state.export().flat_map(|part| match part.unwrap() {
        Part::Pairs(pairs) => pairs,
        _ => Vec::new(),
    });
    pairs.map(|(key, value)| (key.len() + value.len()) as u64).sum()
}

#[test]
fn a_state_of_which_most_was_deleted_is_written_anew_in_little_room() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(&dir);
    let long = |n: u64| Key::Extent(Ino(n), 4096);
    state.apply(mark(1), (1..2_000).map(|n| (long(n), Some(inline(n))))).unwrap();
    state.checkpoint().unwrap();
    state.apply(mark(2), (11..2_000).map(|n| (long(n), None))).unwrap();
    state.checkpoint().unwrap();
    let ((before, bytes), model) = (state.size().unwrap(), all(&state));
    assert!(before > 4_000_000 && bytes < 50_000, "{before} bytes of file for {bytes}");
    let anew = state.written_anew(CACHE).unwrap();
    assert_eq!((anew.applied(), all(&anew), all(&state)), (mark(2), model.clone(), model.clone()));
    assert!(anew.size().unwrap().0 < before / 3, "{:?}", anew.size());
    drop((state, anew));
    // It was durable at once.
    let again = open(&dir);
    assert_eq!((again.applied(), all(&again)), (mark(2), model));
    again.apply(mark(3), [change(1)]).unwrap();
}

#[test]
fn what_was_imported_over_is_known_behind_writing_anew() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    some_state(&from, 0);
    let taken = State::import(&path(&to), CACHE, 25, open(&from).export()).unwrap();
    assert_eq!(taken.written_anew(CACHE).unwrap().imported_over(), Some(25));
    let state = open(&from);
    assert_eq!(state.written_anew(CACHE).unwrap().imported_over(), None);
}

#[test]
fn the_bytes_of_a_state_of_an_older_build_are_counted_when_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    some_state(&dir, 0);
    let db = Database::create(path(&dir)).unwrap();
    let txn = db.begin_write().unwrap();
    assert!(txn.open_table(ABOUT).unwrap().remove(BYTES_KEY).unwrap().is_some());
    txn.commit().unwrap();
    drop(db);
    let state = open(&dir);
    assert_eq!(state.size().unwrap().1, bytes_of(&state));
}

#[test]
fn a_new_state_is_empty_and_at_the_start_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(&dir);
    assert_eq!(state.applied(), Mark::default());
    assert_eq!(all(&state), []);
}

#[test]
fn a_crash_goes_back_to_the_last_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(&dir);
    state.apply(mark(1), format(Stamp::default(), Owner::ROOT)).unwrap();
    state.apply(mark(2), [change(2)]).unwrap();
    assert_eq!(state.checkpoint().unwrap(), mark(2));
    state.apply(mark(3), [change(3)]).unwrap();
    assert_eq!(state.applied(), mark(3));
    // What a power cut leaves, while the state is open.
    let crashed = tempfile::tempdir().unwrap();
    fs::copy(path(&dir), path(&crashed)).unwrap();
    let crashed = open(&crashed);
    assert_eq!(crashed.applied(), mark(2));
    assert_eq!(crashed.get(&change(2).0), Ok(change(2).1));
    assert_eq!(crashed.get(&change(3).0), Ok(None));
    crashed.apply(mark(3), [change(3)]).unwrap();
    assert_eq!(all(&crashed), all(&state));
}

#[test]
fn nothing_is_applied_twice() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(&dir);
    state.apply(mark(5), [change(1)]).unwrap();
    for index in [5, 4] {
        assert!(matches!(state.apply(mark(index), [change(2)]), Err(StorageError::Refused { .. })));
    }
    assert_eq!(state.get(&change(2).0), Ok(None));
}

#[test]
fn a_view_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(&dir);
    state.apply(mark(1), [change(1)]).unwrap();
    let view = state.view();
    state.apply(mark(2), [(change(1).0, None), change(2)]).unwrap();
    assert_eq!((view.applied(), all(&*view).len()), (mark(1), 1));
    assert_eq!(view.get(&change(1).0), Ok(change(1).1));
    assert_eq!(state.get(&change(1).0), Ok(None));
}

#[test]
fn readers_see_whole_applies_only() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(&dir);
    let pair = |n: u64| [1, 2].map(|at| (Key::Listing(Ino(at), Cookie(0)), Some(Value::Listing(name(n)))));
    state.apply(mark(1), pair(1)).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let view = state.view();
                    let [one, two] = [1, 2].map(|at| view.get(&Key::Listing(Ino(at), Cookie(0))).unwrap());
                    assert_eq!(one, two);
                    assert_eq!(one, Some(Value::Listing(name(view.applied().index))));
                }
            });
        }
        for n in 2..300 {
            state.apply(mark(n), pair(n)).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// A state of a few hundred KiB at mark 9, closed.
fn some_state(dir: &TempDir, seed: u64) -> Vec<(Key, Value)> {
    let state = open(dir);
    let long = |n: u64| (Key::Extent(Ino(n), 4096), Some(inline(n + seed)));
    state.apply(mark(9), (1..200).map(change).chain((1..200).map(long))).unwrap();
    state.checkpoint().unwrap();
    all(&state)
}

fn inline(n: u64) -> Value {
    Value::Extent(Extent { start: 0, content: Content::Inline(vec![n as u8; 4096].into()) })
}

#[test]
fn a_changed_bit_is_never_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let model = some_state(&dir, 0);
    let whole = fs::read(path(&dir)).unwrap();
    let (mut noticed, mut unharmed) = (0, 0);
    for at in (0..whole.len()).step_by(whole.len() / 150) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        let damaged = tempfile::tempdir().unwrap();
        fs::write(path(&damaged), bytes).unwrap();
        let state = match State::open(&path(&damaged), CACHE) {
            Err(error) => {
                assert!(error.is_damage(), "byte {at}: {error}");
                noticed += 1;
                continue;
            }
            Ok(state) => state,
        };
        for (key, value) in &model {
            match state.get(key) {
                Ok(Some(found)) => assert_eq!(found, *value, "byte {at}"),
                Ok(None) => panic!("byte {at} hides a key"),
                Err(fault) => {
                    assert_eq!(fault, Fault::Key(key.clone()));
                    assert!(state.damage().is_some());
                }
            }
        }
        match state.damage() {
            Some(_) => noticed += 1,
            None => unharmed += 1,
        }
    }
    // Most of the file is pages that nothing refers to any more.
    assert!(noticed > 20, "{noticed} of {} changes were noticed", noticed + unharmed);
}

/// A page cache of nothing, so that every answer comes from the file.
#[test]
fn a_bit_that_changes_while_the_state_is_open_is_never_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let model = some_state(&dir, 0);
    let len = fs::metadata(path(&dir)).unwrap().len();
    let (mut noticed, mut unharmed) = (0, 0);
    for at in (0..len).step_by(len as usize / 150) {
        let copy = tempfile::tempdir().unwrap();
        fs::copy(path(&dir), path(&copy)).unwrap();
        let state = State::open(&path(&copy), 0).unwrap();
        let file = fs::File::options().read(true).write(true).open(path(&copy)).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
        let mut faults = 0;
        for (key, value) in &model {
            match state.get(key) {
                Ok(found) => assert_eq!(found.as_ref(), Some(value), "byte {at}"),
                Err(_) => faults += 1,
            }
        }
        match state.damage() {
            Some(_) => noticed += 1,
            None => unharmed += 1,
        }
        assert_eq!(faults > 0, state.damage().is_some(), "byte {at}");
        assert!(!state.has_failed(), "it is to be rebuilt");
    }
    assert!(noticed > 20, "{noticed} of {} changes were noticed", noticed + unharmed);
}

#[test]
fn a_file_that_is_no_state_is_told() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(path(&dir), vec![7; 10_000]).unwrap();
    let error = State::open(&path(&dir), CACHE).err().unwrap();
    assert!(error.is_damage(), "{error}");
    assert!(error.to_string().contains("state.redb"), "{error}");
}

#[test]
fn two_cannot_open_one_state() {
    let dir = tempfile::tempdir().unwrap();
    let _state = open(&dir);
    assert!(matches!(State::open(&path(&dir), CACHE), Err(StorageError::InUse { .. })));
}

#[test]
fn a_snapshot_carries_everything() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let model = some_state(&from, 0);
    let giver = open(&from);
    let export = giver.export();
    assert_eq!(export.applied(), mark(9));
    // What the giver applies meanwhile is not in it.
    giver.apply(mark(10), [change(1000)]).unwrap();
    let parts: Vec<_> = export.collect();
    assert!(parts.len() > 4, "{} parts", parts.len());
    let old = open(&to);
    old.apply(mark(3), [change(5000)]).unwrap();
    let taken = State::import(&path(&to), CACHE, 25, parts).unwrap();
    assert_eq!(taken.applied(), mark(9));
    assert_eq!(all(&taken), model);
    assert_eq!((old.imported_over(), taken.imported_over()), (None, Some(25)));
    drop((old, taken));
    let again = open(&to);
    assert_eq!(again.imported_over(), Some(25));
    assert_eq!((again.applied(), all(&again)), (mark(9), model));
    again.apply(mark(10), [change(1000)]).unwrap();
    assert_eq!(again.imported_over(), None, "the log was reset before that");
}

#[test]
fn a_bad_snapshot_leaves_the_old_state() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    some_state(&from, 0);
    let model = some_state(&to, 1);
    let good: Vec<Part> = open(&from).export().map(Result::unwrap).collect();
    let changed = |change: &dyn Fn(&mut Vec<Part>)| {
        let mut parts = good.clone();
        change(&mut parts);
        parts
    };
    let flip = |parts: &mut Vec<Part>| match &mut parts[1] {
        Part::Pairs(pairs) => pairs[3].1[0] ^= 1,
        other => panic!("{other:?}"),
    };
    let bad = [
        changed(&|parts| drop(parts.pop())),
        changed(&|parts| drop(parts.remove(0))),
        changed(&|parts| drop(parts.remove(2))),
        changed(&|parts| parts.swap(1, 2)),
        changed(&|parts| parts.push(Part::Pairs(vec![]))),
        changed(&flip),
    ];
    for (at, parts) in bad.into_iter().enumerate() {
        let error = State::import(&path(&to), CACHE, 25, parts.into_iter().map(Ok)).err().unwrap();
        assert!(matches!(error, StorageError::BadSnapshot { .. }), "case {at}: {error}");
        let state = open(&to);
        assert_eq!((state.applied(), all(&state)), (mark(9), model.clone()), "case {at}");
    }
}

#[test]
fn an_import_cut_short_leaves_the_old_state() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    some_state(&from, 0);
    let model = some_state(&to, 1);
    let mut import = Import::begin(&path(&to)).unwrap();
    for part in open(&from).export().take(3) {
        import.add(part.unwrap()).unwrap();
    }
    drop(import);
    let state = open(&to);
    assert_eq!(all(&state), model);
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 1);
}

/// A state that holds one key and value as they stand on the disk, under the seal that belongs to them.
fn with_raw(dir: &TempDir, key: &[u8], value: &[u8]) {
    drop(open(dir));
    let db = Database::builder().create_with_backend(CheckedFile::open(&path(dir)).unwrap().unwrap()).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(STATE).unwrap().insert(key, seal(key, value).as_slice()).unwrap();
    txn.commit().unwrap();
}

#[test]
fn what_a_later_build_wrote_is_not_taken_for_damage() {
    let (name, orphan) = (encode_key(&Key::Inode(Ino(5))), encode_value(&Value::Orphan).unwrap());
    let later_value = [&[orphan[0] + 1], &orphan[1..]].concat();
    for (key, value) in [(name, later_value), (vec![6, 0xff], orphan.clone()), (vec![250, 1], orphan)] {
        let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        with_raw(&dir, &key, &value);
        let state = open(&dir);
        let is_later = key[0] != 6;
        let everything = guard("read", &path(&dir), || {
            let view = state.view();
            let mut all = view.table.iter().map_err(told)?;
            all.try_for_each(|pair| {
                let (key, value) = pair.map_err(told)?;
                decode_value(unseal(key.value(), value.value())?).map_err(undecoded)?;
                decode_key(key.value()).map_err(undecoded).map(|_| ())
            })
        });
        let given = State::import(&path(&to), CACHE, 25, state.export()).err().unwrap();
        assert_eq!(everything.unwrap_err().is_for_another_build(), is_later, "{key:?}");
        assert_eq!(given.is_for_another_build(), is_later, "{given}");
        assert!(!is_later || given.to_string().contains("A later baton wrote it"), "{given}");
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_read_that_meets_what_a_later_build_wrote_says_so() {
    let (dir, inode) = (tempfile::tempdir().unwrap(), Key::Inode(Ino(5)));
    let orphan = encode_value(&Value::Orphan).unwrap();
    with_raw(&dir, &encode_key(&inode), &[&[orphan[0] + 1], &orphan[1..]].concat());
    let state = open(&dir);
    assert!(state.of_another_build().is_none());
    assert!(state.get(&inode).is_err());
    assert!(state.of_another_build().is_some_and(|error| error.is_for_another_build()));
    assert!(state.damage().is_none() && !state.has_failed());
}

#[test]
fn a_state_of_a_version_that_is_not_spoken_is_not_taken_from_another_node() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let model = some_state(&to, 1);
    let state = open(&from);
    let version = Value::Version(SPEAKS.newest + 1);
    state.apply(mark(30), [(Key::Version, Some(version))]).unwrap();
    let error = State::import(&path(&to), CACHE, 25, state.export()).err().unwrap();
    assert!(matches!(error, StorageError::Unspoken { .. }) && error.is_for_another_build(), "{error}");
    assert_eq!(all(&open(&to)), model);
}

#[test]
fn other_formats_are_named_older_or_newer() {
    for (format, is_newer) in [(FORMAT - 1, false), (FORMAT + 1, true)] {
        let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let start = Part::Start { format, applied: mark(9) };
        let given = State::import(&path(&to), CACHE, 25, [Ok(start)]).err().unwrap();
        drop(open(&dir));
        let db = Database::builder().create_with_backend(CheckedFile::open(&path(&dir)).unwrap().unwrap()).unwrap();
        let txn = db.begin_write().unwrap();
        put_about(&mut txn.open_table(ABOUT).unwrap(), FORMAT_KEY, &format.to_le_bytes()).unwrap();
        txn.commit().unwrap();
        drop(db);
        let opened = State::open(&path(&dir), CACHE).err().unwrap();
        for error in [given, opened] {
            assert_eq!(matches!(error, StorageError::Newer { .. }), is_newer, "{error}");
            assert!(error.is_for_another_build() && !error.is_damage(), "{error}");
        }
    }
}
