//! What people type wrongly, what programs ask too much of, and what strangers send.

use baton_tests::harness::{Cluster, Mount, Process, baton, eventually, folder, need_fuse, raw_call, sh, try_sh};
use bytes::Bytes;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = baton().args(arguments).output().unwrap();
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

/// The command ends with this code, and says each of these things.
fn refused(arguments: &[&str], code: i32, says: &[&str]) {
    let (found, said) = run(arguments);
    assert_eq!(found, Some(code), "baton {}\n{said}", arguments.join(" "));
    for words in says {
        assert!(said.contains(words), "baton {} does not say {words:?}:\n{said}", arguments.join(" "));
    }
    assert!(!said.contains("panicked"), "{said}");
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn a_configuration_with_unknown_keys_or_impossible_values_is_refused() {
    let here = folder("config");
    let good = "id = 1\nlisten = \"127.0.0.1:0\"\ndata = \"/nowhere\"\n[peers]\n1 = \"127.0.0.1:1\"\n";
    for (from, to, says) in [
        ("data =", "dtaa =", &["dtaa", "line 3"][..]),
        ("id = 1", "id = 1\nreplicas = 3", &["replicas", "line 2"]),
        ("id = 1", "id = 0", &["count from 1"]),
        ("id = 1", "id = 9", &["names every node"]),
        ("id = 1", "id = -1", &["line 1"]),
        ("127.0.0.1:0", "127.0.0.1", &["HOST:PORT"]),
        ("127.0.0.1:1", "127.0.0.1:70000", &["HOST:PORT"]),
        ("[peers]", "[peers", &["line 4"]),
    ] {
        let file = here.join("node.toml");
        std::fs::write(&file, good.replace(from, to)).unwrap();
        refused(&["node", "--config", file.to_str().unwrap()], 2, says);
    }
    refused(&["node", "--config", "/no/such/file"], 2, &["/no/such/file", "No such file"]);
    std::fs::write(here.join("node.toml"), [0xff, 0xfe, 0x00]).unwrap();
    refused(&["node", "--config", here.join("node.toml").to_str().unwrap()], 2, &["UTF-8"]);
}

#[test]
fn a_command_line_that_cannot_be_right_is_refused() {
    refused(&["node", "--id", "1"], 2, &["--listen"]);
    refused(&["mount", "nowhere", "/tmp"], 2, &["HOST:PORT"]);
    refused(&["mount", "127.0.0.1:1", "/tmp", "-o", "rw,allow_othre"], 2, &["allow_othre", "allow_other"]);
    refused(&["up", "/tmp/x", "--nodes", "0"], 2, &["1..=9"]);
    refused(&["frobnicate"], 2, &["frobnicate"]);
}

#[test]
fn plain_files_that_say_no_tree_are_refused_with_the_line() {
    let here = folder("plain");
    let (iplist, tree) = (here.join("iplist.txt"), here.join("tree.txt"));
    let node = |says: &[&str]| {
        let [list, edges] = [&iplist, &tree].map(|file| file.to_str().unwrap());
        refused(&["node", "--id", "1", "--data", "/nowhere", "--iplist", list, "--tree", edges], 2, says);
    };
    std::fs::write(&iplist, "1 127.0.0.1 7400\n2 127.0.0.1\n").unwrap();
    std::fs::write(&tree, "1 2\n").unwrap();
    node(&["iplist.txt", "line 2", "NODE ADDRESS PORT"]);
    std::fs::write(&iplist, "1 127.0.0.1 7400\n2 127.0.0.1 7410\n3 127.0.0.1 7420\n").unwrap();
    node(&["no way leads from node 1 to node 3"]);
    std::fs::write(&tree, "1 2\n2 3\n3 1\n").unwrap();
    node(&["closes a circle"]);
    std::fs::write(&tree, "1: 2\n2: x\n").unwrap();
    node(&["tree.txt", "line 2", "\"x\""]);
}

#[test]
fn a_data_folder_of_another_node_or_a_newer_version_is_refused_and_left_alone() {
    let (here, address) = (folder("folders"), free_address());
    let start = |id: &str, data: &Path, code: i32, says: &[&str]| {
        let peers = format!("1={address},2=127.0.0.1:1");
        refused(
            &["node", "--id", id, "--listen", &address, "--peers", &peers, "--data", data.to_str().unwrap()],
            code,
            says,
        );
    };
    let strange = here.join("strange");
    sh(&here, "mkdir strange; echo mine > strange/thesis.txt");
    start("1", &strange, 1, &["thesis.txt", "not made by baton"]);
    assert_eq!(sh(&here, "ls -A strange"), "thesis.txt\n");

    let newer = here.join("newer");
    sh(&here, "mkdir newer; printf 'format = 99\\nnode = 1\\n' > newer/baton.toml");
    start("1", &newer, 1, &["format 99", "newer baton"]);

    let another = here.join("another");
    sh(&here, "mkdir another; printf 'format = 1\\nnode = 2\\nmember = true\\n' > another/baton.toml");
    start("1", &another, 1, &["belongs to node 2"]);

    let garbage = here.join("garbage");
    sh(&here, "mkdir garbage; head -c 100 /dev/urandom > garbage/baton.toml");
    start("1", &garbage, 1, &["cannot read", "fetches everything"]);

    let file = here.join("file");
    sh(&here, "echo > file");
    start("1", &file, 1, &["not a directory"]);
}

#[test]
fn a_taken_address_and_a_taken_folder_are_told() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let (taken, data) = (held.local_addr().unwrap().to_string(), folder("data"));
    let (data, peers) = (data.to_str().unwrap(), format!("1={taken}"));
    refused(
        &["node", "--id", "1", "--listen", &taken, "--peers", &peers, "--data", data],
        1,
        &["Another process listens there"],
    );
    let cluster = Cluster::start_in(&[folder("one").join("node")]);
    let (other, data) = (free_address(), cluster.data(1).to_str().unwrap());
    let peers = format!("1={other}");
    refused(
        &["node", "--id", "1", "--listen", &other, "--peers", &peers, "--data", data],
        1,
        &["another node runs on it"],
    );
}

