//! The shell on two mounts of one cluster: what one of them did, the other sees at once.
//!
//! Each test has a folder of its own on the one cluster of this file; `$a` and `$b` are that folder on the two mounts.

use baton_tests::harness::{Cluster, Mount, Outcome, sh, try_sh};
use std::path::PathBuf;
use std::sync::OnceLock;

struct Two {
    a: Mount,
    b: Mount,
    _cluster: Cluster,
}

fn two() -> &'static Two {
    static TWO: OnceLock<Two> = OnceLock::new();
    TWO.get_or_init(|| {
        let cluster = Cluster::start();
        let addresses: Vec<&str> = cluster.ids().into_iter().map(|id| cluster.address(id)).collect();
        // Each begins at another node.
        let (a, b) = (Mount::start(&addresses.join(",")), Mount::start(&[addresses[2], addresses[1]].join(",")));
        Two { a, b, _cluster: cluster }
    })
}

/// A folder for one test, as both mounts have it.
struct Here {
    a: PathBuf,
    b: PathBuf,
}

fn here(name: &str) -> Here {
    Here { a: two().a.folder(name), b: two().b.path(name) }
}

impl Here {
    fn lines(&self, lines: &str) -> String {
        format!("a={} b={}\n{lines}", self.a.display(), self.b.display())
    }

    fn sh(&self, lines: &str) -> String {
        sh(std::path::Path::new("/"), &self.lines(lines))
    }

    fn try_sh(&self, lines: &str) -> Outcome {
        try_sh(std::path::Path::new("/"), &self.lines(lines))
    }

    fn says(&self, lines: &str, expected: &str) {
        assert_eq!(self.sh(lines).trim_end(), expected, "{lines}");
    }
}

#[test]
fn echo_is_read_by_the_other_mount() {
    let here = here("echo");
    here.says("echo hello > $a/f; cat $b/f", "hello");
    here.says("echo bye > $b/f; cat $a/f", "bye");
    here.says("printf '' > $a/f; cat $b/f; stat -c %s $b/f", "0");
}

#[test]
fn a_hundred_turns_of_writing_and_reading_are_never_stale() {
    let here = here("turns");
    let lines =
        "for n in $(seq 50); do echo a$n > $a/f; [ $(cat $b/f) = a$n ]; echo b$n > $b/f; [ $(cat $a/f) = b$n ]; done";
    here.sh(lines);
}

#[test]
fn echo_with_two_arrows_appends_where_the_other_mount_stopped() {
    let here = here("append");
    here.says("echo one > $a/f; echo two >> $b/f; echo three >> $a/f; cat $b/f", "one\ntwo\nthree");
}

#[test]
fn mv_moves_for_both_and_replaces_what_is_there() {
    let here = here("mv");
    here.says("echo new > $a/x; echo old > $b/y; mv $b/x $b/y; ls $a; cat $a/y", "y\nnew");
    here.says("mkdir $a/d; mv $b/y $b/d/z; cat $a/d/z; ls $b", "new\nd");
    let onto_full = here.try_sh("mkdir $a/e; mv -T $b/e $b/d");
    assert!(onto_full.err.contains("not empty"), "{onto_full:?}");
}

#[test]
fn rm_removes_for_both_and_rmdir_wants_it_empty() {
    let here = here("rm");
    here.says("touch $a/f; ls $b; rm $b/f; ls $a", "f");
    assert!(here.try_sh("cat $a/f").err.contains("No such file"));
    here.sh("mkdir -p $a/d/e; touch $a/d/e/f");
    assert!(here.try_sh("rmdir $b/d").err.contains("not empty"));
    here.says("rm -r $b/d; ls $a", "");
}

#[test]
fn an_open_file_is_readable_after_the_other_mount_removed_it() {
    let here = here("orphan");
    here.says("echo kept > $a/f; exec 3< $a/f; rm $b/f; [ ! -e $a/f ]; cat <&3", "kept");
}

#[test]
fn ln_makes_a_second_name_of_one_file() {
    let here = here("ln");
    here.says("echo one > $a/x; ln $b/x $b/y; stat -c %h $a/x; echo two >> $a/y; cat $b/x", "2\none\ntwo");
    here.says("[ $(stat -c %i $a/x) = $(stat -c %i $b/y) ]; rm $a/x; stat -c %h $b/y; cat $a/y", "1\none\ntwo");
}

#[test]
fn ln_s_points_from_either_mount() {
    let here = here("symlink");
    here.says(
        "ln -s target $a/s; readlink $b/s; echo through > $b/s; cat $a/target; cat $b/s",
        "target\nthrough\nthrough",
    );
    here.says("ln -sfn elsewhere $b/s; readlink $a/s", "elsewhere");
    assert!(here.try_sh("cat $a/s").err.contains("No such file"));
    here.sh("ln -s loop $a/loop");
    assert!(here.try_sh("cat $b/loop").err.contains("Too many levels"));
}

#[test]
fn mkdir_p_makes_every_level() {
    let here = here("mkdir");
    here.says("mkdir -p $a/1/2/3/4; mkdir -p $b/1/2/3/4; cd $b; find . -type d | wc -l; stat -c %h 1", "5\n3");
    assert!(here.try_sh("mkdir $b/1").err.contains("File exists"));
}

