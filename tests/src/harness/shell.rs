use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Long enough for everything a test asks for on a busy machine; short enough that a hang is told as one.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a shell line ended.
#[derive(Debug)]
pub struct Outcome {
    /// `None`: a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Outcome {
    pub fn is_ok(&self) -> bool {
        self.code == Some(0)
    }
}

/// Runs shell lines in a folder, ending at the first that fails, and returns what they said; a panic with everything they
/// said when one fails or takes too long.
pub fn sh(folder: &Path, lines: &str) -> String {
    sh_within(PATIENCE, folder, lines)
}

pub fn sh_within(patience: Duration, folder: &Path, lines: &str) -> String {
    let outcome = run(patience, folder, lines).unwrap_or_else(|why| panic!("{why}"));
    let Outcome { code, out, err } = &outcome;
    assert!(outcome.is_ok(), "in {}: {lines}\nended with {code:?}\n{out}{err}", folder.display());
    outcome.out
}

/// As [`sh`], where failing is what may be expected. Only a hang is a panic.
pub fn try_sh(folder: &Path, lines: &str) -> Outcome {
    run(PATIENCE, folder, lines).unwrap_or_else(|why| panic!("{why}"))
}

/// For where a panic would come on top of another.
pub(super) fn quietly(folder: &Path, lines: &str) -> Result<String, String> {
    run(PATIENCE, folder, lines).map(|outcome| outcome.out + &outcome.err)
}

fn run(patience: Duration, folder: &Path, lines: &str) -> Result<Outcome, String> {
    let output = || tempfile::tempfile().map_err(|error| format!("no temporary file: {error}"));
    let (mut out, mut err) = (output()?, output()?);
    let second = |file: &File| file.try_clone().map_err(|error| format!("no second handle: {error}"));
    let lines_there = format!("cd \"$1\"\n{lines}");
    let mut child = Command::new("sh")
        // It goes there by itself: what has not become `sh` yet holds all that this process has open, and where the folder is of a
        // mount that waits for its nodes, so would who reads from a pipe of theirs until its end.
        .args([OsStr::new("-ec"), OsStr::new(&lines_there), OsStr::new("sh"), folder.as_os_str()])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(second(&out)?)
        .stderr(second(&err)?)
        // A group of its own, so that a line that hangs ends with all that it started.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("in {}: {lines}\nsh does not start: {error}", folder.display()))?;
    let started = Instant::now();
    let (mut pause, mut late) = (Duration::from_millis(1), false);
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            break Some(status);
        }
        if late {
            break None;
        }
        if started.elapsed() > patience {
            let group = Pid::from_raw(child.id() as i32).expect("a process id");
            let _ended_meanwhile = kill_process_group(group, Signal::KILL);
            // A program that waits in the kernel for a mount cannot be killed: it is left behind.
            pause = Duration::from_millis(500);
            late = true;
        }
        std::thread::sleep(pause);
        pause = pause.max((pause * 2).min(Duration::from_millis(20)));
    };
    let (out, err) = (read(&mut out), read(&mut err));
    if late {
        return Err(format!("in {}: {lines}\ndid not end within {patience:?}\n{out}{err}", folder.display()));
    }
    Ok(Outcome { code: status.and_then(|status| status.code()), out, err })
}

fn read(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let _shown_as_far_as_read = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}
