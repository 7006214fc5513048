//! `--background`: the command starts itself again in a session of its own and ends when that one says `ready`.

use crate::failure::Failure;
use crate::say::say;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Tells the child that it is one.
const CHILD: &str = "BATON_IN_BACKGROUND";

pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs the same command line in the background; `Ok` when it is ready.
pub(crate) fn start() -> Result<(), Failure> {
    let program = std::env::current_exe().map_err(Failure::io("find the program itself"))?;
    let mut child = Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // A group of its own, so that the terminal's Ctrl-C does not reach it.
        .process_group(0)
        .spawn()
        .map_err(Failure::io("start in the background"))?;
    let said = child.stdout.take().map(BufReader::new);
    let ready = said.is_some_and(|said| said.lines().map_while(Result::ok).any(|line| line == "ready"));
    if ready {
        say!("ready");
        return Ok(());
    }
    let status = child.wait().map_err(Failure::io("wait for the mount in the background"))?;
    Err(Failure::Unhealthy(format!(
        "the mount in the background ended before it was ready ({status}); its message stands above"
    )))
}
