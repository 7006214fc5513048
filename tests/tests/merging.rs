//! Small writes leave the state: they become slices behind the backs of the programs, who notice nothing.

use baton_tests::harness::{Cluster, Mount, eventually, eventually_ok};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

const PIECE: usize = 8 << 10;

/// Bytes that differ from piece to piece and from time to time.
fn piece(number: usize, time: usize) -> Vec<u8> {
    (0..PIECE).map(|at| (at / 7 + number * 31 + time * 101) as u8).collect()
}

fn reads(path: &Path, bytes: &[u8]) {
    let read = std::fs::read(path).unwrap();
    assert_eq!(read.len(), bytes.len(), "{}", path.display());
    let differs = read.iter().zip(bytes).position(|(a, b)| a != b);
    assert_eq!(differs, None, "{}", path.display());
}

#[test]
fn files_written_in_small_pieces_become_slices_though_the_leader_is_killed() {
    let mut cluster = Cluster::start();
    let (a, b) = (Mount::start(cluster.address(1)), Mount::start(cluster.address(2)));
    let (stream, table, log) = ("stream", "table", "log");
    let mut streamed = File::create(a.path(stream)).unwrap();
    let tabled = File::create(b.path(table)).unwrap();
    let mut logged = File::options().append(true).create(true).open(a.path(log)).unwrap();
    let (mut of_stream, mut of_table, mut of_log) = (Vec::new(), vec![0; 256 * PIECE], Vec::new());
    let half = 1024;
    for number in 0..2 * half {
        if number == half {
            // With what was written until now, something must have been merged while it was written.
            assert!(cluster.counted("slices") > 0);
            cluster.kill(cluster.leader());
        }
        streamed.write_all(&piece(number, 0)).unwrap();
        of_stream.extend(piece(number, 0));
        let (place, bytes) = (number * 37 % 256, piece(number, 1));
        tabled.write_all_at(&bytes, (place * PIECE) as u64).unwrap();
        of_table[place * PIECE..(place + 1) * PIECE].copy_from_slice(&bytes);
        if number % 4 == 0 {
            let line = format!("line {number} of the log, {}\n", "and so on ".repeat(number % 90));
            logged.write_all(line.as_bytes()).unwrap();
            of_log.extend(line.into_bytes());
        }
    }
    let dead = cluster.ids().into_iter().find(|id| !cluster.is_running(*id)).expect("one was killed");
    cluster.restart(dead);
    for mount in [&a, &b] {
        reads(&mount.path(stream), &of_stream);
        reads(&mount.path(table), &of_table);
        reads(&mount.path(log), &of_log);
    }
    // 16 MiB, 2 MiB and a log of some hundred kilobytes, in slices of up to a megabyte and the rests of the runs.
    eventually_ok(Duration::from_secs(90), || {
        let (extents, slices) = (cluster.counted("extents"), cluster.counted("slices"));
        let few = extents < 100 && slices >= 18;
        few.then_some(()).ok_or_else(|| format!("{extents} extents, {slices} slices"))
    });
    // From new mounts, which have nothing from before.
    for node in 1..=3 {
        let new = Mount::start(cluster.address(node));
        reads(&new.path(stream), &of_stream);
        reads(&new.path(table), &of_table);
        reads(&new.path(log), &of_log);
    }
    logged.write_all(b"the last line\n").unwrap();
    of_log.extend(b"the last line\n");
    reads(&b.path(log), &of_log);
    cluster.assert_sound();
    cluster.deep_check(&[]).expect("nothing wrong");
    for name in [stream, table, log] {
        std::fs::remove_file(b.path(name)).unwrap();
    }
    drop((streamed, tabled, logged));
    eventually("the slices went with the files", Duration::from_secs(30), || {
        (cluster.counted("slices") == 0).then_some(())
    });
    cluster.assert_sound();
}

/// More pieces than one answer to the question where the bytes are may have. A read that ended there would say that the file does.
#[test]
fn a_file_in_thousands_of_pieces_is_read_whole() {
    const PIECES: usize = 2_500;
    let cluster = Cluster::start();
    let (a, b) = (cluster.mount(), cluster.mount());
    let file = File::options().read(true).write(true).create_new(true).open(a.path("f")).unwrap();
    let mut bytes = vec![0; PIECES * 16];
    for number in 0..PIECES {
        let piece = [b'0' + (number % 75) as u8; 4];
        file.write_all_at(&piece, number as u64 * 16).unwrap();
        bytes[number * 16..number * 16 + 4].copy_from_slice(&piece);
    }
    bytes.truncate(PIECES * 16 - 12);
    for at_once in [&file, &File::open(a.path("f")).unwrap(), &File::open(b.path("f")).unwrap()] {
        let mut read = vec![1; bytes.len()];
        let len = at_once.read_at(&mut read, 0).unwrap();
        assert_eq!(len, bytes.len(), "one read gives it all");
        assert!(read == bytes, "other bytes");
    }
    reads(&a.path("f"), &bytes);
    reads(&b.path("f"), &bytes);
    cluster.assert_sound();
}
