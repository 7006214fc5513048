//! A program that writes, renames, removes and appends, and remembers what it was answered for; and whether that is kept.

use super::try_sh;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a program was promised: bytes that were answered for, under a name.
#[derive(Default)]
pub struct Promised {
    /// Whose, and which of its files.
    files: VecDeque<(PathBuf, String, usize)>,
    gone: Vec<PathBuf>,
    /// Lines of the shared log, by writer.
    lines: Vec<String>,
    /// Operations that took long: when each began, and how long it took.
    slow: Vec<(Instant, Duration)>,
    /// It was killed in the middle: what it was not answered for any more may be there as well, a line that is.
    killed: bool,
}

impl Promised {
    /// Lines that it was answered for.
    pub fn lines(&self) -> usize {
        self.lines.len()
    }
}

/// What every operation of a program goes through: it must succeed, however long it takes, and how long is kept.
#[derive(Default)]
struct Timed(Vec<(Instant, Duration)>);

/// Files that a program keeps; then the oldest goes.
const FILES_MAX: usize = 2_000;
/// An operation that takes longer is worth keeping in mind.
const SLOW: Duration = Duration::from_millis(20);

impl Timed {
    fn run<T>(&mut self, what: &Path, act: impl FnOnce() -> std::io::Result<T>) -> T {
        let started = Instant::now();
        let outcome = act().unwrap_or_else(|error| panic!("{}: {error}", what.display()));
        let took = started.elapsed();
        if took > SLOW {
            self.0.push((started, took));
        }
        outcome
    }
}

/// Programs that go on until told to stop end with what happens beside them, also where that fails: else they would be waited for.
pub struct Stops<'a>(pub &'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// So many bytes of which no two pieces are alike, and that are another's for each `of`.
pub fn contents(of: u8, len: usize) -> Vec<u8> {
    (0..len as u64 / 8).flat_map(|number| (number | u64::from(of) << 56).to_le_bytes()).collect()
}

/// Until it once took less than the limit, up to three times: for tests, which are no yardsticks.
pub fn until_once_within(limit: Duration, mut once: impl FnMut(usize) -> Duration) -> Vec<Duration> {
    let mut took = Vec::new();
    while took.len() < 3 && took.iter().all(|took| *took >= limit) {
        took.push(once(took.len()));
    }
    took
}

/// Data of many sizes, some of them larger than what travels within a command.
pub fn data(writer: &str, number: usize) -> Vec<u8> {
    let size = [10, 3_000, 40_000, 150_000][number % 4] + number;
    format!("{writer} {number} ").into_bytes().into_iter().cycle().take(size).collect()
}

/// Creates with fsync, renames, removes and appends in `folder` until told to stop; everything it does succeeds.
fn program(folder: &Path, writer: &str, stop: &AtomicBool) -> Promised {
    let mut promised = Promised::default();
    let mut timed = Timed::default();
    let log = folder.join("log");
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let (made, kept) = (folder.join(format!("{writer}-{number}.new")), folder.join(format!("{writer}-{number}")));
        let bytes = data(writer, number);
        let mut file = timed.run(&made, || File::create_new(&made));
        timed.run(&made, || file.write_all(&bytes));
        timed.run(&made, || file.sync_all());
        drop(file);
        timed.run(&kept, || std::fs::rename(&made, &kept));
        if number % 5 == 4 {
            timed.run(&kept, || std::fs::remove_file(&kept));
            promised.gone.push(kept);
        } else {
            promised.files.push_back((kept, writer.to_owned(), number));
        }
        promised.gone.push(made);
        if promised.files.len() > FILES_MAX
            && let Some((oldest, ..)) = promised.files.pop_front()
        {
            timed.run(&oldest, || std::fs::remove_file(&oldest));
            promised.gone.push(oldest);
        }
        let line = format!("{writer} {number}");
        let mut log = timed.run(&log, || OpenOptions::new().append(true).create(true).open(&log));
        // In one write: `writeln!` would make two, and between them the other writer may come.
        timed.run(folder, || log.write_all(format!("{line}\n").as_bytes()));
        timed.run(folder, || log.sync_all());
        promised.lines.push(line);
    }
    promised.slow = timed.0;
    promised
}

