use super::*;
use baton_core::types::SessionId;
use std::fs;
use tempfile::TempDir;

/// Small, so that a few slices fill a segment.
const SMALL: u64 = 1024 * 1024;

fn open(dir: &Path) -> (SliceStore, OpenReport) {
    SliceStore::open_with_segments_of(dir, SMALL).unwrap()
}

fn id(number: u64) -> SliceId {
    SliceId { session: SessionId(1), number }
}

fn data(number: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at * 31 + at / 256 + number * 7) as u8 | 1).collect()
}

fn whole(store: &SliceStore, id: SliceId) -> Result<Bytes, SliceError> {
    store.get(id, 0, store.len(id).unwrap_or(0))
}

/// What a power cut leaves at best: everything that was written.
fn copy(dir: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in fs::read_dir(dir).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
    }
    to
}

fn segment(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08}.slices"))
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

#[test]
fn any_range_of_a_slice_can_be_read_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (store, report) = open(dir.path());
    assert_eq!(report, OpenReport::default());
    let lengths = [1, 4000, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5, SLICE_MAX];
    let check = |store: &SliceStore| {
        for (number, len) in lengths.into_iter().enumerate() {
            let (id, data) = (id(number as u64), data(number as u64, len));
            assert_eq!(whole(store, id).unwrap(), data);
            for (at, to) in [(0, 0), (0, 1), (len / 2, len), (len.min(BLOCK) - 1, len.min(BLOCK + 1)), (len, len)] {
                assert_eq!(store.get(id, at as u32, (to - at) as u32).unwrap(), data[at..to]);
            }
            assert!(matches!(store.get(id, len as u32, 1), Err(SliceError::OutOfRange { .. })));
            assert!(matches!(store.get(id, 1, u32::MAX), Err(SliceError::OutOfRange { .. })));
        }
    };
    for (number, len) in lengths.into_iter().enumerate() {
        store.put(id(number as u64), &data(number as u64, len)).unwrap();
    }
    check(&store);
    let stats = store.stats();
    drop(store);
    let (store, report) = open(dir.path());
    check(&store);
    assert_eq!(store.stats(), stats);
    assert_eq!((report.slices, report.bytes), (lengths.len(), lengths.iter().sum::<usize>() as u64));
    assert_eq!((report.cut, report.damaged), (vec![], vec![]));
    let mut ids = store.ids();
    ids.sort();
    assert_eq!(ids, (0..7).map(id).collect::<Vec<_>>());
}

#[test]
fn a_slice_has_bytes_but_not_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    for len in [0, SLICE_MAX + 1] {
        assert!(matches!(store.put(id(1), &vec![1; len]), Err(SliceError::Length { .. })));
    }
    assert!(matches!(store.get(id(1), 0, 0), Err(SliceError::Missing { .. })));
}

#[test]
fn storing_a_slice_again_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    store.put(id(1), &data(1, 9000)).unwrap();
    let end = fs::metadata(segment(dir.path(), 1)).unwrap().len();
    store.put(id(1), &data(1, 9000)).unwrap();
    assert_eq!(fs::metadata(segment(dir.path(), 1)).unwrap().len(), end);
    assert_eq!(store.stats().slices, 1);
}

#[test]
fn many_threads_store_and_each_slice_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..30 {
                    // Every slice is stored by two threads.
                    let number = thread / 2 * 100 + round;
                    store.put(id(number), &data(number, 1000 + 3000 * round as usize)).unwrap();
                    assert_eq!(whole(store, id(number)).unwrap(), data(number, 1000 + 3000 * round as usize));
                }
            });
        }
    });
    let crashed = copy(dir.path());
    drop(store);
    let (store, report) = open(crashed.path());
    assert_eq!((report.slices, report.cut, report.damaged), (120, vec![], vec![]));
    assert!(report.segments > 1);
    for id in store.ids() {
        assert_eq!(whole(&store, id).unwrap(), data(id.number, 1000 + 3000 * (id.number % 100) as usize));
    }
}

