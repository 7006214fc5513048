//! Conversations between a mount, its node and its kernel about copies.

use super::*;
use crate::meta::ops::{Lookup, LookupName, Rename, RenameHow};
use crate::meta::{Entry, Fact, Inode, Key, Query, Record, Value};
use crate::types::{Cookie, Object, Version};

const WHOLE: Object = Object::Whole(Ino(5));

fn inode(kind: Kind, mode: u16) -> Inode {
    let now = Stamp::default();
    Inode {
        kind,
        mode,
        uid: 0,
        gid: 0,
        nlink: 1,
        rdev: 0,
        size: 0,
        allocated: 0,
        atime: now,
        mtime: now,
        ctime: now,
        btime: now,
        version: Version(1),
        content: Version(1),
        parent: Ino::ROOT,
        next_cookie: Cookie(1),
        target: Bytes::new(),
        xattr_names: 0,
    }
}

fn fact(object: Object, key: Key, value: Option<Value>) -> Fact {
    Fact { object, record: Record::Value(key, value) }
}

fn of_file() -> Vec<Fact> {
    vec![fact(WHOLE, Key::Inode(Ino(5)), Some(Value::Inode(inode(Kind::File, 0o644))))]
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

/// That the root may be searched by these, and that `text` there is the file.
fn of_name(text: &str, mode: u16) -> Vec<Fact> {
    let entry = Entry { ino: Ino(5), kind: Kind::File, cookie: Cookie(3) };
    let root = Value::Inode(inode(Kind::Directory, mode));
    let mut facts = vec![
        fact(Object::Rights(Ino::ROOT), Key::Inode(Ino::ROOT), Some(root)),
        fact(Object::Entry(Ino::ROOT, name(text)), Key::Entry(Ino::ROOT, name(text)), Some(Value::Entry(entry))),
    ];
    facts.extend(of_file());
    facts
}

fn stat() -> Query {
    GetAttr { ino: Ino(5) }.into()
}

fn lookup(text: &str) -> Query {
    Lookup { dir: Ino::ROOT, name: LookupName::Name(name(text)) }.into()
}

impl Script {
    /// A mount whose lease lasts for 0.54 s from now, and that was asked this twice already.
    fn leased(query: &Query) -> Script {
        let mut s = Script::connected();
        for id in 1..=2 {
            s.call(Call::Ask(query.clone()));
            s.says(ToMount::Answer { id, reply: Reply::Done(Answer::Attr(attr(5))), facts: Vec::new() });
        }
        s.says(ToMount::Lease { sent: s.now, lasts: 600_000 });
        s.out.clear();
        s
    }

    /// Asks, and has the node answer with copies.
    fn learn(&mut self, query: &Query, facts: Vec<Fact>) -> Valid {
        self.call(Call::Ask(query.clone()));
        let asked = self.told().into_iter().find_map(|m| match m {
            ToNode::Ask { id, keep, .. } => Some((id, keep)),
            _ => None,
        });
        let (id, keep) = asked.expect("a question");
        assert!(keep, "asked often");
        self.says(ToMount::Answer { id, reply: Reply::Done(Answer::Attr(attr(5))), facts });
        self.valid().expect("an answer")
    }

    fn valid(&mut self) -> Option<Valid> {
        let valid = |o| if let Output::Respond { valid, .. } = o { Some(valid) } else { None };
        std::mem::take(&mut self.out).into_iter().find_map(valid)
    }

    /// Whether this is answered without a word to the node.
    fn knows(&mut self, query: &Query) -> bool {
        self.call(Call::Ask(query.clone()));
        let out = std::mem::take(&mut self.out);
        out.iter().any(|o| matches!(o, Output::Respond { .. }))
    }

    pub(super) fn forgets(&mut self) -> Vec<Forget> {
        let forget = |o: &Output| if let Output::Forget(what) = o { Some(what.clone()) } else { None };
        self.out.iter().filter_map(forget).collect()
    }

    pub(super) fn forgot(&mut self, object: Object, knew: bool) {
        self.give(Input::Forgot { object, knew });
    }
}

#[test]
fn what_is_known_is_answered_until_the_lease_is_over() {
    let mut s = Script::leased(&stat());
    let valid = s.learn(&stat(), of_file());
    assert!(
        valid.attr > s.now && valid.attr < s.now + 540_000,
        "a tenth less than the leader said, and the kernel's ticks"
    );
    assert!(s.knows(&stat()));
    s.wait(545_000);
    assert!(s.told().contains(&ToNode::Empty));
    assert!(!s.knows(&stat()));
}

#[test]
fn a_recall_is_answered_when_the_kernel_has_forgotten() {
    let mut s = Script::leased(&stat());
    s.learn(&stat(), of_file());
    s.says(ToMount::Recall(vec![WHOLE]));
    assert_eq!(s.forgets(), [Forget::Attr(Ino(5))]);
    assert_eq!(s.told(), [], "the kernel still knows");
    s.forgot(WHOLE, true);
    assert_eq!(s.told(), [ToNode::Returned(vec![WHOLE])]);
    assert!(!s.knows(&stat()));
}

#[test]
fn what_the_kernel_never_knew_goes_back_at_once() {
    let mut s = Script::leased(&stat());
    s.call(Call::Open { ino: Ino(5), read: true, write: true, exec: false });
    s.out.clear();
    s.says(ToMount::Recall(vec![WHOLE]));
    assert_eq!((s.forgets(), s.told()), (vec![], vec![ToNode::Returned(vec![WHOLE])]));
}

#[test]
fn a_name_goes_back_when_its_time_is_over_though_the_kernel_is_busy() {
    let mut s = Script::leased(&lookup("f"));
    let valid = s.learn(&lookup("f"), of_name("f", 0o755));
    assert!(valid.entry > s.now && valid.entry <= s.now + 100_000, "a name's time is short at first");
    let entry = Object::Entry(Ino::ROOT, name("f"));
    s.says(ToMount::Recall(vec![entry.clone()]));
    assert_eq!(s.forgets(), [Forget::Name(Ino::ROOT, name("f"))]);
    s.out.clear();
    s.wait(50_000);
    assert_eq!(s.told(), []);
    s.wait(80_000);
    assert!(s.told().contains(&ToNode::Returned(vec![entry])));
}

#[test]
fn the_kernel_keeps_no_name_that_not_everybody_may_walk_through() {
    let mut s = Script::leased(&lookup("f"));
    assert_eq!(s.learn(&lookup("f"), of_name("f", 0o750)), Valid::default());
}

#[test]
fn who_may_search_goes_back_when_the_names_times_are_over() {
    let mut s = Script::leased(&lookup("f"));
    s.learn(&lookup("f"), of_name("f", 0o755));
    let rights = Object::Rights(Ino::ROOT);
    s.says(ToMount::Recall(vec![rights.clone()]));
    assert_eq!((s.forgets(), s.told()), (vec![], vec![]));
    s.wait(130_000);
    assert!(s.told().contains(&ToNode::Returned(vec![rights])));
}

#[test]
fn attributes_that_came_with_a_name_are_waited_for_if_the_kernel_did_not_know_the_object() {
    for knew in [true, false] {
        let mut s = Script::leased(&lookup("f"));
        let valid = s.learn(&lookup("f"), of_name("f", 0o755));
        assert!(valid.attr > s.now && valid.attr <= s.now + 100_000);
        s.says(ToMount::Recall(vec![WHOLE]));
        s.out.clear();
        s.forgot(WHOLE, knew);
        assert_eq!(s.told().contains(&ToNode::Returned(vec![WHOLE])), knew);
        s.wait(130_000);
        assert_eq!(s.told().contains(&ToNode::Returned(vec![WHOLE])), !knew);
    }
}

#[test]
fn pages_that_come_in_while_the_kernel_forgets_are_forgotten_again() {
    let mut s = Script::leased(&stat());
    s.learn(&stat(), of_file());
    s.call(Call::Open { ino: Ino(5), read: true, write: false, exec: false });
    let opened = s.out.iter().find_map(|o| match o {
        Output::Respond { outcome: Ok(Done::Opened { .. }), valid, .. } => Some(valid.pages),
        _ => None,
    });
    assert_eq!(opened, Some(Pages::Fresh), "opened from what is known");
    s.says(ToMount::Recall(vec![WHOLE]));
    assert_eq!(s.forgets(), [Forget::All(Ino(5))]);
    s.out.clear();
    s.call(Call::Read { ino: Ino(5), offset: 0, len: 3, pages: true });
    let layout = Layout { size: 0, content: Version(1), pieces: Vec::new() };
    let id = s.told().into_iter().find_map(|m| if let ToNode::Ask { id, .. } = m { Some(id) } else { None }).unwrap();
    s.says(ToMount::Answer { id, reply: Reply::Done(Answer::Layout(layout)), facts: Vec::new() });
    s.out.clear();
    s.forgot(WHOLE, true);
    assert_eq!((s.forgets(), s.told()), (vec![Forget::All(Ino(5))], vec![]));
    s.forgot(WHOLE, true);
    assert_eq!(s.told(), [ToNode::Returned(vec![WHOLE])]);
}

#[test]
fn after_a_rename_the_new_name_is_the_kernels_for_as_long_as_the_old_one_was() {
    let mut s = Script::leased(&lookup("f"));
    s.learn(&lookup("f"), of_name("f", 0o755));
    let op =
        Rename { dir: Ino::ROOT, name: name("f"), new_dir: Ino::ROOT, new_name: name("g"), how: RenameHow::Replace };
    s.call(Call::Do(op.into()));
    s.out.clear();
    s.done(1);
    s.out.clear();
    s.says(ToMount::Recall(vec![Object::Entry(Ino::ROOT, name("g"))]));
    assert_eq!(s.forgets(), [Forget::Name(Ino::ROOT, name("g"))]);
}

/// Seed 9011296: the name went back before the reply to the own rename was there, and with the reply the mount took it for its
/// own again, which the node did not know.
#[test]
fn a_name_that_is_asked_back_before_the_own_renames_reply_goes_back_behind_it() {
    let mut s = Script::leased(&lookup("f"));
    s.learn(&lookup("f"), of_name("f", 0o755));
    let new = Object::Entry(Ino::ROOT, name("g"));
    let op =
        Rename { dir: Ino::ROOT, name: name("f"), new_dir: Ino::ROOT, new_name: name("g"), how: RenameHow::Replace };
    s.call(Call::Do(op.into()));
    s.out.clear();
    s.says(ToMount::Recall(vec![new.clone()]));
    assert_eq!((s.forgets(), s.told()), (vec![], vec![]), "the kernel holds the directory and will know the name");
    s.done(1);
    s.give(Input::Tick);
    assert_eq!(s.forgets(), [Forget::Name(Ino::ROOT, name("g"))]);
    s.out.clear();
    s.forgot(new.clone(), true);
    assert_eq!(s.told(), [ToNode::Returned(vec![new])]);
    for _ in 0..2 {
        s.out.clear();
        s.call(Call::Ask(lookup("g")));
        let ToNode::Ask { id, .. } = s.told().remove(0) else { panic!() };
        s.says(ToMount::Answer { id, reply: Reply::Done(Answer::Attr(attr(5))), facts: Vec::new() });
    }
    assert_eq!(s.learn(&lookup("g"), of_file()).entry, 0, "no copy of the name came");
}

#[test]
fn facts_asked_for_before_copies_were_given_back_are_not_believed() {
    let mut s = Script::leased(&stat());
    s.learn(&stat(), of_file());
    s.wait(200_000);
    s.says(ToMount::Lease { sent: s.now, lasts: 600_000 });
    s.out.clear();
    // Another question about it is under way when an own change gives the copy back.
    s.call(Call::Ask(lookup("f")));
    s.call(Call::Ask(lookup("f")));
    s.call(Call::Ask(lookup("f")));
    let asked = s.told().into_iter().filter_map(|m| if let ToNode::Ask { id, .. } = m { Some(id) } else { None }).max();
    s.says(ToMount::Recall(vec![WHOLE]));
    s.forgot(WHOLE, true);
    s.out.clear();
    s.says(ToMount::Lease { sent: s.now, lasts: 600_000 });
    s.give(Input::Unlinked);
    s.give(Input::Linked);
    s.welcome(1);
    s.says(ToMount::Lease { sent: s.now, lasts: 600_000 });
    let reply = Reply::Done(Answer::Attr(attr(5)));
    s.says(ToMount::Answer { id: asked.unwrap(), reply, facts: of_name("f", 0o755) });
    s.out.clear();
    assert!(!s.knows(&lookup("f")), "they are of another stream");
}

/// A mount that has a copy of the file, of which its kernel read a page through a file that was not opened to be cached.
fn with_a_page() -> Script {
    let mut s = Script::leased(&stat());
    s.learn(&stat(), of_file());
    s.reads_a_page();
    s
}

impl Script {
    fn reads_a_page(&mut self) {
        self.call(Call::Read { ino: Ino(5), offset: 0, len: 3, pages: true });
        let asked = self.told().into_iter().find_map(|m| if let ToNode::Ask { id, .. } = m { Some(id) } else { None });
        let reply = Reply::Done(Answer::Layout(Layout { size: 0, content: Version(1), pieces: Vec::new() }));
        self.says(ToMount::Answer { id: asked.expect("a question"), reply, facts: Vec::new() });
    }
}

#[test]
fn pages_are_forgotten_however_the_file_was_opened() {
    let mut s = with_a_page();
    assert_eq!(s.forgets(), [], "there is a copy");
    s.out.clear();
    s.says(ToMount::Recall(vec![WHOLE]));
    assert_eq!((s.forgets(), s.told()), (vec![Forget::All(Ino(5))], vec![]));
    s.forgot(WHOLE, true);
    s.out.clear();
    // Without a copy they do not stay.
    s.reads_a_page();
    assert_eq!(s.forgets(), [Forget::Range { ino: Ino(5), offset: 0, len: 3 }]);
}

#[test]
fn a_file_that_is_opened_after_pages_came_in_shows_none_of_them() {
    let mut s = with_a_page();
    s.out.clear();
    s.call(Call::Open { ino: Ino(5), read: true, write: false, exec: false });
    assert_eq!(s.valid().map(|valid| valid.pages), Some(Pages::Fresh), "some may be from before the copy");
    s.call(Call::Open { ino: Ino(5), read: true, write: false, exec: false });
    assert_eq!(s.valid().map(|valid| valid.pages), Some(Pages::Known));
}

#[test]
fn the_kernel_is_not_told_to_forget_pages_that_it_is_writing() {
    let mut s = with_a_page();
    s.out.clear();
    let data = Bytes::from_static(b"x");
    s.call(Call::Write { ino: Ino(5), at: WriteAt::Offset(0), data, kill_suid: false, mapped: true });
    s.out.clear();
    s.says(ToMount::Recall(vec![WHOLE]));
    assert_eq!(s.forgets(), [Forget::Attr(Ino(5))], "it would wait for the write, and that for it");
    s.forgot(WHOLE, true);
    s.out.clear();
    s.done(1);
    s.out.clear();
    s.reads_a_page();
    assert_eq!(s.forgets(), [], "there may be more to be written");
}
