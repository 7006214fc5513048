//! Conversations about a directory that the kernel has in one place while it is in another one.

use super::copies::name;
use super::*;
use crate::meta::ops::{Lookup, LookupName, Mkdir, Rename, RenameHow};
use crate::types::Object;

const X: Ino = Ino(2);
const Y: Ino = Ino(3);

fn directory() -> Attr {
    Attr { kind: Kind::Directory, ..attr(7) }
}

fn look(dir: Ino) -> Call {
    Call::Ask(Lookup { dir, name: LookupName::Name(name("a")) }.into())
}

fn made(dir: Ino) -> Call {
    Call::Do(Mkdir { dir, name: name("b"), mode: 0o755 }.into())
}

impl Script {
    /// Looks `a` up in a directory, and has the node answer that it is directory 7.
    fn finds(&mut self, dir: Ino) -> CallId {
        let call = self.call(look(dir));
        let asked = self.told().into_iter().find_map(|m| if let ToNode::Ask { id, .. } = m { Some(id) } else { None });
        let reply = Reply::Done(Answer::Attr(directory()));
        self.says(ToMount::Answer { id: asked.expect("a question"), reply, facts: Vec::new() });
        call
    }

    /// A mount whose kernel was told that directory 7 is `x/a`.
    fn with_x_a() -> Script {
        let mut s = Script::connected();
        let call = s.finds(X);
        assert_eq!((s.forgets(), s.answered()), (vec![], vec![call]));
        s
    }

    fn answered(&mut self) -> Vec<CallId> {
        self.outcomes().into_iter().map(|(call, _)| call).collect()
    }
}

fn x_a() -> Object {
    Object::Entry(X, name("a"))
}

#[test]
fn the_kernel_forgets_where_a_directory_was_before_it_hears_where_it_is() {
    let mut s = Script::with_x_a();
    let call = s.finds(Y);
    assert_eq!((s.forgets(), s.answered()), (vec![Forget::Name(X, name("a"))], vec![]));
    s.forgot(x_a(), true);
    assert_eq!(s.outcomes(), [(call, Ok(Done::Answer(Answer::Attr(directory()))))]);
    // From then on it is there.
    let again = s.finds(Y);
    assert_eq!((s.forgets(), s.answered()), (vec![], vec![again]));
}

#[test]
fn an_answer_waits_for_a_kernel_that_is_busy_only_so_long() {
    let mut s = Script::with_x_a();
    let call = s.finds(Y);
    s.out.clear();
    s.wait(150_000);
    assert_eq!(s.answered(), []);
    assert!(s.mount.is_waiting_for_kernel());
    s.wait(60_000);
    assert_eq!(s.answered(), [call]);
    assert!(!s.mount.is_waiting_for_kernel());
    // What the kernel does in the end is nothing to anybody.
    s.forgot(x_a(), true);
    assert_eq!(s.answered(), []);
}

#[test]
fn the_kernel_is_told_when_nothing_is_under_way_in_the_old_parent() {
    let mut s = Script::with_x_a();
    let busy = s.call(made(X));
    let call = s.finds(Y);
    assert_eq!((s.forgets(), s.answered()), (vec![], vec![]));
    s.done(1);
    assert_eq!((s.forgets(), s.answered()), (vec![Forget::Name(X, name("a"))], vec![busy]));
    s.forgot(x_a(), true);
    assert_eq!(s.answered(), [call]);
}

#[test]
fn within_one_directory_nobody_waits() {
    let mut s = Script::connected();
    s.call(made(X));
    s.says(ToMount::Replies(vec![(1, Reply::Done(Answer::Attr(directory())))]));
    s.out.clear();
    let call = s.finds(X);
    assert_eq!((s.forgets(), s.answered()), (vec![], vec![call]));
}

#[test]
fn what_this_mount_moved_the_kernel_moved_itself() {
    let mut s = Script::with_x_a();
    let how = RenameHow::Replace;
    s.call(Call::Do(Rename { dir: X, name: name("a"), new_dir: Y, new_name: name("a"), how }.into()));
    s.done(1);
    s.out.clear();
    let call = s.finds(Y);
    assert_eq!((s.forgets(), s.answered()), (vec![], vec![call]));
}