#[test]
fn a_mount_point_that_cannot_be_one_is_refused_before_anybody_waits() {
    need_fuse();
    let (here, nobody) = (folder("points"), free_address());
    let mount = |point: &str, code: i32, says: &[&str]| {
        refused(&["mount", &nobody, here.join(point).to_str().unwrap()], code, says);
    };
    sh(&here, "echo > file; mkdir full; echo > full/file");
    mount("missing", 1, &["does not exist", "mkdir -p"]);
    mount("file", 1, &["not a directory"]);
    mount("full", 1, &["not empty", "nonempty"]);
    let cluster = Cluster::start_in(&[folder("one").join("node")]);
    let mounted = cluster.mount();
    refused(&["mount", &nobody, mounted.dir().to_str().unwrap()], 1, &["mounted at", "already"]);
    assert_eq!(sh(mounted.dir(), "echo on > f; cat f"), "on\n");
}

#[test]
fn no_node_to_be_reached_is_exit_code_3() {
    let nobody = free_address();
    refused(&["status", &nobody], 3, &["no node could be reached", &nobody]);
    refused(&["fsck", &nobody, "--json"], 3, &["no node could be reached"]);
    need_fuse();
    let point = folder("point");
    refused(&["mount", &nobody, point.to_str().unwrap()], 3, &["no node could be reached", &nobody]);
    assert_eq!(sh(&point, "ls -A"), "", "nothing stays mounted");
}

/// A node that was taken in and never comes would have to be removed by hand.
#[test]
fn a_node_that_could_not_start_is_not_taken_into_the_cluster() {
    let mut cluster = Cluster::start_in(&[folder("one").join("node")]);
    let (addresses, free) = (cluster.addresses(), free_address());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().to_string();
    let (empty, strange, held) = (folder("empty"), folder("strange"), folder("held"));
    std::fs::write(strange.join("thesis.tex"), "x").unwrap();
    std::fs::write(held.join("baton.toml"), "format = 1\nnode = 7\n").unwrap();
    for (listen, data, code, says) in [
        (&port, &empty, 1, "--listen"),
        (&free, &strange, 1, "thesis.tex"),
        (&free, &held, 1, "node 7"),
        (&free, &strange.join("thesis.tex"), 1, "thesis.tex"),
        (&"127.0.0.1".to_owned(), &empty, 2, "HOST:PORT"),
    ] {
        let data = data.to_str().unwrap();
        let arguments = [
            "node",
            "--join",
            &addresses,
            "--listen",
            listen,
            "--data",
            data,
            "--metrics",
            "none",
            "--advertise",
            &free,
        ];
        refused(&arguments, code, &[says]);
    }
    assert_eq!(cluster.status(1).nodes.len(), 1);
    assert_eq!(cluster.join(), 2, "and no number was spent");
}

/// What is written where nobody reads any more.
fn unread() -> std::io::PipeWriter {
    std::io::pipe().unwrap().1
}

