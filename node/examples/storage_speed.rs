//! How fast this disk takes what a node writes: `cargo run --release --example storage_speed [FOLDER]`.

use baton_core::meta::{Content, Entry, Extent, Key, Store, Value};
use baton_core::types::{Cookie, Ino, Kind, Name, SessionId, SliceId};
use baton_node::storage::{LogWrite, Mark, RaftLog, SliceStore, State};
use raft::eraftpb::Entry as LogEntry;
use std::path::Path;
use std::time::{Duration, Instant};

type Failed = Box<dyn std::error::Error>;

fn main() -> Result<(), Failed> {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let folder = folder.join(format!("baton-storage-speed-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let measured = state(&folder).and_then(|()| log(&folder)).and_then(|()| slices(&folder));
    std::fs::remove_dir_all(&folder)?;
    measured
}

fn per(took: Duration, count: u64) -> f64 {
    took.as_secs_f64() * 1e6 / count as f64
}

/// Five keys of about 475 bytes together, spread over the state like the commands of many mounts.
fn command(number: u64) -> Vec<(Key, Option<Value>)> {
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let (directory, file) = (Ino(spread % 1000 + 2), Ino(spread + 2000));
    let name = Name::new(format!("file-{spread}").as_bytes()).expect("a good name");
    let data = Extent { start: 0, content: Content::Inline(vec![7; 300].into()) };
    let entry = Entry { ino: file, kind: Kind::File, cookie: Cookie(spread) };
    vec![
        (Key::Entry(directory, name.clone()), Some(Value::Entry(entry))),
        (Key::Listing(directory, Cookie(spread)), Some(Value::Listing(name))),
        (Key::Extent(file, 300), Some(Value::Extent(data))),
        (
            Key::Xattr(file, baton_core::types::XattrName::new(b"user.a").expect("a good name")),
            Some(Value::Xattr(vec![1; 60].into())),
        ),
        (Key::Orphan(file), Some(Value::Orphan)),
    ]
}

fn state(folder: &Path) -> Result<(), Failed> {
    const BATCH: u64 = 64;
    const BATCHES: u64 = 1500;
    let state = State::open(&folder.join("state.redb"), 256 << 20)?;
    let (mut applying, mut checkpoints) = (Duration::ZERO, Vec::new());
    for batch in 0..BATCHES {
        let changes: Vec<_> = (batch * BATCH..(batch + 1) * BATCH).flat_map(command).collect();
        let start = Instant::now();
        state.apply(Mark { index: batch + 1, term: 1 }, changes)?;
        applying += start.elapsed();
        if batch % 100 == 99 {
            let start = Instant::now();
            state.checkpoint()?;
            checkpoints.push(start.elapsed());
        }
    }
    checkpoints.sort();
    println!("apply, {BATCH} commands of 5 keys at once: {:.1} us a command", per(applying, BATCH * BATCHES));
    println!(
        "checkpoint after 6,400 commands: {:?} (median), {:?} (worst)",
        checkpoints[checkpoints.len() / 2],
        checkpoints[checkpoints.len() - 1]
    );
    let start = Instant::now();
    for number in 0..100_000 {
        if state.get(&command(number % 90_000)[0].0).ok().flatten().is_none() {
            return Err("a key is missing".into());
        }
    }
    println!("get, making the key included: {:.2} us", per(start.elapsed(), 100_000));
    Ok(())
}

fn log(folder: &Path) -> Result<(), Failed> {
    let (log, _) = RaftLog::open(&folder.join("log"))?;
    for (bytes, count) in [(300, 2000), (20_000, 2000)] {
        let first = if bytes == 300 { 1 } else { 2001 };
        let start = Instant::now();
        for index in first..first + count {
            let entry = LogEntry { index, term: 1, data: vec![3; bytes].into(), ..LogEntry::default() };
            log.append(&LogWrite { entries: vec![entry], ..LogWrite::default() }, true)?;
        }
        println!("log, one synced entry of {bytes} bytes: {:.0} us", per(start.elapsed(), count));
    }
    Ok(())
}

fn slices(folder: &Path) -> Result<(), Failed> {
    for (len, count, threads) in [(4096, 2000, 1), (4096, 2000, 8), (1 << 20, 400, 1), (1 << 20, 400, 4)] {
        let dir = folder.join(format!("slices-{len}-{threads}"));
        let (store, _) = SliceStore::open(&dir)?;
        let id = |thread, number| SliceId { session: SessionId(thread), number };
        let data = vec![5; len];
        let start = Instant::now();
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..threads)
                .map(|thread| {
                    let (store, data) = (&store, &data);
                    scope.spawn(move || (0..count / threads).try_for_each(|number| store.put(id(thread, number), data)))
                })
                .collect();
            writers.into_iter().try_for_each(|writer| writer.join().expect("a writer does not panic"))
        })?;
        let took = start.elapsed();
        let rate = (count as usize * len) as f64 / took.as_secs_f64() / 1e6;
        println!("slices, put of {len} bytes by {threads}: {:.0} us each, {rate:.0} MB/s", per(took, count));
        let start = Instant::now();
        for number in 0..count / threads {
            store.get(id(0, number), 0, len as u32)?;
        }
        println!("slices, get of {len} bytes: {:.1} us", per(start.elapsed(), count / threads));
    }
    Ok(())
}
