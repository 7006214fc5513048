//! Mounts a file system that lives in this process at a new directory, prints where, and serves it until it is unmounted:
//! for trying POSIX suites on the operations and the adapter with no cluster.

#[path = "../tests/support/mod.rs"]
mod support;

fn main() {
    let fs = support::Fs::new();
    println!("{}", fs.root().display());
    assert_eq!(fs.path(""), fs.root().join(""));
    if let Err(error) = fs.mounted.join() {
        eprintln!("{error}");
    }
}