#[test]
fn commands_and_nodes_go_on_when_nobody_reads_what_they_say() {
    struct Killed(std::process::Child);
    impl Drop for Killed {
        fn drop(&mut self) {
            let _gone = (self.0.kill(), self.0.wait());
        }
    }

    let (address, data) = (free_address(), folder("unread").join("node"));
    let mut node = baton();
    node.args(["node", "--id", "1", "--listen", &address, "--peers", &format!("1={address}"), "--metrics", "none"]);
    node.arg("--data").arg(data).stdout(unread()).stderr(unread());
    let mut node = Killed(node.spawn().unwrap());
    eventually("it leads", Duration::from_secs(20), || (run(&["status", &address]).0 == Some(0)).then_some(()));
    for arguments in [
        &["status", &address][..],
        &["status", "--json", &address],
        &["fsck", &address],
        &["fsck", "--deep", &address],
        &["lock", "ls", &address],
        &["lock", "ls", "--json", &address],
        &["token", "ls", &address],
    ] {
        let said = baton().args(arguments).stdout(unread()).output().unwrap();
        let complaint = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!((said.status.code(), complaint.as_str()), (Some(0), ""), "{arguments:?}");
    }
    let nowhere = free_address();
    let said = baton().args(["status", &nowhere]).stderr(unread()).output().unwrap();
    assert_eq!(said.status.code(), Some(3), "what went wrong shows in the exit code all the same");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let said = baton().args(["status", &address]).stdout(full).output().unwrap();
    let complaint = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.code() == Some(1) && complaint.contains("No space left"), "{said:?}");
    assert!(node.0.try_wait().unwrap().is_none(), "the node goes on");
}

#[test]
fn what_is_too_long_or_too_large_has_its_own_errno() {
    let cluster = Cluster::start_in(&[folder("one").join("node")]);
    let mount = cluster.mount();
    let errno = |outcome: std::io::Result<()>| outcome.err().and_then(|error| error.raw_os_error());
    let code = |errno: rustix::io::Errno| Some(errno.raw_os_error());
    use rustix::fs::{XattrFlags, getxattr, listxattr, setxattr};
    use rustix::io::Errno;

    let name = |len: usize| mount.path(&"n".repeat(len));
    std::fs::write(name(255), "longest").unwrap();
    assert_eq!(errno(std::fs::write(name(256), "")), code(Errno::NAMETOOLONG));
    assert_eq!(errno(std::fs::rename(name(255), name(256))), code(Errno::NAMETOOLONG));
    assert_eq!(errno(std::os::unix::fs::symlink("x".repeat(4096), mount.path("s"))), code(Errno::NAMETOOLONG));
    std::os::unix::fs::symlink("x".repeat(4095), mount.path("s")).unwrap();
    assert_eq!(std::fs::read_link(mount.path("s")).unwrap().as_os_str().len(), 4095);
    let not_utf8 = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff\xfe name");
    std::fs::write(mount.dir().join(not_utf8), "").unwrap();

    let file = name(255);
    let set = |key: &str, len: usize| setxattr(&file, key, &vec![7; len], XattrFlags::empty());
    assert_eq!(set(&format!("user.{}", "k".repeat(251)), 1), Err(Errno::RANGE));
    assert_eq!(set("user.large", 65_537), Err(Errno::TOOBIG));
    assert_eq!(set("user.large", 65_536), Ok(()));
    let mut small = [0; 100];
    assert_eq!(getxattr(&file, "user.large", &mut small[..]), Err(Errno::RANGE));
    assert_eq!(getxattr(&file, "user.none", &mut small[..]), Err(Errno::NODATA));
    assert_eq!(listxattr(&file, &mut [0; 3][..]), Err(Errno::RANGE));
    assert_eq!(setxattr(&file, "user.large", b"x", XattrFlags::CREATE), Err(Errno::EXIST));
    assert_eq!(setxattr(&file, "strange.name", b"x", XattrFlags::empty()), Err(Errno::OPNOTSUPP));

    let large = std::fs::File::create(mount.path("large")).unwrap();
    assert_eq!(errno(large.set_len(1 << 62)), None, "a sparse file may be as large as offsets go");
    assert_eq!(std::fs::metadata(mount.path("large")).unwrap().len(), 1 << 62);
    let limited = try_sh(mount.dir(), "ulimit -f 8; head -c 100000 /dev/zero > limited");
    assert!(!limited.is_ok(), "{limited:?}");
    cluster.assert_sound();
}

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.below(256) as u8).collect()
    }

    /// Bytes that look like a protobuf message: known field numbers, every wire type, messages within messages.
    fn message(&mut self, depth: u64) -> Vec<u8> {
        let mut out = Vec::new();
        for _ in 0..self.below(6) {
            let kind = [0, 1, 2, 2, 2, 5][self.below(6) as usize];
            out.push(((1 + self.below(12)) << 3 | kind) as u8);
            match kind {
                0 => out.extend(varint(match self.below(4) {
                    0 => u64::MAX,
                    1 => self.below(1 << 31) << 31,
                    _ => self.below(5),
                })),
                1 => out.extend((0..8).map(|_| self.below(256) as u8)),
                5 => out.extend((0..4).map(|_| self.below(256) as u8)),
                _ => {
                    let inner = if depth > 0 && self.below(3) > 0 { self.message(depth - 1) } else { self.bytes(40) };
                    // Now and then longer than what follows.
                    let told = inner.len() as u64 + if self.below(20) == 0 { self.below(1 << 31) } else { 0 };
                    out.extend(varint(told));
                    out.extend(inner);
                }
            }
        }
        out
    }
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

