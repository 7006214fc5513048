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
    fn our_own_groups_are_found() {
        let ours: Vec<u32> = rustix::process::getgroups().unwrap().into_iter().map(|gid| gid.as_raw()).collect();
        assert_eq!(groups_of(std::process::id()), ours);
        assert_eq!(groups_of(0), [] as [u32; 0]);
    }
}
