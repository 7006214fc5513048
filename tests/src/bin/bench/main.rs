//! # bench: how fast is a file system, beside others
//!
//! Runs the same small workloads on several directories, one after the other within each workload, so that all of them
//! meet the same noise; several rounds; the median counts. Only ratios taken in one run mean anything on a shared
//! machine, so each rate stands beside its ratio to the first name's.
//!
//! A name may have two directories: two mounts of one tree. Three rows then judge truth and not speed: lines lost and
//! out of place where two mounts append to one file, and what was read stale right after it was written elsewhere. If one
//! of them is not 0, the program fails.

mod memfs;
mod report;
mod workloads;

use clap::Parser;
use report::Column;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use workloads::{Place, Sizes, WORKLOADS};

/// Compares file systems on small workloads; the first name is the measure for the others.
#[derive(Parser)]
struct Arguments {
    /// How many files, directories or operations a workload takes; the slow ones take a fraction.
    #[arg(long, default_value_t = 1000)]
    n: usize,
    /// How large the file for sequential reading and writing is.
    #[arg(long, default_value_t = 256)]
    size_mib: usize,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Show the median and the 99th percentile of one operation's time as well.
    #[arg(long)]
    verbose: bool,
    /// Start an in-memory FUSE file system and measure it too: the most that FUSE allows.
    #[arg(long)]
    with_memfs: bool,
    /// Measure a directory of the local file system too.
    #[arg(long, value_name = "DIR")]
    with_local: Option<PathBuf>,
    /// What to measure: a name and a directory, or two that are mounts of one tree.
    #[arg(value_name = "NAME=DIR[,DIR2]", value_parser = parse_set)]
    sets: Vec<Set>,
}

/// A named file system: one directory of it, or two of two mounts.
#[derive(Clone, Debug)]
struct Set {
    name: String,
    dir: PathBuf,
    other: Option<PathBuf>,
}

fn parse_set(text: &str) -> Result<Set, String> {
    let (name, dirs) = text.split_once('=').ok_or("NAME=DIR or NAME=DIR,DIR2 is needed")?;
    let (dir, other) = match dirs.split_once(',') {
        Some((dir, other)) => (dir, Some(PathBuf::from(other))),
        None => (dirs, None),
    };
    if name.is_empty() || dir.is_empty() {
        return Err("neither the name nor the directory may be empty".into());
    }
    Ok(Set { name: name.into(), dir: dir.into(), other })
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("bench: lines were lost or out of place, or something was read stale");
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether every file system told the truth.
fn run(arguments: Arguments) -> io::Result<bool> {
    let mut sets = arguments.sets.clone();
    if let Some(dir) = &arguments.with_local {
        sets.push(Set { name: "local".into(), dir: dir.clone(), other: None });
    }
    let memfs = if arguments.with_memfs { Some(memfs::Memfs::start()?) } else { None };
    if let Some(memfs) = &memfs {
        sets.push(Set { name: "memfs".into(), dir: memfs.dir().into(), other: None });
    }
    if sets.is_empty() {
        return Err(io::Error::other("nothing to measure: give NAME=DIR, --with-local DIR or --with-memfs"));
    }
    let sizes = Sizes { n: arguments.n.max(4), bytes: arguments.size_mib.max(1) << 20 };
    let mut columns: Vec<Column> = sets.iter().map(|set| Column::new(&set.name)).collect();
    for round in 0..arguments.rounds.max(1) {
        one_round(&sets, sizes, round, &mut columns)?;
    }
    let text = if arguments.json { report::json(&columns) } else { report::table(&columns, arguments.verbose) };
    println!("{text}");
    Ok(columns.iter().all(Column::is_true))
}

/// Every workload once, on every file system in turn.
fn one_round(sets: &[Set], sizes: Sizes, round: usize, columns: &mut [Column]) -> io::Result<()> {
    // Two names may mean one directory, so the name's number is in there as well.
    let name = |i: usize| format!("bench.{}.{round}.{i}", std::process::id());
    let made: Vec<Made> =
        sets.iter().enumerate().map(|(i, set)| Made::new(set, &name(i))).collect::<io::Result<_>>()?;
    for workload in WORKLOADS {
        for (made, column) in made.iter().zip(columns.iter_mut()) {
            let result = (workload.run)(&made.place, sizes);
            let result =
                result.map_err(|e| io::Error::new(e.kind(), format!("{} on {}: {e}", workload.name, column.name)))?;
            column.add(workload, result);
        }
    }
    Ok(())
}

/// A directory made for one round, and taken away after it.
struct Made {
    place: Place,
}

impl Made {
    fn new(set: &Set, name: &str) -> io::Result<Made> {
        let dir = set.dir.join(name);
        let about = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", dir.display()));
        std::fs::create_dir(&dir).map_err(about)?;
        let made = Made { place: Place { dir: dir.clone(), other: set.other.as_ref().map(|other| other.join(name)) } };
        if let Some(other) = &made.place.other {
            wait_for(other)?;
        }
        Ok(made)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.place.dir) {
            eprintln!("bench: {} stays: {error}", self.place.dir.display());
        }
    }
}

/// Some file systems show a new directory to another mount only after a while; that is theirs to be slow in.
fn wait_for(dir: &Path) -> io::Result<()> {
    let start = Instant::now();
    while !dir.is_dir() {
        if start.elapsed() > Duration::from_secs(10) {
            return Err(io::Error::other(format!("{} is not to be seen: no mount of the same tree?", dir.display())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
