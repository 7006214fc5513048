use super::*;
use std::fs;
use std::os::unix::fs::FileExt;
use tempfile::TempDir;

const SMALL_FILE: u64 = 64 * 1024;
const PAGE: usize = 4096;

fn open(dir: &Path) -> (RaftLog, Recovered) {
    RaftLog::open_with_files_of(dir, SMALL_FILE).unwrap()
}

fn entry(index: u64, term: u64) -> Entry {
    let data = vec![index as u8; 100].into();
    Entry { index, term, data, ..Entry::default() }
}

fn entries(indexes: std::ops::RangeInclusive<u64>, term: u64) -> LogWrite {
    LogWrite { entries: indexes.map(|index| entry(index, term)).collect(), ..LogWrite::default() }
}

fn hard_state(term: u64, commit: u64) -> HardState {
    HardState { term, vote: 2, commit, ..HardState::default() }
}

fn mark(index: u64, term: u64) -> Mark {
    Mark { index, term }
}

fn indexes(recovered: &Recovered) -> Vec<u64> {
    recovered.entries.iter().map(|entry| entry.index).collect()
}

/// A copy of the folder as it is now: what a power cut would leave, at best.
fn copy(dir: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in fs::read_dir(dir).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
    }
    to
}

/// A copy of the folder in which the log's newest file has these bytes there.
fn copy_with(dir: &Path, bytes: &[u8], at: usize) -> TempDir {
    let to = copy(dir);
    let file = fs::OpenOptions::new().write(true).open(newest_file(to.path())).unwrap();
    file.write_all_at(bytes, at as u64).unwrap();
    to
}

fn newest_file(dir: &Path) -> PathBuf {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|kind| kind == "raftlog"));
    files.into_iter().max().unwrap()
}

#[test]
fn everything_written_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (log, recovered) = open(dir.path());
    assert_eq!(recovered, Recovered::default());
    let conf = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
    let write = LogWrite { hard_state: Some(hard_state(1, 0)), conf_state: Some(conf.clone()), ..entries(1..=5, 1) };
    log.append(&write, true).unwrap();
    log.append(&LogWrite { hard_state: Some(hard_state(1, 4)), ..LogWrite::default() }, true).unwrap();
    drop(log);
    let (_, recovered) = open(dir.path());
    assert_eq!(recovered.entries, write.entries);
    assert_eq!((recovered.hard_state, recovered.conf_state), (hard_state(1, 4), conf));
}

#[test]
fn an_entry_written_again_replaces_what_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    log.append(&entries(1..=9, 1), false).unwrap();
    log.append(&entries(4..=5, 2), true).unwrap();
    drop(log);
    let (_, recovered) = open(dir.path());
    let terms: Vec<_> = recovered.entries.iter().map(|entry| (entry.index, entry.term)).collect();
    assert_eq!(terms, [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)]);
}

#[test]
fn a_hole_or_a_compacted_entry_is_refused_and_nothing_written() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    log.append(&entries(1..=9, 1), true).unwrap();
    log.compact_to(mark(5, 1)).unwrap();
    for refused in [entries(11..=12, 1), entries(5..=6, 1)] {
        assert!(matches!(log.append(&refused, true), Err(StorageError::Refused { .. })));
    }
    let gap = LogWrite { entries: vec![entry(10, 1), entry(12, 1)], ..LogWrite::default() };
    assert!(matches!(log.append(&gap, true), Err(StorageError::Refused { .. })));
    assert!(matches!(log.compact_to(mark(10, 1)), Err(StorageError::Refused { .. })));
    drop(log);
    let (_, recovered) = open(dir.path());
    assert_eq!(indexes(&recovered), [6, 7, 8, 9]);
}