#[test]
fn deleted_slices_stay_away_and_empty_segments_go() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    for number in 0..40 {
        store.put(id(number), &data(number, 100_000)).unwrap();
    }
    let before = store.tail.segments();
    assert!(before > 3);
    for number in 1..40 {
        store.delete(id(number));
        store.delete(id(number));
        assert!(matches!(store.get(id(number), 0, 1), Err(SliceError::Missing { .. })));
    }
    // The first has a slice, the newest is written to.
    assert_eq!(store.tail.segments(), 2);
    use std::os::unix::fs::MetadataExt;
    let used = fs::metadata(segment(dir.path(), 1)).unwrap().blocks() * 512;
    assert!(used < 250_000, "{used} bytes are used for one slice of 100,000");
    drop(store);
    let (store, report) = open(dir.path());
    assert_eq!((store.ids(), report.cut, report.damaged), (vec![id(0)], vec![], vec![]));
    assert_eq!(whole(&store, id(0)).unwrap(), data(0, 100_000));
    store.put(id(7), &data(70, 10)).unwrap();
    assert_eq!(whole(&store, id(7)).unwrap(), data(70, 10));
}

#[test]
fn reading_while_others_delete_never_answers_wrongly() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    for number in 0..60 {
        store.put(id(number), &data(number, 90_000)).unwrap();
    }
    std::thread::scope(|scope| {
        scope.spawn(|| (0..60).for_each(|number| store.delete(id(number))));
        for _ in 0..2 {
            scope.spawn(|| {
                for number in (0..60).rev() {
                    match store.get(id(number), 0, 90_000) {
                        Ok(bytes) => assert_eq!(bytes, data(number, 90_000)),
                        Err(error) => assert!(matches!(error, SliceError::Missing { .. }), "{error}"),
                    }
                }
            });
        }
    });
    assert_eq!(store.stats().slices, 0);
}

#[test]
fn a_changed_bit_is_found_by_reading_and_by_scrubbing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    for number in 0..6 {
        store.put(id(number), &data(number, 2 * BLOCK + 10)).unwrap();
    }
    let place = store.place(id(3)).unwrap();
    let start = place.offset() + record::data_start(place.len);
    flip(&segment(dir.path(), 1), start + BLOCK as u64 + 9);
    let flipped = |error| matches!(error, SliceError::Damaged { part: Part::Block(1), .. });
    assert!(flipped(whole(&store, id(3)).unwrap_err()));
    assert!(flipped(store.get(id(3), BLOCK as u32, 1).unwrap_err()));
    // The blocks beside it are sound.
    assert_eq!(store.get(id(3), 0, BLOCK as u32).unwrap(), data(3, BLOCK));
    flip(&segment(dir.path(), 1), store.place(id(5)).unwrap().offset() + 20);
    assert!(matches!(whole(&store, id(5)), Err(SliceError::Damaged { part: Part::Header, .. })));

    let (mut from, mut damaged, mut slices, mut pieces) = (Some(ScrubPlace::default()), vec![], 0, 0);
    while let Some(place) = from {
        let scrubbed = store.scrub(place, BLOCK as u64).unwrap();
        (from, slices, pieces) = (scrubbed.next, slices + scrubbed.slices, pieces + 1);
        damaged.extend(scrubbed.damaged);
    }
    assert_eq!((damaged, slices, pieces), (vec![id(3), id(5)], 6, 6));
    assert_eq!([3, 4, 5].map(|number| store.is_good(id(number))), [false, true, false]);

    // What scrubbing asks for mends it.
    for number in [3, 5] {
        store.delete(id(number));
        store.put(id(number), &data(number, 2 * BLOCK + 10)).unwrap();
    }
    assert!(store.is_good(id(3)) && store.is_good(id(5)));
    assert_eq!(store.scrub(ScrubPlace::default(), u64::MAX).unwrap().damaged, []);
}

#[test]
fn a_damaged_header_in_an_older_segment_costs_one_slice_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    for number in 0..30 {
        store.put(id(number), &data(number, 100_000)).unwrap();
    }
    let place = store.place(id(2)).unwrap();
    drop(store);
    flip(&segment(dir.path(), place.segment), place.offset() + 20);
    let (store, report) = open(dir.path());
    let range =
        DamagedRange { path: segment(dir.path(), place.segment), offset: place.offset(), len: record::room(place.len) };
    assert_eq!((report.slices, report.cut, report.damaged), (29, vec![], vec![range]));
    assert!(!store.contains(id(2)));
    assert_eq!(whole(&store, id(3)).unwrap(), data(3, 100_000));
}

