//! Runs the simulator over many seeds, or one of them with its trace.

use baton_tests::sim::{Plan, Planted, Size, Stats, Verdict, run};
use clap::Parser;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

#[derive(Parser)]
#[command(about = "Simulates whole Baton clusters from seeds and checks what their programs saw")]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// This seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// small (3 nodes, 30 s of faults) or large (3 to 5 nodes, 2 min of faults).
    #[arg(long, default_value = "small")]
    size: String,
    /// Prints everything that happens.
    #[arg(long)]
    trace: bool,
    /// A mistake to make on purpose.
    #[arg(long)]
    planted: Option<String>,
    /// Threads; every seed is run by one.
    #[arg(long, default_value_t = 1)]
    jobs: u64,
    /// Goes on after a failure.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let size = match args.size.as_str() {
        "small" => Size::Small,
        "large" => Size::Large,
        other => return refuse(&format!("--size is small or large, not {other}")),
    };
    let planted = match args.planted.as_deref().map(Planted::by_name) {
        Some(None) => {
            let names: Vec<&str> = Planted::ALL.iter().map(|p| p.name()).collect();
            return refuse(&format!("--planted is one of {}", names.join(", ")));
        }
        other => other.flatten(),
    };
    let (first, seeds) = args.seed.map_or((args.start, args.seeds), |seed| (seed, 1));
    let plan = |seed| Plan { planted, trace: args.trace, ..Plan::new(seed, size) };
    std::panic::set_hook(Box::new(|_| {})); // a panic is reported as the seed's failure
    let began = Instant::now();
    let next = AtomicU64::new(first);
    let total = Mutex::new((Stats::default(), 0u64, 0u64));
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= first + seeds {
                        return;
                    }
                    let verdict = run(plan(seed));
                    let mut total = total.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    total.0.add(&verdict.stats);
                    total.1 += 1;
                    if verdict.failure.is_some() {
                        total.2 += 1;
                        report_failure(&verdict, &args);
                        if !args.keep_going {
                            next.store(u64::MAX / 2, Ordering::SeqCst);
                        }
                    } else if args.seed.is_some() {
                        println!("seed {seed} passes, trace {:016x}", verdict.trace_hash);
                    }
                }
            });
        }
    });
    let (stats, ran, failed) = total.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    table(&stats, ran, failed, began.elapsed().as_secs_f64());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("sim: {why}");
    ExitCode::from(2)
}

fn report_failure(verdict: &Verdict, args: &Args) {
    let Some(failure) = &verdict.failure else { return };
    for line in &failure.tail {
        println!("  {line}");
    }
    println!("seed {} FAILS: {}", verdict.seed, failure.what);
    let planted = args.planted.as_ref().map(|p| format!(" --planted {p}")).unwrap_or_default();
    println!(
        "replay: cargo run -p baton-tests --bin sim -- --seed {} --size {}{planted} --trace\n",
        verdict.seed, args.size
    );
}

fn table(stats: &Stats, ran: u64, failed: u64, seconds: f64) {
    let rows: Vec<(String, String)> = [
        ("seeds".to_string(), format!("{ran} ({failed} failed)")),
        ("simulated hours".to_string(), format!("{:.2}", stats.simulated_us as f64 / 3.6e9)),
        ("events".to_string(), stats.events.to_string()),
        ("operations checked".to_string(), stats.operations.to_string()),
        ("  of unknown outcome".to_string(), stats.open.to_string()),
        ("searches given up".to_string(), stats.undecided.to_string()),
    ]
    .into_iter()
    .chain(stats.faults.iter().map(|(kind, n)| (format!("  {kind}"), n.to_string())))
    .chain([
        ("wall seconds".to_string(), format!("{seconds:.1}")),
        (
            "ms a simulated minute".to_string(),
            format!("{:.0}", seconds * 1e3 / (stats.simulated_us as f64 / 6e7).max(1e-9)),
        ),
    ])
    .collect();
    for (what, value) in rows {
        println!("{what:<24} {value:>14}");
    }
}