#[test]
fn compaction_keeps_its_place_and_frees_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    for index in 1..=20_000 {
        log.append(&entries(index..=index, 3), false).unwrap();
        if index % 500 == 0 {
            log.append(&LogWrite { hard_state: Some(hard_state(3, index)), ..LogWrite::default() }, false).unwrap();
            log.compact_to(mark(index - 10, 3)).unwrap();
        }
    }
    // 20,000 entries are over 2 MB; what is kept fits in a few small files.
    assert!(log.bytes() < 6 * SMALL_FILE, "{} bytes are kept", log.bytes());
    drop(log);
    let (log, recovered) = open(dir.path());
    assert_eq!(recovered.base, mark(19_990, 3));
    assert_eq!(indexes(&recovered), (19_991..=20_000).collect::<Vec<_>>());
    assert_eq!(recovered.hard_state, hard_state(3, 20_000));
    log.compact_to(mark(20_000, 3)).unwrap();
    drop(log);
    let (log, recovered) = open(dir.path());
    assert_eq!((recovered.base, recovered.entries.len()), (mark(20_000, 3), 0));
    log.append(&entries(20_001..=20_001, 4), true).unwrap();
}

#[test]
fn a_snapshot_voids_what_was_before_and_keeps_the_states() {
    // Ahead of the log, and before its end: a log that differs from the leader's is void as a whole.
    for (place, next) in [(mark(50, 4), 51), (mark(6, 4), 7)] {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = open(dir.path());
        let conf = ConfState { voters: vec![1], ..ConfState::default() };
        log.append(&LogWrite { conf_state: Some(conf.clone()), ..entries(1..=9, 1) }, true).unwrap();
        let reset =
            LogWrite { reset_to: Some(place), hard_state: Some(hard_state(4, place.index)), ..entries(next..=next, 4) };
        log.append(&reset, true).unwrap();
        drop(log);
        let (log, recovered) = open(dir.path());
        assert_eq!((recovered.base, indexes(&recovered)), (place, vec![next]));
        assert_eq!((recovered.hard_state, recovered.conf_state), (hard_state(4, place.index), conf));
        log.append(&entries(next + 1..=next + 3, 5), true).unwrap();
    }
}

#[test]
fn a_snapshot_outlives_the_files_it_voids() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let mut last = 0;
    for round in 1..=8 {
        log.append(&entries(last + 1..=last + 3_000, round), false).unwrap();
        last += 2_000;
        let reset = LogWrite { reset_to: Some(mark(last, round)), ..LogWrite::default() };
        log.append(&reset, true).unwrap();
        log.append(&entries(last + 1..=last + 20, round), true).unwrap();
        log.compact_to(mark(last + 10, round)).unwrap();
        last += 20;
    }
    drop(log);
    let (_, recovered) = open(dir.path());
    assert_eq!(recovered.base, mark(last - 10, 8));
    assert_eq!(indexes(&recovered), (last - 9..=last).collect::<Vec<_>>());
}

#[test]
fn a_tail_torn_at_any_byte_costs_only_the_last_write() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    log.append(&entries(1..=3, 1), true).unwrap();
    let before = copy(dir.path());
    log.append(&entries(4..=5, 1), true).unwrap();
    let after = fs::read(newest_file(dir.path())).unwrap();
    let old = fs::read(newest_file(before.path())).unwrap();
    let differs = |at: &usize| after.get(*at) != old.get(*at);
    let first = (0..after.len()).find(differs).unwrap();
    let last = (0..after.len()).rev().find(differs).unwrap();
    assert!(last > first && last - first < 1000);
    // All of the write but what lies behind `cut` reached the disk.
    for cut in first..=last {
        let torn = copy_with(before.path(), &after[first..cut], first);
        let (log, recovered) = open(torn.path());
        assert_eq!(indexes(&recovered), [1, 2, 3], "cut at {cut}");
        log.append(&entries(4..=4, 2), true).unwrap();
        drop(log);
        assert_eq!(indexes(&open(torn.path()).1), [1, 2, 3, 4], "cut at {cut}");
    }
}

