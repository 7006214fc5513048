//! Compiles `proto/` with a compiler written in Rust: building Baton needs no `protoc`.

use std::error::Error;

const AREAS: [&str; 7] = ["types", "meta", "session", "raft", "peers", "slices", "admin"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = AREAS.map(|area| format!("baton/v1/{area}.proto"));
    let compiled = protox::compile(files, ["proto"])?;
    // `bytes(".")`: bulk data stays in the buffer it was received into.
    tonic_prost_build::configure().bytes(".").compile_fds(compiled)?;
    Ok(())
}
