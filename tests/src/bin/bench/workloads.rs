//! The workloads, in the order in which they run: some need what an earlier one left.

use rustix::fs::Advice;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Where to work: a directory of one mount and, if there is a second mount, the same one there.
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    pub(crate) other: Option<PathBuf>,
}

impl Place {
    /// The other mount's directory, or the same again.
    fn either(&self) -> &Path {
        self.other.as_deref().unwrap_or(&self.dir)
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) n: usize,
    pub(crate) bytes: usize,
}

#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Operations,
    Megabytes,
}

type Run = fn(&Place, Sizes) -> io::Result<Option<Measured>>;

pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    /// Counts that must be 0.
    pub(crate) truths: &'static [&'static str],
    pub(crate) run: Run,
}

const fn counts(name: &'static str, run: Run) -> Workload {
    Workload { name, unit: Unit::Operations, truths: &[], run }
}

const fn moves(name: &'static str, run: Run) -> Workload {
    Workload { name, unit: Unit::Megabytes, truths: &[], run }
}

const fn judges(name: &'static str, truths: &'static [&'static str], run: Run) -> Workload {
    Workload { name, unit: Unit::Operations, truths, run }
}

pub(crate) const WORKLOADS: &[Workload] = &[
    counts("create", |p, s| each(s.n, |i| put(&p.dir.join(format!("f{i}")), 1024, false))),
    counts("create+fsync", |p, s| each(s.n / 4, |i| put(&p.dir.join(format!("s{i}")), 1024, true))),
    counts("stat", |p, s| each(s.n, |i| stat(&p.dir, i))),
    counts("read", |p, s| each(s.n, |i| get(&p.dir.join(format!("f{i}")), 1024))),
    counts("list", |p, _| each(20, |_| list(&p.dir))),
    counts("stat, other mount", |p, s| elsewhere(p, s.n, stat)),
    counts("read, other mount", |p, s| elsewhere(p, s.n, |dir, i| get(&dir.join(format!("f{i}")), 1024))),
    counts("rename", |p, s| each(s.n, |i| fs::rename(p.dir.join(format!("f{i}")), p.dir.join(format!("r{i}"))))),
    counts("unlink", |p, s| each(s.n, |i| fs::remove_file(p.dir.join(format!("r{i}"))))),
    counts("mkdir", |p, s| each(s.n, |i| fs::create_dir(p.dir.join(format!("d{i}"))))),
    counts("rmdir", |p, s| each(s.n, |i| fs::remove_dir(p.dir.join(format!("d{i}"))))),
    counts("append", |p, s| each(s.n, |i| append(&p.dir.join("log"), &format!("line {i}\n")))),
    judges("append2", &["lost", "bad"], append2),
    judges("pingpong", &["stale"], pingpong),
    moves("seqwrite+fsync", |p, s| Ok(Some(bulk(s.bytes, || put(&p.dir.join("big"), s.bytes, true))?))),
    moves("seqread", |p, s| Ok(Some(bulk(s.bytes, || get(&p.dir.join("big"), s.bytes))?))),
    moves("seqread, other mount", seqread_elsewhere),
    counts("randread 4K", randread),
    counts("randwrite 4K+fdatasync", randwrite),
    counts("tree (like tar x)", tree),
];

/// What one run of a workload took.
#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) took: Duration,
    pub(crate) each: Vec<Duration>,
    operations: usize,
    bytes: usize,
    pub(crate) faults: Vec<(&'static str, u64)>,
}

impl Measured {
    pub(crate) fn amount(&self, unit: Unit) -> f64 {
        match unit {
            Unit::Operations => self.operations as f64,
            Unit::Megabytes => self.bytes as f64 / 1e6,
        }
    }
}

fn each(n: usize, mut one: impl FnMut(usize) -> io::Result<()>) -> io::Result<Option<Measured>> {
    let start = Instant::now();
    let mut each = Vec::with_capacity(n);
    for i in 0..n {
        let before = Instant::now();
        one(i)?;
        each.push(before.elapsed());
    }
    Ok(Some(Measured { took: start.elapsed(), each, operations: n, ..Measured::default() }))
}

/// On the other mount, where there is one.
fn elsewhere(p: &Place, n: usize, one: fn(&Path, usize) -> io::Result<()>) -> io::Result<Option<Measured>> {
    match &p.other {
        Some(dir) => each(n, |i| one(dir, i)),
        None => Ok(None),
    }
}

fn bulk(bytes: usize, work: impl FnOnce() -> io::Result<()>) -> io::Result<Measured> {
    let start = Instant::now();
    work()?;
    let took = start.elapsed();
    Ok(Measured { took, each: vec![took], operations: 1, bytes, ..Measured::default() })
}

const BUFFER: usize = 1 << 20;

fn put(path: &Path, size: usize, sync: bool) -> io::Result<()> {
    let mut file = File::create(path)?;
    let buffer = vec![b'x'; size.min(BUFFER)];
    let mut left = size;
    while left > 0 {
        let now = left.min(buffer.len());
        file.write_all(&buffer[..now])?;
        left -= now;
    }
    if sync { file.sync_all() } else { Ok(()) }
}

fn get(path: &Path, size: usize) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; size.clamp(1, BUFFER)];
    let mut total = 0;
    loop {
        match file.read(&mut buffer)? {
            0 if total == size => return Ok(()),
            0 => return Err(io::Error::other(format!("{total} bytes instead of {size}"))),
            n => total += n,
        }
    }
}

