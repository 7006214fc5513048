use super::{Net, Process, baton, baton_in, guardian, is_root};
use rustix::mount::{UnmountFlags, unmount};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const READY: Duration = Duration::from_secs(40);

/// Tests of mounts fail where mounts are impossible: to pass there would say what nobody has seen.
pub fn need_fuse() {
    assert!(
        Path::new("/dev/fuse").exists(),
        "/dev/fuse is missing: the tests of real mounts need it (modprobe fuse; in a container --device /dev/fuse and \
         --cap-add SYS_ADMIN)"
    );
}

/// A directory where a mount is made; dropped, whatever is mounted there is gone.
pub(super) struct Mountpoint(pub(super) PathBuf);

impl Mountpoint {
    pub(super) fn new() -> Mountpoint {
        need_fuse();
        Mountpoint(guardian::folder("mnt"))
    }

    pub(super) fn is_mounted(&self) -> bool {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        mounts.lines().any(|line| line.split(' ').nth(1).is_some_and(|at| Path::new(at) == self.0))
    }

    fn detach(&self) {
        if !self.is_mounted() {
            return;
        }
        if is_root() {
            let _unmounted_meanwhile = unmount(&self.0, UnmountFlags::DETACH);
        } else {
            let quiet = Command::new("fusermount3").arg("-uz").arg(&self.0).stderr(Stdio::null()).status();
            let _unmounted_meanwhile = quiet;
        }
    }
}

impl Drop for Mountpoint {
    fn drop(&mut self) {
        self.detach();
    }
}

/// A `baton mount` process.
pub struct Mount {
    process: Process,
    at: Mountpoint,
}

impl Mount {
    pub fn start(addresses: &str) -> Mount {
        let mut mount = Mount::begin(addresses);
        mount.process.wait_for_line("ready", READY);
        mount
    }

    /// With more words on its command line.
    pub fn start_with(addresses: &str, more: &[&str]) -> Mount {
        let mut mount = Mount::begin_with(addresses, more);
        mount.process.wait_for_line("ready", READY);
        mount
    }

    /// Starts it and does not wait until it is ready.
    pub fn begin(addresses: &str) -> Mount {
        Mount::begin_with(addresses, &[])
    }

    /// At a place of a network of the test's own.
    pub fn start_at(net: &Net, place: usize, addresses: &str) -> Mount {
        Mount::start_at_with(net, place, addresses, &[])
    }

    pub fn start_at_with(net: &Net, place: usize, addresses: &str, more: &[&str]) -> Mount {
        let mut mount = Mount::begin_in(Some(net.holder(place)), addresses, more);
        mount.process.wait_for_line("ready", READY);
        mount
    }

    fn begin_with(addresses: &str, more: &[&str]) -> Mount {
        Mount::begin_in(None, addresses, more)
    }

    fn begin_in(holder: Option<u32>, addresses: &str, more: &[&str]) -> Mount {
        let at = Mountpoint::new();
        let mut command = baton_in(holder);
        command.arg("mount").arg(addresses).arg(&at.0).args(more).env("BATON_LOG", "info").env("NO_COLOR", "1");
        if is_root() {
            command.args(["-o", "allow_other"]);
        }
        Mount { process: Process::start("mount", command), at }
    }

    /// A path on the mount.
    pub fn path(&self, name: &str) -> PathBuf {
        self.at.0.join(name)
    }

    pub fn dir(&self) -> &Path {
        &self.at.0
    }

    /// A new directory on the mount, for one test.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.path(name);
        std::fs::create_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        folder
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The page of figures that it serves, where it was told to.
    pub fn figures(&self) -> String {
        figures(&self.process.said())
    }

    /// SIGKILL; the mount point is free again when this returns.
    pub fn kill(mut self) {
        self.process.kill();
    }
}

/// Asks for the page at the address that a process said.
fn figures(said: &str) -> String {
    let at = said.lines().find_map(|line| line.strip_prefix("metrics at http://")?.strip_suffix("/metrics"));
    let mut stream = TcpStream::connect(at.expect("a line that says where the figures are")).expect("a connection");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, page) = answer.split_once("\r\n\r\n").expect("a head and a page");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    page.to_owned()
}

/// A `baton up` process.
pub struct Up {
    process: Process,
    at: Vec<Mountpoint>,
}

impl Up {
    pub fn start(data: &Path, mounts: usize) -> Up {
        let at: Vec<Mountpoint> = (0..mounts).map(|_| Mountpoint::new()).collect();
        let mut command = baton();
        command
            .args(["up", "--metrics", "127.0.0.1:0"])
            .arg("--data")
            .arg(data)
            .args(at.iter().map(|at| &at.0))
            .env("BATON_LOG", "info")
            .env("NO_COLOR", "1");
        let mut process = Process::start("up", command);
        process.wait_for_line("ready", READY);
        Up { process, at }
    }

    pub fn dir(&self, mount: usize) -> &Path {
        &self.at[mount].0
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The page of figures that it serves.
    pub fn figures(&self) -> String {
        figures(&self.process.said())
    }

    /// Where its first node listens.
    pub fn address(&self) -> String {
        let said = self.process.said();
        let line = said.lines().find(|line| line.starts_with("node ")).expect("a node says where it listens");
        line.rsplit(' ').next().unwrap_or_default().to_owned()
    }
}