#[test]
fn a_tail_torn_anywhere_is_cut_and_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    store.put(id(1), &data(1, 5000)).unwrap();
    store.put(id(2), &data(2, 300)).unwrap();
    let place = store.place(id(2)).unwrap();
    let bytes = fs::read(segment(dir.path(), 1)).unwrap();
    let end = place.offset() + record::data_start(place.len) + 300;
    for cut in place.offset()..end {
        // The bytes behind the cut never came: zeros where the file was filled ahead, else its end.
        for zeros in [0, 9000] {
            let torn = tempfile::tempdir().unwrap();
            let mut left = bytes[..cut as usize].to_vec();
            left.resize(cut as usize + zeros, 0);
            fs::write(segment(torn.path(), 1), left).unwrap();
            let (store, report) = open(torn.path());
            assert_eq!((store.ids(), report.damaged), (vec![id(1)], vec![]), "cut at {cut}");
            assert_eq!(whole(&store, id(1)).unwrap(), data(1, 5000));
            store.put(id(3), &data(3, 700)).unwrap();
            assert_eq!(store.place(id(3)).unwrap(), Place { len: 700, ..place });
            drop(store);
            let (store, report) = open(torn.path());
            assert_eq!((report.slices, report.cut, report.damaged), (2, vec![], vec![]), "cut at {cut}");
            assert_eq!(whole(&store, id(3)).unwrap(), data(3, 700));
        }
    }
}

#[test]
fn a_hole_in_the_newest_segment_costs_only_what_stood_there() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    for number in 0..4 {
        store.put(id(number), &data(number, 50_000)).unwrap();
    }
    let place = store.place(id(2)).unwrap();
    drop(store);
    // Of two writes at once the later one may reach the disk and the earlier one not.
    let file = File::options().write(true).open(segment(dir.path(), 1)).unwrap();
    file.write_all_at(&[0; 8192], place.offset() + 16_384).unwrap();
    let (store, report) = open(dir.path());
    assert_eq!((report.cut, report.damaged), (vec![id(2)], vec![]));
    for number in [0, 1, 3] {
        assert_eq!(whole(&store, id(number)).unwrap(), data(number, 50_000));
    }
}

#[test]
fn a_copy_of_a_segment_stored_as_a_slice_is_not_taken_for_records() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    store.put(id(1), &data(1, 5000)).unwrap();
    let bytes = fs::read(segment(dir.path(), 1)).unwrap();
    store.delete(id(1));
    // Shifted, so that its headers stand where records begin.
    let shift = 4096 - record::data_start(20_000) as usize;
    let mut copy = vec![9; shift];
    copy.extend(&bytes[..20_000 - shift]);
    store.put(id(2), &copy).unwrap();
    let place = store.place(id(2)).unwrap();
    drop(store);
    flip(&segment(dir.path(), 1), place.offset() + 1);
    let (store, _) = open(dir.path());
    assert_eq!(store.ids(), []);
}

#[test]
fn a_full_disk_leaves_the_segment_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    store.put(id(1), &data(1, 5000)).unwrap();
    // What a writer does whose write fails.
    let spot = store.tail.reserve(200_000).unwrap();
    spot.file.write_all_at(&data(2, 100_000), spot.place.offset() + 100).unwrap();
    store.tail.abandon(&spot);
    assert!(matches!(SliceError::io("write to", dir.path())(rustix::io::Errno::NOSPC.into()), SliceError::Full { .. }));
    store.put(id(3), &data(3, 6000)).unwrap();
    assert_eq!(store.place(id(3)).unwrap().page, spot.place.page);
    drop(store);
    let (store, report) = open(dir.path());
    assert_eq!((report.slices, report.cut, report.damaged), (2, vec![], vec![]));
    assert_eq!(whole(&store, id(3)).unwrap(), data(3, 6000));
}