fn stat(dir: &Path, i: usize) -> io::Result<()> {
    match fs::metadata(dir.join(format!("f{i}")))?.len() {
        1024 => Ok(()),
        len => Err(io::Error::other(format!("{len} bytes instead of 1024"))),
    }
}

fn list(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        entry?;
    }
    Ok(())
}

fn append(path: &Path, line: &str) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).open(path)?.write_all(line.as_bytes())
}

/// Two mounts append to one file at once: every line must be there, each mount's in its order.
fn append2(p: &Place, s: Sizes) -> io::Result<Option<Measured>> {
    let n = s.n / 4;
    let appender = |me: usize, dir: &Path| {
        let path = dir.join("log2");
        each(n, move |i| append(&path, &format!("{me} {i}\n")))
    };
    let start = Instant::now();
    let (mine, theirs) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| appender(1, p.either()));
        let mine = appender(0, &p.dir);
        (mine, theirs.join().unwrap_or_else(|_| Err(io::Error::other("the other appender panicked"))))
    });
    let took = start.elapsed();
    let each = [mine?, theirs?].into_iter().flatten().flat_map(|m| m.each).collect();
    let (lost, bad) = judge_lines(&fs::read(p.dir.join("log2"))?, n as u64);
    Ok(Some(Measured { took, each, operations: 2 * n, faults: vec![("lost", lost), ("bad", bad)], bytes: 0 }))
}

/// How many lines of two appenders' `n` each are missing, and how many are not the next one of either.
fn judge_lines(text: &[u8], n: u64) -> (u64, u64) {
    let mut have = [0u64; 2];
    let mut bad = 0;
    for line in String::from_utf8_lossy(text).lines() {
        let next = |who: &usize| line == format!("{who} {}", have[*who]);
        match [0, 1].into_iter().find(next) {
            Some(who) => have[who] += 1,
            None => bad += 1,
        }
    }
    ((2 * n).saturating_sub(have[0] + have[1]), bad)
}

/// Written on one mount, read on the other right after it, in turns.
fn pingpong(p: &Place, s: Sizes) -> io::Result<Option<Measured>> {
    let mut stale = 0;
    let measured = each(s.n / 4, |i| {
        let (writer, reader) = if i % 2 == 0 { (&*p.dir, p.either()) } else { (p.either(), &*p.dir) };
        let wrote = format!("{i:08}");
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(writer.join("pp"))?;
        file.write_all_at(wrote.as_bytes(), 0)?;
        drop(file);
        let read = match fs::read(reader.join("pp")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        stale += u64::from(read != wrote.as_bytes());
        Ok(())
    })?;
    Ok(measured.map(|m| Measured { faults: vec![("stale", stale)], ..m }))
}

/// What this machine's page cache has of the file is dropped first, so that it comes from the file system.
fn seqread_elsewhere(p: &Place, s: Sizes) -> io::Result<Option<Measured>> {
    let Some(dir) = &p.other else { return Ok(None) };
    let path = dir.join("big");
    rustix::fs::fadvise(File::open(&path)?, 0, None, Advice::DontNeed)?;
    bulk(s.bytes, || get(&path, s.bytes)).map(Some)
}

/// The same places in every run (xorshift).
struct Places(u64);

impl Places {
    fn next_below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

const PAGE: usize = 4096;

fn randread(p: &Place, s: Sizes) -> io::Result<Option<Measured>> {
    let file = File::open(p.dir.join("big"))?;
    let (mut places, mut page) = (Places(7), [0; PAGE]);
    each(4 * s.n, |_| file.read_exact_at(&mut page, places.next_below((s.bytes / PAGE) as u64) * PAGE as u64))
}

fn randwrite(p: &Place, s: Sizes) -> io::Result<Option<Measured>> {
    const SIZE: usize = 16 << 20;
    let path = p.dir.join("rw");
    put(&path, SIZE, true)?;
    let file = OpenOptions::new().write(true).open(&path)?;
    let (mut places, page) = (Places(7), [b'y'; PAGE]);
    each(s.n, |_| {
        file.write_all_at(&page, places.next_below((SIZE / PAGE) as u64) * PAGE as u64)?;
        file.sync_data()
    })
}

/// What unpacking an archive does: directories with files of different sizes, each with its mode and its time set.
fn tree(p: &Place, s: Sizes) -> io::Result<Option<Measured>> {
    const FILES_A_DIRECTORY: usize = 20;
    const SIZES: [usize; 5] = [300, 1500, 5000, 12_000, 40_000];
    let root = p.dir.join("tree");
    fs::create_dir(&root)?;
    each(s.n, |i| {
        let dir = root.join(format!("d{}", i / FILES_A_DIRECTORY));
        if i % FILES_A_DIRECTORY == 0 {
            fs::create_dir(&dir)?;
        }
        let path = dir.join(format!("f{i}"));
        put(&path, SIZES[i % SIZES.len()], false)?;
        let file = OpenOptions::new().write(true).open(&path)?;
        file.set_permissions(fs::Permissions::from_mode(0o640))?;
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_judged() {
        assert_eq!(judge_lines(b"0 0\n1 0\n0 1\n1 1\n", 2), (0, 0));
        assert_eq!(judge_lines(b"0 0\n0 1\n1 1\n", 2), (2, 1));
        assert_eq!(judge_lines(b"0 0\n1 00 1\n1 1\n", 2), (3, 2));
    }
}
