//! Cleans up behind a test process, however that ended.
//!
//! The guardian waits for the end of its standard input, which the test process holds and nobody else. It leads a process
//! group of its own, in which the harness puts everything it starts: so nothing is ever looked for by its name.

use super::shell;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// `$1` is the folder of everything. SIGTERM is for the others of the group; the last line ends the guardian too.
const SCRIPT: &str = r#"
trap '' TERM INT
cat > /dev/null
kill -TERM 0
unmount() {
    cut -d' ' -f2 /proc/self/mounts | grep "^$1/" | while read -r at; do
        umount -l "$at" 2> /dev/null || fusermount3 -uz "$at"
    done
}
unmount "$1"
sleep 0.5
unmount "$1"
[ -n "$2" ] || rm -rf --one-file-system "$1"
kill -KILL 0
"#;

struct Guardian {
    root: PathBuf,
    shell: Child,
}

fn guardian() -> &'static Guardian {
    static GUARDIAN: OnceLock<Guardian> = OnceLock::new();
    GUARDIAN.get_or_init(|| {
        // Others may look inside: the suites act as several users.
        let mode = std::fs::Permissions::from_mode(0o755);
        let root = tempfile::Builder::new().prefix("baton-e2e-").permissions(mode).tempdir();
        let root = root.expect("a folder for the test").keep();
        let keep = if std::env::var_os("BATON_KEEP").is_some() { "keep" } else { "" };
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "guardian", root.to_str().expect("a name in UTF-8"), keep])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("sh starts");
        show_logs_when_a_test_fails(&root);
        Guardian { root, shell }
    })
}

/// The folder below which everything lies that this test process makes. `BATON_KEEP=1` keeps it.
pub fn root() -> &'static Path {
    &guardian().root
}

/// The process group that ends with the test process.
pub(super) fn group() -> i32 {
    guardian().shell.id() as i32
}

/// A new empty folder, with a name that says what it is for.
pub fn folder(what: &str) -> PathBuf {
    let folder = unused(what);
    std::fs::create_dir_all(&folder).expect("a folder in the test's own");
    folder
}

/// A path that nothing has yet.
pub(super) fn unused(what: &str) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    root().join(format!("{what}-{}", NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// What the processes said is worth more than any assertion's own words.
fn show_logs_when_a_test_fails(root: &Path) {
    let (before, root) = (std::panic::take_hook(), root.to_owned());
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        if let Ok(said) = shell::quietly(&root, "for log in *.log; do echo \"--- $log\"; tail -n 25 \"$log\"; done") {
            eprintln!("{said}");
        }
    }));
}
