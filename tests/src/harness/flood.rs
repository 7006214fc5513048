//! Programs that ask for as much as they can, one that asks for little beside them, and a client that waits for no answer.

use super::load::Stops;
use baton_core::meta::ops::{GetXattr, SetXattr, XattrHow};
use baton_core::meta::{Op, Query};
use baton_core::session::{Command, ToMount, ToNode};
use baton_core::types::{Cred, Ino, XattrName};
use baton_proto::v1::mount_client::MountClient;
use bytes::Bytes;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// How long each of a program's rounds took.
pub struct Rounds(Vec<Duration>);

impl Rounds {
    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn longest(&self) -> Duration {
        self.0.iter().max().copied().unwrap_or_default()
    }

    /// So many of a hundred took no longer.
    pub fn percentile(&self, of_hundred: usize) -> Duration {
        let mut all = self.0.clone();
        all.sort_unstable();
        all.get((all.len() * of_hundred / 100).min(all.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// One program that makes one small file after the other, synced and renamed, until told to stop.
fn little(folder: &Path, stop: &AtomicBool) -> Rounds {
    let mut rounds = Vec::new();
    for number in 0_u64.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let began = Instant::now();
        let (new, kept) = (folder.join("new"), folder.join(format!("kept-{}", number % 100)));
        let mut file = File::create(&new).expect("a file");
        file.write_all(b"a little").and_then(|()| file.sync_all()).expect("what was written");
        drop(file);
        std::fs::rename(&new, &kept).expect("its name");
        assert_eq!(std::fs::metadata(&kept).expect("its size").len(), 8);
        rounds.push(began.elapsed());
    }
    Rounds(rounds)
}

/// The sizes of files that a flood is made of: the largest that travel within a command, and such that do not.
const SIZES: [usize; 4] = [60_000, 60_000, 60_000, 4 << 20];
/// Names that a flooding program uses again and again.
const NAMES: usize = 20;

fn much(folder: &Path, writer: usize, stop: &AtomicBool, bytes: &AtomicU64) {
    let data = vec![writer as u8; 4 << 20];
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let size = SIZES[number % SIZES.len()];
        let path = folder.join(format!("{writer}-{}", number % NAMES));
        std::fs::write(path, &data[..size]).expect("a file of the flood");
        bytes.fetch_add(size as u64, Ordering::Relaxed);
    }
}

/// The one program's rounds while nobody else does anything, then while `writers` flood another folder; and the bytes of that flood.
pub fn beside(one: &Path, flood: &Path, writers: usize, each: Duration) -> (Rounds, Rounds, u64) {
    let alone = rounds_for(one, each);
    let (stop, bytes) = (AtomicBool::new(false), AtomicU64::new(0));
    let beside = std::thread::scope(|scope| {
        for writer in 0..writers {
            let (stop, bytes) = (&stop, &bytes);
            scope.spawn(move || much(flood, writer, stop, bytes));
        }
        let _stops = Stops(&stop);
        rounds_for(one, each)
    });
    (alone, beside, bytes.into_inner())
}

/// What the one program gets done in this time.
pub fn rounds_for(folder: &Path, time: Duration) -> Rounds {
    rounds_during(folder, || std::thread::sleep(time)).0
}

/// What the one program gets done while something else happens.
pub fn rounds_during<T>(folder: &Path, happens: impl FnOnce() -> T) -> (Rounds, T) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let program = scope.spawn(|| little(folder, &stop));
        let stops = Stops(&stop);
        let came_of_it = happens();
        drop(stops);
        (program.join().expect("the one program"), came_of_it)
    })
}

/// What a client sends that waits for no answer, and reads none.
#[derive(Clone, Copy, Debug)]
pub enum Sends {
    Changes,
    Questions,
}

const VALUE: usize = 60_000;

/// Speaks to a node as a mount does that heeds no bounds, about an object of its own; answers how many bytes the node took.
pub fn heedless(address: &str, ino: u64, sends: Sends, time: Duration) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut client = MountClient::connect(format!("http://{address}")).await.expect("a node");
        let (say, said) = mpsc::channel(1);
        let mut heard = client.session(ReceiverStream::new(said)).await.expect("a stream").into_inner();
        let hello = ToNode::Hello { session: None, client: "heedless:/".into(), nonce: 1 + ino, link: 1 };
        say.send(hello.into()).await.expect("the stream");
        let session = loop {
            let message = heard.message().await.expect("a word").expect("a word before the end");
            if let Ok(ToMount::Welcome { session, .. }) = ToMount::try_from(message) {
                break session;
            }
        };
        let (ino, name) = (Ino(ino), XattrName::new(b"user.flood").expect("a name"));
        let began = Instant::now();
        let mut taken = 0;
        for number in 1.. {
            let message = match sends {
                Sends::Changes => {
                    let value = Bytes::from(vec![number as u8; VALUE]);
                    let op = Op::from(SetXattr { ino, name: name.clone(), value, how: XattrHow::Either });
                    ToNode::Commands(vec![Command { session, number, acked: 0, cred: Cred::ROOT, op }])
                }
                Sends::Questions => {
                    let query = Query::from(GetXattr { ino, name: name.clone() });
                    ToNode::Ask { id: number, cred: Cred::ROOT, query, keep: false }
                }
            };
            let message = message.into();
            let bytes = baton_proto::size_of(&message) as u64;
            let Some(left) = time.checked_sub(began.elapsed()) else { break };
            match tokio::time::timeout(left, say.send(message)).await {
                Ok(Ok(())) => taken += bytes,
                // The node reads nothing more; or its transport ended the connection, on which too much lies unread.
                Ok(Err(_)) | Err(_) => break,
            }
        }
        taken
    })
}