/// Runs a program on each mount while `faults` happen; what they were promised.
pub fn under_load(folders: &[PathBuf], faults: impl FnOnce()) -> Vec<Promised> {
    let stop = AtomicBool::new(false);
    let promised = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (writer, folder) in folders.iter().enumerate() {
            let (stop, promised) = (&stop, &promised);
            scope.spawn(move || {
                let mine = program(folder, &format!("writer{writer}"), stop);
                promised.lock().unwrap().push(mine);
            });
        }
        std::thread::sleep(Duration::from_millis(700));
        let _stops = Stops(&stop);
        faults();
    });
    promised.into_inner().unwrap()
}

/// Every byte that was answered for, read through `folder` of whichever mount; the number of files.
pub fn assert_kept(promised: &[Promised], folder: &Path) -> usize {
    let there = |path: &Path| folder.join(path.file_name().unwrap());
    let mut files = 0;
    for (path, writer, number) in promised.iter().flat_map(|promised| &promised.files) {
        let (path, bytes) = (there(path), data(writer, *number));
        let found = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(found == bytes, "{} has {} other bytes", path.display(), found.len());
        files += 1;
    }
    for path in promised.iter().flat_map(|promised| &promised.gone) {
        assert!(!there(path).exists(), "{} is back", there(path).display());
    }
    let log = std::fs::read_to_string(folder.join("log")).unwrap();
    for one in promised {
        let Some(writer) = one.lines.first().and_then(|line| line.split(' ').next()) else { continue };
        let found: Vec<&str> = log.lines().filter(|line| line.split(' ').next() == Some(writer)).collect();
        let more = usize::from(one.killed && found.len() > one.lines.len());
        assert_eq!(found[..found.len() - more], one.lines, "lines of {writer}: each once, in order");
    }
    files
}

/// Operations that took longer: when each began, and how long it took.
pub fn slower_than(promised: &[Promised], limit: Duration) -> Vec<(Instant, Duration)> {
    promised.iter().flat_map(|promised| &promised.slow).copied().filter(|(_, took)| *took > limit).collect()
}

pub fn longest_gap(promised: &[Promised]) -> Duration {
    longest_between(promised, None, None)
}

/// The longest operation that was under way at some time between these two.
pub fn longest_between(promised: &[Promised], from: Option<Instant>, to: Option<Instant>) -> Duration {
    let slow = promised.iter().flat_map(|promised| &promised.slow);
    let between =
        slow.filter(|(began, took)| from.is_none_or(|from| *began + *took > from) && to.is_none_or(|to| *began < to));
    between.map(|(_, took)| *took).max().unwrap_or(SLOW)
}

/// Runs lines of shell again and again until told to stop, and counts how often they succeeded, which is always.
pub fn repeats(folder: &Path, lines: &str, stop: &AtomicBool, done: &AtomicU64) {
    while !stop.load(Ordering::SeqCst) {
        let outcome = try_sh(folder, lines);
        assert!(outcome.is_ok(), "after {done:?} times: {lines}\n{}{}", outcome.out, outcome.err);
        done.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Makes files with fsync, and lines in the log that others write too, until its mount is killed: then all that it was answered for.
/// Of its files it keeps so many.
pub fn until_killed(folder: &Path, writer: &str, killed: &AtomicBool) -> Promised {
    const KEPT: usize = 50;
    let mut promised = Promised { killed: true, ..Promised::default() };
    for number in 0.. {
        let path = folder.join(format!("{writer}-{number}"));
        // What it is not answered for may be there or not.
        let oldest = if promised.files.len() >= KEPT { promised.files.pop_front() } else { None };
        let line = format!("{writer} {number}");
        let act = || -> std::io::Result<()> {
            let mut file = File::create_new(&path)?;
            file.write_all(&data(writer, number))?;
            file.sync_all()?;
            promised.files.push_back((path.clone(), writer.to_owned(), number));
            let mut log = OpenOptions::new().append(true).create(true).open(folder.join("log"))?;
            log.write_all(format!("{line}\n").as_bytes())?;
            promised.lines.push(line);
            oldest.map_or(Ok(()), |(oldest, ..)| {
                std::fs::remove_file(&oldest)?;
                promised.gone.push(oldest);
                Ok(())
            })
        };
        if let Err(error) = act() {
            assert!(killed.load(Ordering::SeqCst), "{}: {error}", path.display());
            break;
        }
    }
    promised
}
