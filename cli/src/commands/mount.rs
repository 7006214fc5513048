use crate::failure::Failure;
use crate::metrics::{self, Page};
use crate::say::{complain, say};
use crate::{background, names, signals};
use baton_core::mount::Patience;
use baton_fs_mount::fuse::{self, MountOptions};
use baton_fs_mount::{Calls, Client, ClientOptions, GrpcLink, GrpcOptions};
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

/// The threads that take the kernel's requests. Each request wakes the one that slept longest: more of them than processors
/// are only more cold caches (four on two processors cost a seventh of all `mkdir`s).
pub(crate) fn fuse_threads() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4))
}
const CACHE_BYTES: u64 = 128 << 20;
/// How long a first answer may take before the mount is given up.
const PATIENCE: Duration = Duration::from_secs(15);

/// Mount the cluster's tree at a directory
///
/// Any node's address will do; with several, another one is used when one cannot be reached. `umount DIR`, Ctrl-C or SIGTERM
/// ends it.
#[derive(Args)]
pub(crate) struct Mount {
    /// Nodes of the cluster: HOST:PORT[,HOST:PORT...]
    #[arg(value_name = "ADDR[,ADDR...]")]
    addresses: String,
    /// An empty directory
    mountpoint: PathBuf,
    /// Mount options, separated by commas: allow_other, nonempty, ro, suid, dev; timeout=SECONDS (30) and hard or soft: after
    /// so long without an answer a soft mount gives its programs ETIMEDOUT, a hard one (the default) says so and waits on
    #[arg(short = 'o', value_name = "OPTIONS", value_delimiter = ',')]
    options: Vec<String>,
    /// Return as soon as the mount is ready, and leave it running
    #[arg(long)]
    background: bool,
    /// Serve figures for Prometheus at HOST:PORT, under /metrics
    #[arg(long, value_name = "ADDR", default_value = "none")]
    metrics: String,
}

impl Mount {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let addresses = names::addresses(&self.addresses)?;
        let (options, patience) = parse_options(&self.options)?;
        if self.background && !background::is_child() {
            return background::start();
        }
        let client = Client::new(ClientOptions { client: names::client(&self.mountpoint), patience });
        let grpc = GrpcOptions { addresses: addresses.clone(), cache_bytes: CACHE_BYTES };
        let link = GrpcLink::start(&client, grpc).map_err(Failure::io("start the connection's thread"))?;
        // What is wrong with the mount point is told before anybody waits for a node.
        let mounted =
            Arc::new(fuse::mount(Arc::new(Calls(client.clone())), &self.mountpoint, &options, fuse_threads())?);
        if !client.wait_ready(PATIENCE) {
            let _anyway = mounted.detach();
            let why = format!("nothing answered at {} for {} s", addresses.join(", "), PATIENCE.as_secs());
            return Err(Failure::Unreachable(why));
        }
        let (counted, at) = (client.clone(), self.mountpoint.display().to_string());
        let page = move || {
            let mut page = Page::default();
            let (figures, stats) = counted.figures();
            page.mount(&at, &figures, &stats);
            page.text()
        };
        if let Some(at) = metrics::serve(Some(&self.metrics), page)? {
            say!("metrics at http://{at}/metrics");
        }
        say!("ready");
        serve(&mounted)?;
        client.say_goodbye();
        link.close();
        Ok(())
    }
}

/// Waits until the mount is gone: unmounted by somebody, or because of a signal.
fn serve(mounted: &Arc<fuse::Mounted>) -> Result<(), Failure> {
    let (tell, told) = channel();
    signals::watch(tell.clone(), false)?;
    let watched = mounted.clone();
    std::thread::spawn(move || {
        let _ended = watched.join();
        let _gone = tell.send(true);
    });
    if let Ok(over) = told.recv()
        && !over
        && let Err(error) = mounted.unmount()
    {
        complain!("{error}; programs that still have files open there keep them until they close them");
        mounted.detach()?;
    }
    Ok(())
}

/// What `-o` said: of the mount itself, and of how long its programs wait.
fn parse_options(options: &[String]) -> Result<(MountOptions, Patience), Failure> {
    let (mut parsed, mut patience) = (MountOptions::default(), Patience::default());
    for option in options.iter().map(|o| o.trim()).filter(|o| !o.is_empty()) {
        match option.split_once('=').unwrap_or((option, "")) {
            ("allow_other", "") => parsed.allow_other = true,
            ("nonempty", "") => parsed.nonempty = true,
            ("ro", "") => parsed.read_only = true,
            ("rw", "") => parsed.read_only = false,
            ("suid", "") => parsed.suid = true,
            ("nosuid", "") => parsed.suid = false,
            ("dev", "") => parsed.dev = true,
            ("nodev", "") => parsed.dev = false,
            ("hard", "") => patience.soft = false,
            ("soft", "") => patience.soft = true,
            ("timeout", seconds) => match seconds.parse() {
                Ok(seconds @ 1..=86_400u64) => patience.lasts = seconds * 1_000_000,
                _ => return Err(Failure::Usage(format!("-o {option}: expected timeout=SECONDS, 1 to 86400"))),
            },
            _ => {
                let known = "allow_other, nonempty, ro, rw, suid, nosuid, dev, nodev, timeout=SECONDS, hard, soft";
                return Err(Failure::Usage(format!("-o {option} is not known; there are {known}")));
            }
        }
    }
    Ok((parsed, patience))
}
