//! A network of the test's own: each place has a network namespace with one address, and a bridge joins them.
//!
//! A namespace lives as long as the process that holds it, which is one of the harness's: so it ends with the test, however
//! that ends. Nothing of it is seen outside.
//!
//! What is cut is lost without a word, in the direction in which it is cut: the sender is told a wrong hardware address.

use super::{Process, is_root, program};
use std::process::{Command, Stdio};
use std::time::Duration;

const NOBODY: &str = "02:00:00:00:00:99";

pub struct Net {
    hub: Process,
    places: Vec<Process>,
}

impl Net {
    /// `None`, with the reason printed, where no namespaces can be made.
    pub fn start(places: usize) -> Option<Net> {
        if !is_root() {
            eprintln!("SKIPPED: network namespaces need root");
            return None;
        }
        if ["ip", "nsenter", "unshare"].iter().any(|name| program(name).is_none()) {
            return None;
        }
        let hub = namespace("hub");
        run(&hub, "ip link set lo up");
        run(&hub, "ip link add br0 type bridge");
        run(&hub, "ip link set br0 up");
        run(&hub, "ip addr add 10.77.0.254/24 dev br0");
        let mut net = Net { hub, places: Vec::new() };
        for at in 0..places {
            let place = namespace("place");
            run(&net.hub, &format!("ip link add v{at} type veth peer name eth0 netns {}", place.id()));
            run(&net.hub, &format!("ip link set v{at} master br0 up"));
            run(&place, "ip link set lo up");
            run(&place, &format!("ip addr add {}/24 dev eth0", net.address(at)));
            run(&place, "ip link set eth0 up");
            net.places.push(place);
        }
        Some(net)
    }

    pub fn address(&self, place: usize) -> String {
        format!("10.77.0.{}", place + 1)
    }

    /// The process whose network namespace is this place.
    pub fn holder(&self, place: usize) -> u32 {
        self.places[place].id()
    }

    /// From here on this thread, and what it starts, can talk to every place.
    pub fn enter(&self) {
        let namespace = std::fs::File::open(format!("/proc/{}/ns/net", self.hub.id())).expect("a namespace");
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), kind).expect("to enter it");
    }

    /// Nothing goes from one place to the other.
    pub fn cut_one_way(&self, from: usize, to: usize) {
        if from != to {
            let to = self.address(to);
            run(&self.places[from], &format!("ip neigh replace {to} lladdr {NOBODY} nud permanent dev eth0"));
        }
    }

    pub fn cut(&self, one: usize, other: usize) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// Nothing is cut any more.
    pub fn heal(&self) {
        for place in &self.places {
            run(place, "ip neigh flush dev eth0 nud permanent");
        }
    }
}

/// A process that does nothing but hold a namespace.
fn namespace(name: &str) -> Process {
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", "echo held; exec sleep 86400"]);
    let mut process = Process::start(name, command);
    process.wait_for_line("held", Duration::from_secs(10));
    process
}

fn run(place: &Process, command: &str) {
    let output = into(place.id()).args(command.split(' ')).stdin(Stdio::null()).output().expect("nsenter starts");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What is started with this starts in the network namespace of that process.
pub(super) fn into(holder: u32) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{holder}/ns/net"));
    command
}
