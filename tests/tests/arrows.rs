//! The arrows between the crates, and between the core's folders, are as `docs/design.md` draws them; and the core knows
//! nothing that would make two runs differ.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}

/// A source without its comments, which may speak of everything.
fn code(file: &Path) -> String {
    let text = std::fs::read_to_string(file).expect("a source");
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The names below `[dependencies]` of a crate's manifest.
fn dependencies(krate: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join(krate).join("Cargo.toml")).expect("a manifest");
    text.lines()
        .skip_while(|line| line.trim() != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('=').map(|(name, _)| name.trim().to_owned()))
        .collect()
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn crates_know_only_those_before_them() {
    let allowed = BTreeMap::from([
        ("core", vec![]),
        ("proto", vec!["baton-core"]),
        ("node", vec!["baton-core", "baton-proto"]),
        ("fs-mount", vec!["baton-core", "baton-proto"]),
        ("cli", vec!["baton-core", "baton-proto", "baton-node", "baton-fs-mount"]),
    ]);
    for (krate, allowed) in allowed {
        for dependency in dependencies(krate) {
            let ours = dependency == "baton" || dependency.starts_with("baton-");
            assert!(!ours || allowed.contains(&dependency.as_str()), "{krate} must not know {dependency}");
        }
    }
}

#[test]
fn the_core_depends_on_nothing_impure() {
    let pure = BTreeSet::from(["bytes", "postcard", "raft", "serde", "slog", "thiserror"]);
    for dependency in dependencies("core") {
        assert!(pure.contains(dependency.as_str()), "is {dependency} pure? then name it here");
    }
}

#[test]
fn the_core_touches_no_clock_disk_socket_thread_or_chance() {
    let impure = [
        "std::time::",
        "std::thread",
        "std::net",
        "std::fs",
        "std::process",
        "std::env",
        "std::io",
        "RandomState",
        "HashMap",
        "HashSet",
        "thread_rng",
    ];
    let mut files = Vec::new();
    sources(&root().join("core/src"), &mut files);
    assert!(files.len() > 40, "the core's sources were not found");
    for file in files {
        let text = code(&file);
        for word in impure {
            assert!(!text.contains(word), "{} uses {word}", file.display());
        }
    }
}

/// `types` knows nobody, `token` knows `types` alone, `meta` and `session` know `types` (and a session keeps meta's replies), `node` and `mount` know all
/// of these and not each other.
#[test]
fn the_cores_folders_know_only_those_before_them() {
    let allowed = BTreeMap::from([
        ("types", vec!["types", "limits"]),
        ("meta", vec!["meta", "types", "limits", "session"]),
        ("session", vec!["session", "meta", "types", "limits"]),
        ("token", vec!["token", "types"]),
        ("node", vec!["node", "session", "token", "meta", "types", "limits"]),
        ("mount", vec!["mount", "session", "meta", "types", "limits"]),
    ]);
    for (folder, allowed) in allowed {
        let mut files = Vec::new();
        sources(&root().join("core/src").join(folder), &mut files);
        for file in files {
            let text = code(&file);
            for used in text.split("crate::").skip(1) {
                let name: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                assert!(
                    name.is_empty()
                        || allowed.contains(&name.as_str())
                        || !root().join("core/src").join(&name).is_dir(),
                    "{} uses {name}",
                    file.display()
                );
            }
        }
    }
}
