//! The benchmark runs to its end, tells the truth of a local file system and cleans up. What it measures is nobody's test.

use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    let tiny = ["--n", "8", "--size-mib", "1", "--rounds", "2"];
    Command::new(env!("CARGO_BIN_EXE_bench")).args(tiny).args(arguments).output().unwrap()
}

#[test]
fn two_local_directories_are_compared_and_left_clean() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, second) = (format!("one={0},{0}", one.path().display()), format!("two={}", two.path().display()));
    let output = bench(&[&first, &second, "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let columns = said["columns"].as_array().unwrap();
    assert_eq!(columns.len(), 2);
    assert_eq!(columns[0]["workloads"]["append2"]["faults"]["lost"], 0);
    assert_eq!(columns[0]["workloads"]["pingpong"]["faults"]["stale"], 0);
    assert!(columns[0]["workloads"]["stat, other mount"]["rate"].as_f64().unwrap() > 0.0);
    assert!(columns[1]["workloads"]["stat, other mount"].is_null());
    for dir in [one.path(), two.path()] {
        assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0);
    }
}

#[test]
fn the_table_has_a_row_for_each_workload_and_a_ratio_for_each_other_name() {
    let dir = tempfile::tempdir().unwrap();
    let set = format!("one={}", dir.path().display());
    let output = bench(&[&set, "--with-local", dir.path().to_str().unwrap(), "--verbose"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    for word in ["create+fsync", "append2", "lost", "stale", "p99", "local/one", "tree"] {
        assert!(said.contains(word), "{word} is not in:\n{said}");
    }
}

#[test]
fn two_directories_that_are_not_one_tree_are_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let output = bench(&[&format!("x={},{}", one.path().join("none").display(), two.path().display())]);
    assert_eq!(output.status.code(), Some(2));
}
