//! What a mount that floods does to another one: a program's rounds (a small file, synced, renamed) alone and beside a flood.
//!
//! `flood ONE_DIR FLOODED_DIR [--writers 64] [--seconds 10]`: two mounts of one tree, or any two directories.

use baton_tests::harness::flood::{Rounds, beside};
use clap::Parser;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Parser)]
struct Arguments {
    one: PathBuf,
    flooded: PathBuf,
    #[arg(long, default_value_t = 64)]
    writers: usize,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

fn say(what: &str, rounds: &Rounds) {
    println!(
        "{what}: {} rounds, median {:.1?}, 99 of 100 within {:.1?}, longest {:.1?}",
        rounds.count(),
        rounds.percentile(50),
        rounds.percentile(99),
        rounds.longest()
    );
}

fn main() {
    let Arguments { one, flooded, writers, seconds } = Arguments::parse();
    let (alone, beside, bytes) = beside(&one, &flooded, writers, Duration::from_secs(seconds));
    say("alone", &alone);
    say("beside the flood", &beside);
    println!("the flood: {:.1} MB/s", bytes as f64 / 1e6 / seconds as f64);
}
