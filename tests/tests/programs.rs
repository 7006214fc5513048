//! Programs that people use, on a mount of a cluster of three that all tests of this file share.

use baton_tests::harness::{Up, folder, program, sh_within};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(240);

/// A new folder on the first mount; the same folder on the second.
fn here(name: &str) -> (PathBuf, PathBuf) {
    static UP: OnceLock<Up> = OnceLock::new();
    let up = UP.get_or_init(|| Up::start(&folder("data"), 2));
    let (a, b) = (up.dir(0).join(name), up.dir(1).join(name));
    std::fs::create_dir(&a).unwrap();
    (a, b)
}

/// Files of 0 to some thousand bytes in folders of 25, made off the mount.
fn tree(files: usize) -> PathBuf {
    let tree = folder("tree");
    for number in 0..files {
        let dir = tree.join(format!("d{}/e{}", number / 250, number / 25));
        std::fs::create_dir_all(&dir).unwrap();
        let line = format!("file {number} of the tree\n");
        std::fs::write(dir.join(format!("f{number}")), line.repeat(number * 7 % 90)).unwrap();
    }
    tree
}

#[test]
fn git_commits_clones_checks_and_packs_two_thousand_files() {
    if program("git").is_none() {
        return;
    }
    let ((a, b), tree) = (here("git"), tree(2000));
    let git = "git -c user.name=test -c user.email=test@localhost -c init.defaultBranch=main -c gc.auto=0";
    sh_within(
        PATIENCE,
        &a,
        &format!(
            "export HOME=$PWD; mkdir one; cp -r {}/. one; cd one; {git} init -q; {git} add -A; {git} commit -qm first",
            tree.display()
        ),
    );
    // The other mount goes on where the first stopped.
    sh_within(
        PATIENCE,
        &b,
        &format!(
            "export HOME=$PWD; cd one; [ -z \"$({git} status --porcelain)\" ]; echo more >> d1/e10/f260; {git} commit -qam second"
        ),
    );
    let files = sh_within(
        PATIENCE,
        &a,
        &format!(
            "export HOME=$PWD; {git} clone -q one two; cd two; {git} fsck --strict; {git} gc -q; {git} fsck; {git} log --oneline | wc -l; {git} ls-files | wc -l"
        ),
    );
    assert_eq!(files.split_whitespace().collect::<Vec<_>>(), ["2", "2000"]);
    sh_within(PATIENCE, &b, "diff -r -x .git one two");
}

#[test]
fn sqlite_commits_two_hundred_transactions_and_finds_itself_whole() {
    if program("sqlite3").is_none() {
        return;
    }
    let (a, b) = here("sqlite");
    let mut lines = String::from("create table t (n integer primary key, text);\n");
    for n in 1..=200 {
        lines += &format!(
            "begin; insert into t values ({n}, hex(randomblob(200))); update t set text = 'x' || text where n = {n} / 2; commit;\n"
        );
    }
    std::fs::write(a.join("lines.sql"), lines).unwrap();
    let check = "sqlite3 db 'pragma integrity_check; select count(*), sum(text like \"x%\") from t'";
    assert_eq!(sh_within(PATIENCE, &a, &format!("sqlite3 db < lines.sql; {check}")), "ok\n200|100\n");
    assert_eq!(sh_within(PATIENCE, &b, check), "ok\n200|100\n");
}

#[test]
fn rsync_copies_a_tree_and_then_only_what_changed() {
    if program("rsync").is_none() {
        return;
    }
    let ((a, b), tree) = (here("rsync"), tree(600));
    let tree = tree.display();
    sh_within(PATIENCE, &a, &format!("rsync -a --checksum {tree}/ copy; diff -r {tree} copy"));
    let changed = sh_within(
        PATIENCE,
        &b,
        &format!(
            "echo more >> {tree}/d1/e10/f260; rm {tree}/d0/e0/f3; rsync -a --delete --itemize-changes {tree}/ copy; diff -r {tree} copy"
        ),
    );
    let changed: Vec<&str> =
        changed.lines().filter(|line| !line.contains(" d0/e0/\n") && !line.starts_with(".d")).collect();
    assert_eq!(changed.len(), 2, "{changed:?}");
    sh_within(PATIENCE, &b, "rsync -a --inplace --append-verify copy/ second; diff -r copy second");
}

#[test]
fn tar_of_two_and_a_half_thousand_files_comes_back_the_same() {
    if program("tar").is_none() {
        return;
    }
    let ((a, b), tree) = (here("tar"), tree(2500));
    sh_within(PATIENCE, &a, &format!("tar -C {} -cf in.tar .; mkdir in; tar -C in -xf in.tar", tree.display()));
    sh_within(
        PATIENCE,
        &b,
        &format!(
            "diff -r {} in; tar -C in -cf out.tar .; tar -df out.tar -C in; mkdir out; tar -C out -xf out.tar; diff -r in out",
            tree.display()
        ),
    );
}

#[test]
fn an_editor_saves_by_writing_beside_and_renaming_over() {
    let (a, b) = here("editor");
    let mut reader = None;
    for round in 0..40 {
        let (file, beside) = (a.join("text"), a.join(".text.swp"));
        let text = format!("round {round}\n").repeat(1 + round * 50);
        {
            use std::io::Write;
            let mut new = std::fs::File::create_new(&beside).unwrap();
            new.write_all(text.as_bytes()).unwrap();
            new.sync_all().unwrap();
        }
        std::fs::rename(&beside, &file).unwrap();
        assert_eq!(std::fs::read_to_string(b.join("text")).unwrap(), text);
        // Who had the older file open keeps reading the older file.
        let before = reader.replace((std::fs::File::open(b.join("text")).unwrap(), text));
        if let Some((old, text)) = before {
            assert_eq!(std::io::read_to_string(old).unwrap(), text);
        }
    }
    assert_eq!(std::fs::read_dir(&b).unwrap().count(), 1);
}

#[test]
fn cargo_builds_a_crate_on_the_mount() {
    if program("cargo").is_none() {
        return;
    }
    let (a, b) = here("cargo");
    let source = "fn main() { println!(\"built {}\", (1..=10).map(|n| n * n).sum::<u32>()); }";
    std::fs::create_dir_all(a.join("tiny/src")).unwrap();
    std::fs::write(
        a.join("tiny/Cargo.toml"),
        "[package]\nname = \"tiny\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
    )
    .unwrap();
    std::fs::write(a.join("tiny/src/main.rs"), source).unwrap();
    let build = "cd tiny; CARGO_TARGET_DIR=$PWD/target cargo build --offline --quiet";
    sh_within(PATIENCE, &a, build);
    // The other mount finds nothing to do, and the program runs there.
    let ran = sh_within(
        PATIENCE,
        &b,
        &format!("{build}; target/debug/tiny; find target -newer target/debug/tiny -name '*.o'"),
    );
    assert_eq!(ran, "built 385\n");
}
