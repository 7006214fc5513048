//! Makes many files through the API, without the kernel: how fast, and (seen from outside) what a node needs for them.
//!
//! `api_load ADDR[,ADDR...] [--files 1000000] [--in-flight 512] [--per-dir 1000]`

use baton_core::meta::ops::{Create, Mkdir};
use baton_core::meta::{Answer, Op};
use baton_core::mount::{Call, Done, Patience};
use baton_core::types::{Errno, Ino, Name};
use baton_fs_mount::fuse::Who;
use baton_fs_mount::{Client, ClientOptions, GrpcLink, GrpcOptions};
use clap::Parser;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

#[derive(Parser)]
struct Args {
    addresses: String,
    #[arg(long, default_value_t = 1_000_000)]
    files: u64,
    #[arg(long, default_value_t = 512)]
    in_flight: usize,
    #[arg(long, default_value_t = 1000)]
    per_dir: u64,
}

const ROOT: Who = Who { uid: 0, gid: 0, pid: 0 };

type Outcome = Result<Done, Errno>;

struct Load {
    client: Arc<Client>,
    tell: Sender<Outcome>,
    told: Receiver<Outcome>,
    in_flight: usize,
    max: usize,
}

impl Load {
    /// Begins a call as soon as fewer than the bound are under way.
    fn begin(&mut self, call: Call) -> Result<(), String> {
        while self.in_flight >= self.max {
            self.wait_one()?;
        }
        let tell = self.tell.clone();
        self.in_flight += 1;
        self.client.begin(
            ROOT,
            call,
            Box::new(move |outcome, _kept| {
                let _gone = tell.send(outcome);
            }),
        );
        Ok(())
    }

    fn wait_one(&mut self) -> Result<(), String> {
        self.in_flight -= 1;
        match self.told.recv_timeout(Duration::from_secs(60)) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(errno)) => Err(format!("a call failed: {errno}")),
            Err(_) => Err("nothing was answered for a minute".into()),
        }
    }

    fn finish(&mut self) -> Result<(), String> {
        while self.in_flight > 0 {
            self.wait_one()?;
        }
        Ok(())
    }
}

fn name(text: String) -> Result<Name, String> {
    Name::new(text.as_bytes()).map_err(|e| e.to_string())
}

fn make_dir(client: &Arc<Client>, text: String) -> Result<Ino, String> {
    let mkdir = Op::Mkdir(Mkdir { dir: Ino::ROOT, name: name(text)?, mode: 0o755 });
    match client.call(ROOT, Call::Do(mkdir)) {
        Ok(Done::Answer(Answer::Attr(attr))) => Ok(attr.ino),
        other => Err(format!("no directory: {other:?}")),
    }
}

fn run(args: &Args) -> Result<(), String> {
    let client = Client::new(ClientOptions { client: "api_load".into(), patience: Patience::default() });
    let addresses = args.addresses.split(',').map(str::to_owned).collect();
    let link = GrpcLink::start(&client, GrpcOptions { addresses, cache_bytes: 1 << 20 }).map_err(|e| e.to_string())?;
    if !client.wait_ready(Duration::from_secs(15)) {
        return Err("no node can be reached".into());
    }
    let (tell, told) = channel();
    let mut load = Load { client: client.clone(), tell, told, in_flight: 0, max: args.in_flight.max(1) };
    let run = std::process::id();
    let started = Instant::now();
    let mut dir = Ino::ROOT;
    for file in 0..args.files {
        if file % args.per_dir == 0 {
            dir = make_dir(&client, format!("load-{run}-{}", file / args.per_dir))?;
        }
        let make = Create {
            dir,
            name: name(format!("file-{file}"))?,
            mode: 0o644,
            exclusive: true,
            truncate: false,
            read: false,
            write: true,
        };
        load.begin(Call::Do(Op::Create(make)))?;
        if file > 0 && file % 100_000 == 0 {
            println!("{file} files, {:.0} a second", file as f64 / started.elapsed().as_secs_f64());
        }
    }
    load.finish()?;
    let took = started.elapsed().as_secs_f64();
    println!("{} files in {took:.1} s: {:.0} a second", args.files, args.files as f64 / took);
    client.say_goodbye();
    link.close();
    Ok(())
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("api_load: {why}");
            ExitCode::FAILURE
        }
    }
}
