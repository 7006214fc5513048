//! The `baton` command, built together with the tests that start it.

fn main() -> std::process::ExitCode {
    baton::main()
}
