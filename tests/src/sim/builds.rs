//! Nodes get a newer build one after the other, and some get the old one back for a while.
//!
//! Whatever they are of, nobody notices; a version is in force only when every node has spoken it once. Who was put back too late
//! stops by name, and goes on with the newer build on what it had.

use super::faults::Fault;
use super::world::{Event, World};
use baton_core::meta::{Key, Value};
use baton_core::node::{Speaks, Unspoken};

/// What the first build speaks, and the last one there is.
const FIRST: u32 = 10;
const LAST: u32 = 13;

/// The build of a node: all are the newest of those before them, and speak what those do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Build {
    newest: u32,
    /// The newest that it ever had.
    ever: u32,
}

impl Build {
    pub(super) fn speaks(self) -> Speaks {
        Speaks { oldest: FIRST, newest: self.newest }
    }

    fn becomes(&mut self, newest: u32) {
        self.newest = newest;
        self.ever = self.ever.max(newest);
    }
}

impl World {
    pub(super) fn newest_build(&self) -> u32 {
        self.nodes.iter().map(|node| node.build.ever).max().unwrap_or(FIRST)
    }

    /// Of a node that is added now.
    pub(super) fn build(&self) -> Build {
        let newest = self.newest_build();
        Build { newest, ever: newest }
    }

    pub(super) fn begin_upgrade(&mut self) {
        let next = self.newest_build() + 1;
        if next <= LAST {
            self.stats.count("upgraded");
            self.upgrade(0, next);
        }
    }

    /// This node gets a newer build, and then the next one.
    pub(super) fn upgrade(&mut self, node: usize, build: u32) {
        if node >= self.nodes.len() {
            return;
        }
        if self.nodes[node].build.newest < build {
            self.gets_build(node, build);
            if self.rng.one_in(3) {
                let stays = self.rng.range(500_000, 8_000_000);
                self.after(stays, Event::Fault(Fault::PutBack(node)));
            }
        }
        let next = self.rng.range(500_000, 5_000_000);
        self.after(next, Event::Fault(Fault::Upgrade(node + 1, build)));
    }

    /// The newer build was not liked; it is given another try later.
    pub(super) fn put_back(&mut self, node: usize) {
        let newest = self.nodes[node].build.newest;
        if newest > FIRST && !self.calm {
            self.stats.count("put back");
            self.gets_build(node, newest - 1);
            let stays = self.rng.range(500_000, 8_000_000);
            self.after(stays, Event::Fault(Fault::NewBuild(node)));
        }
    }

    pub(super) fn new_build(&mut self, node: usize) {
        let newest = self.newest_build();
        if self.nodes[node].build.newest < newest {
            self.gets_build(node, newest);
        }
    }

    fn gets_build(&mut self, node: usize, build: u32) {
        self.trace.note(self.now, || format!("node {} gets build {build}", node + 1));
        self.nodes[node].build.becomes(build);
        self.end_in_good_order(node);
    }

    /// In the calm all have the newest one, and at once.
    pub(super) fn all_get_the_newest_build(&mut self) {
        let newest = self.newest_build();
        for node in 0..self.nodes.len() {
            if self.nodes[node].build.newest < newest {
                self.nodes[node].build.becomes(newest);
                self.nodes[node].disk.flush();
                self.kill_node(node);
            }
        }
    }

    /// A version is in force: every node on the list has spoken it.
    pub(super) fn is_in_force(&mut self, node: usize, version: u32) {
        let listed = self.nodes[node].members.clone().unwrap_or_default();
        let never = |node: &usize| self.nodes[*node].build.ever < version;
        if let Some(node) = listed.nodes.keys().filter_map(|id| self.node_at(*id)).find(never) {
            self.fail(format!("version {version} is in force and node {} never spoke it", node + 1));
        }
    }

    /// What a fetched state says of the version in force is looked at before it is taken.
    pub(super) fn can_read(&self, node: usize, state: &super::disk::State) -> bool {
        let speaks = self.nodes[node].build.speaks();
        !matches!(state.get(&Key::Version), Some(Value::Version(version)) if !speaks.knows(*version))
    }

    /// It needs another build, and gets that after a while.
    pub(super) fn stops_by_name(&mut self, node: usize, unspoken: Unspoken) {
        self.trace.note(self.now, || format!("node {}: {unspoken}", node + 1));
        let build = self.nodes[node].build;
        if unspoken.found <= build.newest || unspoken.found > self.newest_build() {
            return self.fail(format!("node {} has {build:?} and says: {unspoken}", node + 1));
        }
        self.stats.count("stopped by name");
        self.kill_node(node);
        self.needs_another_build(node);
    }

    pub(super) fn needs_another_build(&mut self, node: usize) {
        let newest = self.newest_build();
        self.nodes[node].build.becomes(newest);
        let down = self.rng.range(1_000, 3_000_000);
        self.after(down, Event::Fault(Fault::Restart(node)));
    }
}
