//! Real processes, real mounts: what the end-to-end tests start, and how it is ended.
//!
//! Every process a test starts is ended by its own id, and everything it wrote lies below one folder of the test process
//! ([`root`]). Each guard cleans up when it is dropped, also when a test panics. What cannot be dropped, a cluster that the
//! tests of one file share or whatever is there when the test process itself is killed, is left to the [`guardian`]: a shell
//! that notices the end of the test process and then unmounts, kills and removes.

mod client;
mod cluster;
mod delay;
mod false_clock;
pub mod flood;
mod guardian;
mod hanging_disk;
pub mod load;
mod mount;
mod net;
mod process;
mod shell;
mod small_disk;

pub use client::{Admin, RawBytes, raw_call};
pub use cluster::{Cluster, NodeState};
pub use delay::Delay;
pub use false_clock::FalseClock;
pub use guardian::{folder, root};
pub use hanging_disk::{HangingDisk, Held};
pub use mount::{Mount, Up, need_fuse};
pub use net::Net;
pub use process::Process;
pub use shell::{Outcome, sh, sh_within, try_sh};
pub use small_disk::SmallDisk;

use std::fmt::Display;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Asks again until there is an answer; a panic that says what was waited for when it takes too long.
pub fn eventually<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    eventually_ok(within, || ask().ok_or(what))
}

/// The same, where what was found instead says more than what was waited for.
pub fn eventually_ok<T, E: Display>(within: Duration, mut ask: impl FnMut() -> Result<T, E>) -> T {
    let started = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(found) => assert!(started.elapsed() < within, "{found}: not within {} s", within.as_secs()),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A number from the environment, for runs by hand that are longer than those of every day.
pub fn number_from_env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text}: expected a number")),
        Err(_) => default,
    }
}

/// The program, or `None` with the reason printed.
pub fn program(name: &str) -> Option<PathBuf> {
    let found = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
    });
    if found.is_none() {
        eprintln!("SKIPPED: {name} is not installed");
    }
    found
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The `baton` command as a test calls it.
pub fn baton() -> Command {
    Command::new(under_test())
}

/// The same in the network namespace of another process.
fn baton_in(holder: Option<u32>) -> Command {
    let Some(holder) = holder else { return baton() };
    let mut command = net::into(holder);
    command.arg(under_test());
    command
}

fn under_test() -> PathBuf {
    std::env::var_os("BATON_UNDER_TEST").map_or_else(|| beside_the_test("baton-under-test"), PathBuf::from)
}

/// Test programs lie in `deps`, the programs of the same build beside that folder.
fn beside_the_test(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let folder = test.parent().and_then(|deps| deps.parent()).expect("a test program lies in target/PROFILE/deps");
    let program = folder.join(name);
    assert!(program.is_file(), "{} is missing: build it with cargo build -p baton-tests --bins", program.display());
    program
}
