//! The suites of others, on a real mount of a cluster of three: pjdfstest asks for every rule of POSIX one by one, fsx
//! writes, maps, cuts and punches one file at random and compares every byte.
//!
//! `docs/posix.md` says what is skipped and why.

use baton_tests::harness::{Up, folder, is_root, number_from_env, sh, sh_within, try_sh};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// glibc has a table of what LINK_MAX is on which file system, FUSE is not in it, and pjdfstest believes glibc.
const SKIPPED: [&str; 1] = ["link::link_count_max"];

const PJDFSTEST: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utimensat = {}
utime_now = {}
[settings]
naptime = 0.01
allow_remount = false
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

const FSX: &str = r#"
flen = 1048576
[opsize]
max = 131072
[weights]
close_open = 1
invalidate = 1
read = 10
write = 10
mapread = 10
mapwrite = 10
truncate = 5
fsync = 1
fdatasync = 1
posix_fallocate = 2
punch_hole = 5
sendfile = 3
posix_fadvise = 1
copy_file_range = 3
"#;

/// The program from `$PJDFSTEST` or `$FSX`, `PATH`, or the build folder, where it is installed if it is nowhere.
fn tool(name: &str, version: &str) -> PathBuf {
    if let Some(named) = std::env::var_os(name.to_uppercase()) {
        return PathBuf::from(named);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools = target().join("tools");
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.push(tools.join("bin"));
    if let Some(found) = folders.iter().map(|folder| folder.join(name)).find(|program| program.is_file()) {
        return found;
    }
    let mut install = Command::new("cargo");
    install.args(["install", "--quiet", "--locked", "--root"]).arg(&tools).arg(format!("{name}@{version}"));
    let installed = install.env("CARGO_TARGET_DIR", tools.join("build")).status().expect("cargo starts");
    assert!(installed.success(), "{name} {version} is not installed, and cargo install failed");
    tools.join("bin").join(name)
}

/// The build folder: test programs lie in its `PROFILE/deps`.
fn target() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    test.ancestors().nth(3).expect("target/PROFILE/deps/TEST").to_owned()
}

struct Tally {
    failed: Vec<String>,
    skipped: BTreeSet<String>,
    passed: usize,
    said: String,
}

/// Runs those tests of pjdfstest whose names contain `pattern`.
fn pjdfstest(mount: &Path, config: &str, pattern: &str) -> Tally {
    let program = tool("pjdfstest", "0.2.2");
    let here = folder("pjdfstest");
    std::fs::write(here.join("config.toml"), config).unwrap();
    // Without a helper program: fuse3's would start a second mount for what the kernel does by itself.
    sh(&here, "printf '#!/bin/sh\\nexec %s -i \"$@\"\\n' $(command -v mount) > mount; chmod +x mount; mkdir other");
    let outcome = try_sh(
        &here,
        &format!(
            "PATH=$PWD:$PATH {} -c config.toml -s $PWD/other -p {} {pattern} 2>&1",
            program.display(),
            mount.display()
        ),
    );
    let mut tally = Tally { failed: Vec::new(), skipped: BTreeSet::new(), passed: 0, said: outcome.out };
    for line in tally.said.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [test, "ok"] => {
                assert!(test.contains("::"), "{line}");
                tally.passed += 1;
            }
            [test, "skipped"] => assert!(tally.skipped.insert(test.to_owned()), "{line}"),
            [test, "FAILED"] => tally.failed.push(test.to_owned()),
            _ => {}
        }
    }
    let summary = format!("{} failed, {} skipped, {} passed", tally.failed.len(), tally.skipped.len(), tally.passed);
    assert!(tally.said.contains(&summary), "not {summary}, by its own words:\n{}", tally.said);
    tally
}

#[test]
fn pjdfstest_finds_no_fault() {
    if !is_root() {
        eprintln!("SKIPPED: pjdfstest acts as several users, which only root can");
        return;
    }
    let up = Up::start(&folder("data"), 1);
    // Apart from the rest, which leaves unlinked files open: then nothing can be remounted read-only.
    let remounts = pjdfstest(up.dir(0), &PJDFSTEST.replace("allow_remount = false", "allow_remount = true"), "erofs");
    assert!(remounts.failed.is_empty(), "{:?}\n{}", remounts.failed, remounts.said);
    assert_eq!((remounts.skipped.len(), remounts.passed), (0, 13), "{}", remounts.said);

    let all = pjdfstest(up.dir(0), PJDFSTEST, "");
    assert!(all.failed.is_empty(), "{:?}\n{}", all.failed, all.said);
    let skipped: BTreeSet<&str> =
        all.skipped.iter().map(String::as_str).filter(|test| !test.contains("::erofs_")).collect();
    assert_eq!(skipped, BTreeSet::from(SKIPPED), "what is skipped stands in docs/posix.md with its reason");
    assert_eq!(all.passed + remounts.passed + skipped.len(), 398, "{}", all.said);
}

#[test]
fn fsx_reads_back_every_byte_it_wrote() {
    let operations = number_from_env("BATON_FSX_OPS", 20_000);
    let program = tool("fsx", "0.3.2");
    let up = Up::start(&folder("data"), 2);
    let here = folder("fsx");
    std::fs::write(here.join("config.toml"), FSX).unwrap();
    std::thread::scope(|scope| {
        for seed in 1..=3 {
            let (up, here, program) = (&up, &here, &program);
            scope.spawn(move || {
                let file = up.dir(seed % 2).join(format!("fsx-{seed}"));
                let (program, file) = (program.display(), file.display());
                let line = format!("{program} -f config.toml -N {operations} -S {seed} -P $PWD {file}");
                let patience = Duration::from_secs(60) + Duration::from_millis(20) * operations as u32;
                sh_within(patience, here, &line);
            });
        }
    });
}
