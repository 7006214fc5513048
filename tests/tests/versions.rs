//! What a build that is too old or too new does with a folder, on a real node.

use baton_node::storage::{LogWrite, RaftLog};
use baton_proto::WIRE_VERSION;
use baton_tests::harness::{Cluster, sh};
use raft::eraftpb::Entry;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Every file below a folder, with its bytes.
fn all_bytes(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                found.insert(path, bytes);
            }
        }
    }
    found
}

/// Another entry at the end of a node's log, or in the place of the last one.
fn append(node: &Path, instead: bool, data: Vec<u8>) {
    let (log, found) = RaftLog::open(&node.join("log")).unwrap();
    let last = found.entries.last().expect("a log with entries");
    let (index, term) = (if instead { last.index } else { last.index + 1 }, last.term);
    let entry = Entry { index, term, data: data.into(), ..Entry::default() };
    log.append(&LogWrite { entries: vec![entry], ..LogWrite::default() }, true).unwrap();
}

#[test]
fn a_log_of_a_later_version_is_refused_by_name_and_left_as_it_is() {
    let mut cluster = Cluster::start();
    let mount = cluster.mount();
    sh(mount.dir(), "for n in $(seq 20); do echo $n > $n; done");
    let leader = cluster.leader();
    let victim = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    cluster.wait_caught_up(victim, Duration::from_secs(20));
    cluster.kill(victim);
    let folder = cluster.data(victim).to_owned();
    let later = u16::try_from(WIRE_VERSION + 1).unwrap();
    append(&folder, false, [&later.to_be_bytes()[..], b"whatever it means"].concat());
    let before = all_bytes(&folder);
    for _ in 0..2 {
        let mut process = cluster.begin(victim);
        let status = process.wait_for_end(Duration::from_secs(20));
        let said = process.said();
        assert!(!status.success(), "it started:\n{said}");
        let named = format!("was written by version {later} of the format, and this baton knows {WIRE_VERSION}");
        assert!(said.contains(&named) && said.contains("install the newer baton again"), "{said}");
    }
    let after = all_bytes(&folder);
    let names = |all: &BTreeMap<PathBuf, Vec<u8>>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after));
    let changed: Vec<&PathBuf> = before.keys().filter(|path| before[*path] != after[*path]).collect();
    assert!(changed.is_empty(), "changed: {changed:?}");
    // What it stands for is what the newer build would make of it.
    append(&folder, true, Vec::new());
    cluster.restart(victim);
    cluster.wait_caught_up(victim, Duration::from_secs(30));
    let said = cluster.process(victim).said();
    assert!(!said.contains("damaged") && !said.contains("votes again when"), "{said}");
    sh(mount.dir(), "cat 20; echo on > on");
    cluster.assert_sound();
}