#[test]
fn cp_r_on_one_mount_is_the_same_tree_on_the_other() {
    let here = here("cp");
    here.sh(
        "mkdir -p $a/t/sub; for n in $(seq 40); do echo $n > $a/t/sub/$n; done; head -c 300000 /dev/urandom > $a/t/big",
    );
    here.sh("ln -s sub/1 $a/t/link; cp -a $b/t $b/u; diff -r $a/t $a/u; diff -r $a/t $b/u");
    here.says("readlink $a/u/link; find $a/u | wc -l", "sub/1\n44");
}

#[test]
fn find_meets_everything_once() {
    let here = here("find");
    here.sh("cd $a; for d in $(seq 10); do mkdir $d; for f in $(seq 30); do : > $d/$f; done; done");
    here.says("cd $b; find . -type f | wc -l; find . | sort | uniq -d; find . -name 17 -path './4/*'", "300\n./4/17");
    here.sh("cd $b; find . -type f -name '*5' -delete");
    here.says("cd $a; find . -type f | wc -l; ls -d 5", "270\n5");
}

#[test]
fn a_directory_larger_than_one_answer_is_listed_whole() {
    let here = here("large");
    here.sh("cd $a; seq 2600 | xargs touch");
    here.says("ls $b | sort -n | md5sum | cut -c1-32", here.sh("seq 2600 | md5sum | cut -c1-32").trim_end());
    here.says("cd $b; seq 1300 | xargs rm; ls $a | wc -l", "1300");
}

#[test]
fn tar_packs_on_one_mount_and_unpacks_on_the_other() {
    let here = here("tar");
    here.sh("mkdir -p $a/t/deep/er; cp /etc/passwd $a/t; head -c 200000 /dev/urandom > $a/t/deep/er/random; chmod 640 $a/t/passwd");
    here.sh("ln -s passwd $a/t/s; touch -d '2001-02-03 04:05:06' $a/t/deep/er/random; tar -C $a -cf $a/t.tar t");
    here.sh("mkdir $b/u; tar -C $b/u -xpf $b/t.tar; diff -r $a/t $a/u/t");
    here.says("stat -c '%a %Y' $a/u/t/passwd $a/u/t/deep/er/random | grep -c -e '^640' -e ' 981173106$'", "2");
}

#[test]
fn chmod_is_seen_by_stat_of_the_other() {
    let here = here("chmod");
    here.says(
        "touch $a/f; chmod 4751 $a/f; stat -c %a $b/f; chmod u=rw,go= $b/f; stat -c '%a %A' $a/f",
        "4751\n600 -rw-------",
    );
    here.says("mkdir $a/d; chmod 1777 $b/d; stat -c %A $a/d", "drwxrwxrwt");
}

#[test]
fn touch_d_sets_the_times_to_the_nanosecond() {
    let here = here("touch");
    here.says(
        "touch -d '1999-12-31 23:59:59.123456789 UTC' $a/f; stat -c '%.9Y %.9X' $b/f",
        "946684799.123456789 946684799.123456789",
    );
    here.says("touch -a -d @1 $b/f; stat -c '%Y %X' $a/f", "946684799 1");
    here.says("touch -d '1932-01-01 UTC' $a/f; stat -c %Y $b/f", "-1199232000");
}

#[test]
fn dd_with_seek_leaves_a_hole_and_conv_notrunc_keeps_the_rest() {
    let here = here("dd");
    here.sh("printf end | dd of=$a/f bs=1 seek=1000000 status=none");
    here.says("stat -c %s $b/f; tail -c 3 $b/f; echo; head -c 1000000 $b/f | tr -d '\\0' | wc -c", "1000003\nend\n0");
    here.says("[ $(stat -c %b $a/f) -lt 100 ] && echo sparse", "sparse");
    here.says("printf X | dd of=$b/f bs=1 seek=5 conv=notrunc status=none; dd if=$a/f bs=1 skip=4 count=3 status=none | od -An -c | tr -s ' '", " \\0 X \\0");
    here.says(
        "truncate -s 6 $a/f; stat -c %s $b/f; truncate -s 10 $b/f; od -An -c $a/f | tr -s ' '",
        "6\n \\0 \\0 \\0 \\0 \\0 X \\0 \\0 \\0 \\0",
    );
}

#[test]
fn set_o_noclobber_lets_one_of_two_win() {
    let here = here("excl");
    let lines = "for n in $(seq 40); do (set -C; echo a > $a/$n) 2> /dev/null & (set -C; echo b > $b/$n) 2> /dev/null & done; wait";
    here.sh(lines);
    here.says("cd $a; ls | wc -l; cat * | wc -l", "40\n40");
}

#[test]
fn two_mounts_append_a_thousand_lines_each_and_none_is_lost_or_torn() {
    let here = here("appenders");
    let by = |mount: &str| {
        format!("for n in $(seq 1000); do echo {mount} $n some text that makes the line longer >> ${mount}/log; done")
    };
    here.sh(&format!("({}) & ({}) & wait", by("a"), by("b")));
    let log = std::fs::read_to_string(here.b.join("log")).unwrap();
    for mount in ["a", "b"] {
        let lines: Vec<&str> = log.lines().filter(|line| line.starts_with(mount)).collect();
        let expected: Vec<String> =
            (1..=1000).map(|n| format!("{mount} {n} some text that makes the line longer")).collect();
        assert_eq!(lines, expected, "the lines of {mount}");
    }
    assert_eq!(log.lines().count(), 2000);
}
