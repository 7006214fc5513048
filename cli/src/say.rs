//! What the commands say. The standard library's own `println!` panics where it cannot, and that is often: `baton status | head -1`
//! reads one line and goes. Who printed for nobody goes on to the end and its exit code: a check that mends does not stop half way,
//! and a node does not stop at all. Only what could not be written though somebody wants it (a full disk) is a failure.

use crate::failure::Failure;
use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;

/// As `println!`.
macro_rules! say {
    () => { $crate::say::line(format_args!("")) };
    ($($what:tt)*) => { $crate::say::line(format_args!($($what)*)) };
}

/// As `print!`, and shown at once.
macro_rules! say_now {
    ($($what:tt)*) => { $crate::say::part(format_args!($($what)*)) };
}

/// A line on standard error, in the name of the program.
macro_rules! complain {
    ($($what:tt)*) => { $crate::say::to_error(format_args!($($what)*)) };
}

pub(crate) use {complain, say, say_now};

static FAILED: OnceLock<io::Error> = OnceLock::new();

pub(crate) fn line(what: Arguments<'_>) {
    note(writeln!(io::stdout(), "{what}"));
}

pub(crate) fn part(what: Arguments<'_>) {
    let mut out = io::stdout().lock();
    note(out.write_fmt(what).and_then(|()| out.flush()));
}

/// There is nobody left to tell that it could not be said.
pub(crate) fn to_error(what: Arguments<'_>) {
    let _unheard = writeln!(io::stderr(), "baton: {what}");
}

fn note(outcome: io::Result<()>) {
    match outcome {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => drop(FAILED.set(error)),
        _ => {}
    }
}

/// Whether everything was said that anybody wanted to hear.
pub(crate) fn all_said() -> Result<(), Failure> {
    note(io::stdout().flush());
    match FAILED.get() {
        None => Ok(()),
        Some(error) => Err(Failure::io("write to standard output")(io::Error::new(error.kind(), error.to_string()))),
    }
}