/// The pages of a write reach the disk in any order: its end may be there and its middle not.
#[test]
fn a_tail_of_which_a_page_is_missing_is_cut_too() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    log.append(&LogWrite { hard_state: Some(hard_state(1, 2)), ..entries(1..=3, 1) }, true).unwrap();
    let before = copy(dir.path());
    let long = |index| Entry { data: vec![index as u8; 3 * PAGE].into(), ..entry(index, 2) };
    let torn = LogWrite { entries: vec![long(4), long(5)], hard_state: Some(hard_state(2, 3)), ..LogWrite::default() };
    log.append(&torn, true).unwrap();
    let after = fs::read(newest_file(dir.path())).unwrap();
    let old = fs::read(newest_file(before.path())).unwrap();
    let pages: Vec<usize> = (0..after.len() / PAGE).map(|page| page * PAGE).collect();
    let differs = |at: &usize| after[*at..*at + PAGE] != old[*at..*at + PAGE];
    let pages: Vec<usize> = pages.into_iter().filter(differs).collect();
    assert!(pages.len() >= 6, "{pages:?}");
    for missing in pages {
        let torn = copy_with(dir.path(), &old[missing..missing + PAGE], missing);
        let (log, recovered) = open(torn.path());
        assert_eq!(indexes(&recovered), [1, 2, 3], "without page {missing}");
        log.append(&entries(4..=4, 3), true).unwrap();
        drop(log);
        assert_eq!(indexes(&open(torn.path()).1), [1, 2, 3, 4], "without page {missing}");
    }
}

/// Of two writes of one sync the second is there, and of the first all but a page of its entries.
#[test]
fn a_torn_write_before_a_whole_one_costs_its_entries_and_what_follows_them() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    log.append(&LogWrite { hard_state: Some(hard_state(1, 2)), ..entries(1..=3, 1) }, true).unwrap();
    let before = fs::read(newest_file(dir.path())).unwrap();
    let long = |index| Entry { data: vec![index as u8; 3 * PAGE].into(), ..entry(index, 2) };
    let torn = LogWrite { entries: vec![long(3), long(4)], hard_state: Some(hard_state(2, 2)), ..LogWrite::default() };
    log.append(&torn, false).unwrap();
    let first = copy(dir.path());
    // The others have committed what is torn here.
    log.append(&LogWrite { hard_state: Some(hard_state(3, 4)), ..entries(5..=5, 2) }, true).unwrap();
    let differs = |at: usize, of: &[u8]| of[at..at + PAGE] != before[at..at + PAGE];
    let after = fs::read(newest_file(first.path())).unwrap();
    let pages: Vec<usize> = (0..after.len() / PAGE).map(|page| page * PAGE).filter(|at| differs(*at, &after)).collect();
    let within = &pages[1..pages.len() - 1];
    assert!(within.len() >= 4, "{pages:?}");
    let without = |page: usize| copy_with(dir.path(), &before[page..page + PAGE], page);
    for page in within {
        let torn = without(*page);
        let (log, recovered) = open(torn.path());
        assert_eq!((indexes(&recovered), &recovered.hard_state), (vec![1, 2], &hard_state(3, 2)), "without {page}");
        assert_eq!(log.engine.last_index(REGION), Some(2), "the engine knows more");
        drop(log);
        assert_eq!(open(torn.path()).1, recovered, "it stays so");
        let (log, _) = open(torn.path());
        log.append(&entries(3..=3, 4), true).unwrap();
        drop(log);
        assert_eq!(indexes(&open(torn.path()).1), [1, 2, 3], "without {page}");
    }
    // A write that is there since says that it was synced: then it is damage.
    log.append(&entries(6..=6, 2), true).unwrap();
    let damaged = RaftLog::open_with_files_of(without(within[0]).path(), SMALL_FILE).err().unwrap();
    assert!(damaged.is_damage(), "{damaged}");
}