const METHODS: [&str; 8] = [
    "/baton.v1.Mount/Session",
    "/baton.v1.Peers/Messages",
    "/baton.v1.Peers/Snapshot",
    "/baton.v1.Slices/Put",
    "/baton.v1.Slices/Get",
    "/baton.v1.Admin/Status",
    "/baton.v1.Admin/Check",
    "/baton.v1.Admin/NoSuchMethod",
];

/// What the cluster went through is over: it serves, and nothing is wrong.
fn assert_serves(cluster: &mut Cluster, mount: &Mount, round: &str) {
    assert_eq!(sh(mount.dir(), &format!("echo {round} > alive; cat alive")), format!("{round}\n"));
    for id in cluster.ids() {
        assert!(cluster.process(id).is_running(), "node {id} ended");
        let said = cluster.process(id).said();
        assert!(!said.contains("panicked"), "node {id}:\n{said}");
    }
    cluster.assert_sound();
}

/// Sends bytes as they are; what comes back, as far as anything does.
fn send_raw(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    // The node may close at the first wrong byte: then the rest cannot be sent.
    let _closed_on_us = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _until_closed_or_quiet = stream.take(1 << 16).read_to_end(&mut answer);
    answer
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

#[test]
fn strangers_on_the_port_do_no_harm() {
    let mut cluster = Cluster::start();
    let mount = cluster.mount();
    let addresses: Vec<String> = cluster.ids().into_iter().map(|id| cluster.address(id).to_owned()).collect();
    let mut random = Random(1);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let with_preface = |frames: &[u8]| [&preface[..], &frame(4, 0, 0, &[]), frames].concat();
    for address in &addresses {
        send_raw(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        send_raw(address, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
        send_raw(address, &vec![0; 1 << 20]);
        send_raw(address, &random.bytes(1 << 17));
        send_raw(address, &preface[..10]);
        // A frame that says it has 16 MiB, one longer than allowed, and headers without an end.
        send_raw(address, &with_preface(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]));
        send_raw(address, &with_preface(&frame(0, 0, 1, &vec![1; 2 << 20])));
        send_raw(address, &with_preface(&frame(1, 0, 1, &random.bytes(1 << 14)).repeat(20)));
        for _ in 0..10 {
            let kind = random.below(12) as u8;
            let frames = frame(kind, random.below(256) as u8, random.below(4) as u32, &random.bytes(300));
            send_raw(address, &with_preface(&frames));
        }
    }
    assert_serves(&mut cluster, &mount, "raw");
}

#[test]
fn messages_that_mean_nothing_are_refused_on_every_method() {
    let mut cluster = Cluster::start();
    let mount = cluster.mount();
    let mut random = Random(2);
    for round in 0..40 {
        let id = 1 + round % 3;
        for method in METHODS {
            let count = 1 + random.below(4);
            let messages = (0..count).map(|_| Bytes::from(random.message(4))).collect();
            let _refused_or_ignored = raw_call(cluster.address(id), method, messages, Duration::from_millis(60));
        }
    }
    assert_serves(&mut cluster, &mount, "random");
    // A message larger than any may be is not waited for.
    for method in METHODS {
        let large = vec![Bytes::from(vec![0x0a; 12 << 20])];
        let outcome = raw_call(cluster.address(1), method, large, Duration::from_secs(5));
        assert!(outcome.is_err(), "{method} took 12 MiB: {outcome:?}");
    }
    assert_serves(&mut cluster, &mount, "large");
}

#[test]
fn a_mount_whose_node_is_something_else_says_so_and_ends() {
    need_fuse();
    // Somebody who listens and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let point = folder("point");
    let mut command = baton();
    command.arg("mount").arg(&address).arg(&point);
    let mut process = Process::start("mount", command);
    let status = process.wait_for_end(Duration::from_secs(40));
    assert_eq!(status.code(), Some(3), "{}", process.said());
    let still = Command::new("mountpoint").arg("-q").arg(&point).status().unwrap();
    assert!(!still.success(), "nothing stays mounted");
}
