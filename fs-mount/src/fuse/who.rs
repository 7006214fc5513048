//! Who asks.

use baton_core::limits::GROUPS_MAX;
use baton_core::types::Cred;

/// The process (for the kernel: the thread) behind a request, as the request says it. Its supplementary groups are not in
/// there; [`groups_of`] looks them up for the few answers that depend on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Who {
    pub uid: u32,
    pub gid: u32,
    /// 0 where the kernel asks for itself, or for a process of another pid namespace.
    pub pid: u32,
}

impl Who {
    /// As an operation is told at first: without the groups.
    pub fn cred(self) -> Cred {
        Cred { uid: self.uid, gid: self.gid, groups: None }
    }

    /// As an operation is told that said it needs the groups.
    pub fn cred_with_groups(self) -> Cred {
        Cred { uid: self.uid, gid: self.gid, groups: Some(groups_of(self.pid)) }
    }
}

/// The supplementary groups of a process or thread: none where it cannot be asked. It waits for its answer while it is
/// looked at, so its number cannot have passed on to another.
pub fn groups_of(pid: u32) -> Vec<u32> {
    if pid == 0 {
        return Vec::new();
    }
    match std::fs::read_to_string(format!("/proc/{pid}/status")) {
        Ok(status) => groups_in(&status),
        Err(_) => Vec::new(),
    }
}

fn groups_in(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    line.split_ascii_whitespace().filter_map(|group| group.parse().ok()).take(GROUPS_MAX).collect()
}

/// Whether a signal waits for a thread that itself waits for us: it wants to stop waiting, or must.
pub fn is_signalled(pid: u32) -> bool {
    pid != 0 && std::fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| signalled_in(&status))
}

/// A signal to the whole process is the main thread's if it takes such signals. One that another thread takes must not count:
/// who is told EINTR without a signal of its own hands the kernel's inner word for it to the program.
fn signalled_in(status: &str) -> bool {
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let signals = |name: &str| line(name).and_then(|set| u64::from_str_radix(set, 16).ok()).unwrap_or(0);
    let is_main = line("Tgid:").is_some() && line("Tgid:") == line("Pid:");
    let pending = signals("SigPnd:") | if is_main { signals("ShdPnd:") } else { 0 };
    pending & !signals("SigBlk:") & !signals("SigIgn:") != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_from_the_line_that_has_them() {
        let status = "Name:\tcat\nUid:\t0\t0\t0\t0\nGroups:\t4 24 1000 \nVmPeak:\t 5 kB\n";
        assert_eq!(groups_in(status), [4, 24, 1000]);
        assert_eq!(groups_in("Name:\tcat\nGroups:\t\n"), [] as [u32; 0]);
        assert_eq!(groups_in(""), [] as [u32; 0]);
    }

    #[test]
    fn a_signal_counts_for_the_thread_that_will_take_it() {
        let status = |pid: u32, sets: [&str; 4]| {
            let [pending, shared, blocked, ignored] = sets;
            format!(
                "Tgid:\t7\nPid:\t{pid}\nSigPnd:\t{pending}\nShdPnd:\t{shared}\nSigBlk:\t{blocked}\nSigIgn:\t{ignored}\n"
            )
        };
        let (none, int) = ("0000000000000000", "0000000000000002");
        assert!(!signalled_in(&status(7, [none, none, none, none])));
        assert!(signalled_in(&status(7, [none, int, none, none])));
        assert!(!signalled_in(&status(8, [none, int, none, none])), "the main thread takes it");
        assert!(signalled_in(&status(8, [int, none, none, none])));
        assert!(!signalled_in(&status(7, [none, int, int, none])));
        assert!(!signalled_in(&status(7, [none, int, none, int])));
        assert!(!signalled_in(""));
        assert!(!is_signalled(0) && !is_signalled(std::process::id()));
    }

    #[test]
    fn our_own_groups_are_found() {
        let ours: Vec<u32> = rustix::process::getgroups().unwrap().into_iter().map(|gid| gid.as_raw()).collect();
        assert_eq!(groups_of(std::process::id()), ours);
        assert_eq!(groups_of(0), [] as [u32; 0]);
    }
}