/// A vote, or a compaction, that came behind the sync of what is damaged shows that it was there.
#[test]
fn damage_to_what_was_acknowledged_is_told_where_no_entry_follows() {
    let vote = LogWrite { hard_state: Some(hard_state(2, 2)), ..LogWrite::default() };
    type Later<'a> = &'a dyn Fn(&RaftLog);
    let laters: [Later<'_>; 2] = [&|log| log.append(&vote, true).unwrap(), &|log| log.compact_to(mark(1, 1)).unwrap()];
    for later in laters {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = open(dir.path());
        log.append(&LogWrite { hard_state: Some(hard_state(1, 1)), ..entries(1..=2, 1) }, true).unwrap();
        log.append(
            &LogWrite { entries: vec![Entry { data: vec![0xee; 999].into(), ..entry(3, 1) }], ..LogWrite::default() },
            true,
        )
        .unwrap();
        later(&log);
        drop(log);
        let mut bytes = fs::read(newest_file(dir.path())).unwrap();
        let at = bytes.windows(99).position(|window| window.iter().all(|byte| *byte == 0xee)).unwrap();
        bytes[at + 50] ^= 1;
        fs::write(newest_file(dir.path()), bytes).unwrap();
        let damaged = RaftLog::open_with_files_of(dir.path(), SMALL_FILE).err().unwrap();
        assert!(damaged.is_damage(), "{damaged}");
    }
}

/// Nothing is left of the log but its base, and the vote.
#[test]
fn a_torn_write_behind_the_base_leaves_the_base() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let reset = LogWrite { reset_to: Some(mark(7, 3)), hard_state: Some(hard_state(3, 7)), ..LogWrite::default() };
    log.append(&reset, true).unwrap();
    let long = Entry { data: vec![8; 5 * PAGE].into(), ..entry(8, 4) };
    log.append(&LogWrite { entries: vec![long], ..LogWrite::default() }, false).unwrap();
    log.append(&entries(9..=9, 4), true).unwrap();
    drop(log);
    let dir = copy_with(dir.path(), &[0; PAGE], 2 * PAGE);
    for _ in 0..2 {
        let (log, recovered) = open(dir.path());
        assert_eq!((recovered.base, &recovered.hard_state), (mark(7, 3), &hard_state(3, 7)));
        assert_eq!(log.engine.last_index(REGION), None, "the engine knows more");
        assert_eq!(indexes(&recovered), [] as [u64; 0]);
    }
    let (log, _) = open(dir.path());
    log.append(&entries(8..=8, 5), true).unwrap();
    drop(log);
    assert_eq!(indexes(&open(dir.path()).1), [8]);
}

#[test]
fn damage_in_the_middle_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let write = entries(1..=1000, 1);
    log.append(&LogWrite { hard_state: Some(hard_state(1, 1000)), ..write }, true).unwrap();
    log.append(&LogWrite { hard_state: Some(hard_state(1, 1000)), ..entries(1001..=1001, 1) }, true).unwrap();
    drop(log);
    let path = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path());
    let path = path.filter(|path| path.extension().is_some_and(|kind| kind == "raftlog")).min().unwrap();
    let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 20_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 20_000).unwrap();
    let error = RaftLog::open_with_files_of(dir.path(), SMALL_FILE).err().unwrap();
    assert!(error.is_damage(), "{error}");
    assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
}

#[test]
fn a_log_that_ends_before_its_commit_index_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    log.append(&LogWrite { hard_state: Some(hard_state(1, 9)), ..entries(1..=5, 1) }, true).unwrap();
    drop(log);
    assert!(RaftLog::open_with_files_of(dir.path(), SMALL_FILE).err().unwrap().is_damage());
}

#[test]
fn one_thread_appends_while_another_compacts() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for index in 1..=3_000 {
                log.append(&entries(index..=index, 1), index % 64 == 0).unwrap();
                tell.send(index).unwrap();
            }
            drop(tell);
        });
        scope.spawn(|| {
            for index in told.into_iter().filter(|index| index % 100 == 0) {
                log.compact_to(mark(index - 50, 1)).unwrap();
            }
        });
    });
    drop(log);
    let (_, recovered) = open(dir.path());
    assert_eq!((recovered.base, recovered.last_index()), (mark(2_950, 1), 3_000));
}

#[test]
fn two_logs_cannot_share_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let _log = open(dir.path());
    assert!(matches!(RaftLog::open(dir.path()), Err(StorageError::InUse { .. })));
}
