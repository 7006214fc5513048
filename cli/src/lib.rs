//! The `baton` command: one file a subcommand, all of them small. What goes wrong is one line on standard error that says
//! what was tried, why it failed and what to do; the exit codes stand in `--help`.

mod background;
mod commands;
mod failure;
mod local_link;
mod metrics;
mod names;
mod say;
mod signals;

use clap::{Parser, Subcommand};
use commands::{fsck, lock, member, mount, node, status, token, up};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// What is logged when nobody says. fuser warns of every unmount that came from outside, and raft-engine of every write to the log
/// that a kill or a power cut tore: nobody was told that it is there, and whether more is missing the node finds out by itself.
const DEFAULT_LOG: &str = "warn,fuser=error,raft_engine::file_pipe_log::pipe_builder=error";

#[derive(Parser)]
#[command(
    name = "baton",
    version,
    about = "A distributed POSIX file system: one binary, no database, no object store",
    long_about = "Baton is a distributed POSIX file system. Mount a folder on several machines, and every program on each of \
                  them sees one tree.\n\nTo try it on one machine:\n\n    baton up ~/baton\n\nOn three machines, the same \
                  line on each but for the number:\n\n    baton node --id 1 --listen 0.0.0.0:7400 --data /var/lib/baton \\\n        \
                  --peers 1=10.0.0.1:7400,2=10.0.0.2:7400,3=10.0.0.3:7400\n\nand wherever it is wanted:\n\n    baton mount \
                  10.0.0.1:7400,10.0.0.2:7400,10.0.0.3:7400 /mnt/baton",
    after_help = "Exit codes: 0 done; 1 it failed, as said on standard error; 2 the command line is wrong; 3 no node could be \
                  reached; 4 something is wrong in the cluster (status, fsck).\n\nBATON_LOG sets what is logged to standard \
                  error: error, warn (default), info, debug, trace, or by part, as in info,baton_node=debug."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Up(up::Up),
    Node(node::Node),
    Mount(mount::Mount),
    Status(status::Status),
    Fsck(fsck::Fsck),
    Lock(lock::Lock),
    Member(member::MemberCommand),
    Token(token::Token),
    Who(token::Who),
}

/// The whole program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("BATON_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let outcome = match cli.command {
        Command::Up(up) => up.run(),
        Command::Node(node) => node.run(),
        Command::Mount(mount) => mount.run(),
        Command::Status(status) => status.run(),
        Command::Fsck(fsck) => fsck.run(),
        Command::Lock(lock) => lock.run(),
        Command::Member(member) => member.run(),
        Command::Token(token) => token.run(),
        Command::Who(who) => who.run(),
    };
    match outcome.and_then(|()| say::all_said()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say::complain!("{failure}");
            failure.code()
        }
    }
}
