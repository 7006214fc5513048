//! A mount against a node that says what each test wants it to.

mod copies;
mod locks;
mod places;

use super::*;
use crate::limits::{SESSION_WINDOW, SESSION_WINDOW_BYTES};
use crate::meta::ops::{GetAttr, Open, ReadLayout, SliceRef, Unlink, Write, WriteAt, WriteData};
use crate::meta::{Answer, Layout, Op, Piece, PieceSource};
use crate::types::{Attr, Kind, Name, Stamp, Version};

struct Script {
    mount: MountMachine,
    now: u64,
    calls: u64,
    /// Of its newest greeting.
    nonce: u64,
    out: Vec<Output>,
}

impl Script {
    fn new() -> Script {
        let config = Config { client: "host:/mnt".into(), nonce: 7, patience: Patience::default() };
        Script { mount: MountMachine::new(config), now: 1_000_000, calls: 0, nonce: 0, out: Vec::new() }
    }

    /// A mount that has session 1.
    fn connected() -> Script {
        let mut script = Script::new();
        script.give(Input::Linked);
        script.welcome(1);
        script.out.clear();
        script
    }

    fn give(&mut self, input: Input) {
        for output in self.mount.step(self.now, input) {
            if let Output::Tell(ToNode::Hello { nonce, .. }) = &output {
                self.nonce = *nonce;
            }
            self.out.push(output);
        }
    }

    fn says(&mut self, message: ToMount) {
        self.give(Input::Node(message));
    }

    fn welcome(&mut self, session: u64) {
        self.welcome_for(self.nonce, session);
    }

    fn welcome_for(&mut self, nonce: u64, session: u64) {
        self.says(ToMount::Welcome { session: SessionId(session), nonce, last: 0, node: NodeId(1) });
    }

    fn gone(&mut self, session: u64) {
        self.says(ToMount::Gone { session: SessionId(session) });
    }

    fn wait(&mut self, us: u64) {
        self.now += us;
        self.give(Input::Tick);
    }

    fn call(&mut self, call: Call) -> CallId {
        self.calls += 1;
        let id = CallId(self.calls);
        self.give(Input::Call { id, cred: Cred { uid: 1, gid: 1, groups: None }, call });
        id
    }

    fn unlink(&mut self) -> CallId {
        let name = Name::new(b"f").unwrap();
        self.call(Call::Do(Op::Unlink(Unlink { dir: Ino::ROOT, name })))
    }

    fn told(&mut self) -> Vec<ToNode> {
        let tell = |o| if let Output::Tell(message) = o { Some(message) } else { None };
        std::mem::take(&mut self.out).into_iter().filter_map(tell).collect()
    }

    fn numbers(&mut self) -> Vec<(u64, u64)> {
        let commands = |m| if let ToNode::Commands(commands) = m { commands } else { Vec::new() };
        self.told().into_iter().flat_map(commands).map(|c| (c.number, c.acked)).collect()
    }

    fn outcomes(&mut self) -> Vec<(CallId, Result<Done, Errno>)> {
        let outcome = |o| if let Output::Respond { call, outcome, .. } = o { Some((call, outcome)) } else { None };
        std::mem::take(&mut self.out).into_iter().filter_map(outcome).collect()
    }

    fn done(&mut self, number: u64) {
        self.says(ToMount::Replies(vec![(number, Reply::Done(Answer::Done))]));
    }
}

fn attr(ino: u64) -> Attr {
    Attr {
        ino: Ino(ino),
        kind: Kind::File,
        mode: 0o644,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: 0,
        allocated: 0,
        atime: Stamp::default(),
        mtime: Stamp::default(),
        ctime: Stamp::default(),
        btime: Stamp::default(),
        version: Version(1),
        content: Version(1),
    }
}

#[test]
fn what_is_unanswered_is_sent_again_on_a_new_stream() {
    let mut s = Script::connected();
    s.unlink();
    s.unlink();
    s.unlink();
    assert_eq!(s.numbers(), [(1, 0), (2, 0), (3, 0)]);
    s.done(1);
    s.give(Input::Unlinked);
    s.out.clear();
    s.give(Input::Linked);
    assert!(matches!(s.told()[..], [ToNode::Hello { session: Some(SessionId(1)), .. }]));
    s.welcome(1);
    assert_eq!(s.numbers(), [(2, 1), (3, 1)]);
}

#[test]
fn a_reply_is_taken_once() {
    let mut s = Script::connected();
    let call = s.unlink();
    s.out.clear();
    s.done(1);
    s.done(1);
    assert_eq!(s.outcomes(), [(call, Ok(Done::Answer(Answer::Done)))]);
}

#[test]
fn silence_is_answered_by_sending_again() {
    let mut s = Script::connected();
    s.unlink();
    s.out.clear();
    s.wait(1_900_000);
    assert_eq!(s.numbers(), []);
    s.wait(200_000);
    assert_eq!(s.numbers(), [(1, 0)]);
}

#[test]
fn what_is_answered_slowly_is_not_sent_again() {
    let mut s = Script::connected();
    for _ in 0..9 {
        s.unlink();
    }
    s.out.clear();
    for number in 1..=8 {
        s.wait(1_500_000);
        s.done(number);
        assert_eq!(s.numbers(), []);
    }
    s.wait(2_100_000);
    assert_eq!(s.numbers(), [(9, 8)]);
}

/// Others are answered all the time, and it would wait for ever.
#[test]
fn a_reply_that_was_lost_is_asked_for_though_others_come() {
    let mut s = Script::connected();
    let first = s.unlink();
    for number in 2..=4 {
        s.unlink();
        s.wait(600_000);
        s.out.clear();
        s.done(number);
    }
    s.wait(600_000);
    assert_eq!(s.numbers(), [(1, 0)]);
    s.done(1);
    assert_eq!(s.outcomes(), [(first, Ok(Done::Answer(Answer::Done)))]);
}

#[test]
fn a_question_that_was_lost_is_asked_again_though_commands_are_answered() {
    let mut s = Script::connected();
    s.call(Call::Ask(Query::GetAttr(GetAttr { ino: Ino(7) })));
    let asks = |told: Vec<ToNode>| told.into_iter().filter(|m| matches!(m, ToNode::Ask { .. })).count();
    assert_eq!(asks(s.told()), 1);
    for number in 1..=3 {
        s.unlink();
        s.wait(600_000);
        s.done(number);
    }
    assert_eq!(asks(s.told()), 0);
    s.wait(300_000);
    assert_eq!(asks(s.told()), 1);
}

#[test]
fn the_window_is_one_of_bytes_too() {
    let mut s = Script::connected();
    let write = |s: &mut Script| {
        let (at, data) = (WriteAt::Offset(0), WriteData::Inline(Bytes::from(vec![7; 64 << 10])));
        s.call(Call::Do(Op::Write(Write { ino: Ino(7), at, data, kill_suid: false })))
    };
    for _ in 0..100 {
        write(&mut s);
    }
    s.unlink();
    let sent = s.numbers();
    assert_eq!(sent.len(), SESSION_WINDOW_BYTES / (64 << 10) - 1, "with what is around them");
    s.done(1);
    assert_eq!(s.numbers(), [(sent.len() as u64 + 1, 1)], "one for one, and nobody overtakes");
}

#[test]
fn many_agains_at_once_are_heeded_once() {
    let mut s = Script::connected();
    s.unlink();
    s.wait(100_000);
    s.out.clear();
    for _ in 0..5 {
        s.says(ToMount::Again);
    }
    assert_eq!(s.numbers(), [(1, 0)]);
    s.wait(60_000);
    assert_eq!(s.numbers(), [(1, 0)], "what was asked for meanwhile is not forgotten");
    s.wait(60_000);
    assert_eq!(s.numbers(), []);
}

#[test]
fn the_window_holds_back_and_lets_go_in_order() {
    let mut s = Script::connected();
    for _ in 0..SESSION_WINDOW + 2 {
        s.unlink();
    }
    assert_eq!(s.numbers().len(), SESSION_WINDOW);
    s.done(1);
    assert_eq!(s.numbers(), [(SESSION_WINDOW as u64 + 1, 1)]);
    s.done(2);
    assert_eq!(s.numbers(), [(SESSION_WINDOW as u64 + 2, 2)]);
}

#[test]
fn what_is_said_of_another_session_is_nothing_to_this_one() {
    let mut s = Script::connected();
    let command = s.unlink();
    s.gone(5);
    s.welcome_for(6, 5);
    assert_eq!(s.outcomes(), []);
    s.done(1);
    assert_eq!(s.outcomes(), [(command, Ok(Done::Answer(Answer::Done)))]);
}

/// Seed 1200094: a mount took its old session for the one it had asked for, and its node the new one.
#[test]
fn a_mount_that_was_fenced_takes_no_welcome_to_what_it_greeted_with_before() {
    let mut s = Script::connected();
    s.gone(1);
    s.welcome_for(7, 1);
    s.out.clear();
    s.unlink();
    assert_eq!(s.numbers(), [], "it has no session");
    s.welcome(2);
    assert_eq!(s.numbers(), [(1, 0)]);
}

/// The session was opened, ended, and opened again for a greeting that was sent twice.
#[test]
fn another_session_for_the_same_greeting_means_that_this_one_is_over() {
    let mut s = Script::connected();
    let command = s.unlink();
    s.out.clear();
    s.welcome_for(7, 2);
    assert!(matches!(s.out[0], Output::Fenced { lost: 1, .. }));
    assert!(s.out.iter().any(|o| matches!(o, Output::Tell(ToNode::Hello { session: None, nonce, .. }) if *nonce != 7)));
    assert_eq!(s.outcomes(), [(command, Err(Errno::EIO))]);
}

#[test]
fn a_fenced_mount_fails_what_may_have_happened_and_begins_anew() {
    let mut s = Script::connected();
    let command = s.unlink();
    let question = s.call(Call::Ask(Query::GetAttr(GetAttr { ino: Ino(5) })));
    s.out.clear();
    s.gone(1);
    assert!(matches!(s.out[0], Output::Fenced { lost: 1, .. }));
    assert!(s.out.iter().any(|o| matches!(o, Output::Tell(ToNode::Hello { session: None, nonce, .. }) if *nonce != 7)));
    assert_eq!(s.outcomes(), [(command, Err(Errno::EIO))]);
    s.welcome(2);
    let asked = s.told();
    let [ToNode::Ask { id, .. }] = asked[..] else { panic!("{asked:?}") };
    s.says(ToMount::Answer { id, reply: Reply::Done(Answer::Attr(attr(5))), facts: Vec::new() });
    assert_eq!(s.outcomes(), [(question, Ok(Done::Answer(Answer::Attr(attr(5)))))]);
    s.unlink();
    assert_eq!(s.numbers(), [(1, 0)], "numbers begin anew with the session");
}

#[test]
fn who_holds_waits_for_opens_that_began_before() {
    let mut s = Script::connected();
    s.call(Call::Open { ino: Ino(5), read: true, write: false, exec: false });
    s.out.clear();
    s.says(ToMount::WhoHolds { round: 1, inos: vec![Ino(5), Ino(6)] });
    assert_eq!(s.told(), [], "the open may still succeed");
    s.says(ToMount::Answer { id: 1, reply: Reply::Done(Answer::Attr(attr(5))), facts: Vec::new() });
    assert_eq!(s.told(), [ToNode::Holds { round: 1, inos: vec![Ino(5)] }]);
    s.call(Call::Open { ino: Ino(6), read: true, write: false, exec: false });
    s.call(Call::Release(Handle(1)));
    s.out.clear();
    s.says(ToMount::Answer { id: 2, reply: Reply::Failed(Errno::ESTALE), facts: Vec::new() });
    s.says(ToMount::WhoHolds { round: 2, inos: vec![Ino(5)] });
    assert_eq!(s.told(), [ToNode::Holds { round: 2, inos: vec![] }]);
}

#[test]
fn an_open_that_begins_later_delays_no_answer() {
    let mut s = Script::connected();
    let open = |ino| Call::Open { ino: Ino(ino), read: true, write: false, exec: false };
    s.call(open(5));
    s.says(ToMount::WhoHolds { round: 1, inos: vec![Ino(9)] });
    s.call(open(6));
    s.out.clear();
    s.says(ToMount::Answer { id: 1, reply: Reply::Failed(Errno::ENOENT), facts: Vec::new() });
    assert_eq!(s.told(), [ToNode::Holds { round: 1, inos: vec![] }]);
}

#[test]
fn groups_are_looked_up_when_the_answer_depends_on_them() {
    let mut s = Script::connected();
    let call = s.unlink();
    s.out.clear();
    s.says(ToMount::Replies(vec![(1, Reply::NeedGroups)]));
    assert!(matches!(s.out[..], [Output::Groups { call: asked }] if asked == call));
    s.out.clear();
    s.give(Input::Groups { call, groups: vec![4] });
    let told = s.told();
    let [ToNode::Commands(commands)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((commands[0].number, commands[0].acked), (2, 1));
    assert_eq!(commands[0].cred.groups, Some(vec![4]));
    s.done(2);
    assert_eq!(s.outcomes().len(), 1);
}

fn layout(slice: u64) -> Reply {
    let id = SliceId { session: SessionId(1), number: slice };
    let source = PieceSource::Slice { id, at: 0, nodes: vec![NodeId(1)] };
    Reply::Done(Answer::Layout(Layout { size: 3, content: Version(1), pieces: vec![Piece { len: 3, source }] }))
}

/// One answer ends before the range does: the file does not.
#[test]
fn a_read_of_more_pieces_than_fit_an_answer_is_of_one_moment_and_not_short() {
    let mut s = Script::connected();
    let call = s.call(Call::Read { ino: Ino(5), offset: 10, len: 100, pages: false });
    let says = |s: &mut Script, id, content, bytes: &'static [u8], asked: (u64, u32)| {
        let query = Query::ReadLayout(ReadLayout { ino: Ino(5), offset: asked.0, len: asked.1 });
        let told = s.told();
        let [ToNode::Ask { id: is, query: of, .. }] = &told[..] else { panic!("{told:?}") };
        assert_eq!((*is, of), (id, &query));
        let source = PieceSource::Inline(Bytes::from_static(bytes));
        let pieces = vec![Piece { len: bytes.len() as u64, source }];
        let reply = Reply::Done(Answer::Layout(Layout { size: 22, content: Version(content), pieces }));
        s.out.clear();
        s.says(ToMount::Answer { id, reply, facts: Vec::new() });
    };
    says(&mut s, 1, 7, b"old ", (10, 100));
    says(&mut s, 2, 8, b"bytes", (14, 96));
    assert!(!s.out.iter().any(|o| matches!(o, Output::Respond { .. })), "they are of two moments");
    says(&mut s, 3, 8, b"all ", (10, 100));
    says(&mut s, 4, 8, b"byte", (14, 96));
    says(&mut s, 5, 8, b"s in", (18, 92));
    let data = [b"all ", b"byte", b"s in"].map(|bytes| Bytes::from_static(bytes));
    assert_eq!(s.outcomes(), [(call, Ok(Done::Data(data.to_vec())))]);

    // Who writes all the time holds up nobody for ever.
    let call = s.call(Call::Read { ino: Ino(5), offset: 10, len: 100, pages: false });
    let mut id = 6;
    for moment in 0..8 {
        says(&mut s, id, 2 * moment, b"old ", (10, 100));
        says(&mut s, id + 1, 2 * moment + 1, b"new ", (14, 96));
        id += 2;
    }
    says(&mut s, id, 100, b"one ", (10, 100));
    says(&mut s, id + 1, 101, b"two ", (14, 96));
    says(&mut s, id + 2, 102, b"last", (18, 92));
    let data = [b"one ", b"two ", b"last"].map(|bytes| Bytes::from_static(bytes));
    assert_eq!(s.outcomes(), [(call, Ok(Done::Data(data.to_vec())))]);
}

/// Seed 9005887: the slice was gone, and one of the nodes that were said to have it too, so that nobody could say that.
#[test]
fn a_read_whose_slice_cannot_be_reached_asks_where_the_bytes_are_by_now() {
    let mut s = Script::connected();
    let call = s.call(Call::Read { ino: Ino(5), offset: 0, len: 3, pages: false });
    s.says(ToMount::Answer { id: 1, reply: layout(1), facts: Vec::new() });
    for id in 2..1_500 {
        s.give(Input::Got { call, outcome: Err(SliceFault::Unreachable) });
        s.out.clear();
        s.wait(300_000);
        assert!(s.told().iter().any(|m| matches!(m, ToNode::Ask { id: asked, .. } if *asked == id)), "{:?}", s.out);
        s.says(ToMount::Answer { id, reply: layout(2), facts: Vec::new() });
    }
    s.out.clear();
    s.give(Input::Got { call, outcome: Ok(vec![Bytes::from_static(b"abc")]) });
    assert_eq!(s.outcomes(), [(call, Ok(Done::Data(vec![Bytes::from_static(b"abc")])))]);
}

#[test]
fn a_read_whose_slice_was_replaced_starts_again() {
    let mut s = Script::connected();
    let call = s.call(Call::Read { ino: Ino(5), offset: 0, len: 3, pages: false });
    s.says(ToMount::Answer { id: 1, reply: layout(1), facts: Vec::new() });
    s.out.clear();
    s.give(Input::Got { call, outcome: Err(SliceFault::Missing) });
    let query = Query::ReadLayout(ReadLayout { ino: Ino(5), offset: 0, len: 3 });
    assert!(matches!(&s.told()[..], [ToNode::Ask { id: 2, query: asked, .. }] if *asked == query));
    s.says(ToMount::Answer { id: 2, reply: layout(2), facts: Vec::new() });
    s.out.clear();
    s.give(Input::Got { call, outcome: Ok(vec![Bytes::from_static(b"abc")]) });
    assert_eq!(s.outcomes(), [(call, Ok(Done::Data(vec![Bytes::from_static(b"abc")])))]);
}

#[test]
fn a_read_fails_of_a_damaged_slice_if_the_file_still_refers_to_it() {
    let mut s = Script::connected();
    let call = s.call(Call::Read { ino: Ino(5), offset: 0, len: 3, pages: false });
    s.says(ToMount::Answer { id: 1, reply: layout(1), facts: Vec::new() });
    s.give(Input::Got { call, outcome: Err(SliceFault::Damaged) });
    s.says(ToMount::Answer { id: 2, reply: layout(2), facts: Vec::new() });
    s.give(Input::Got { call, outcome: Err(SliceFault::Damaged) });
    assert_eq!(s.outcomes(), [], "each was read by a layout of which it is not known whether it was the last");
    s.says(ToMount::Answer { id: 3, reply: layout(2), facts: Vec::new() });
    s.give(Input::Got { call, outcome: Err(SliceFault::Damaged) });
    assert_eq!(s.outcomes(), [(call, Err(Errno::EIO))]);
}

#[test]
fn a_slice_that_nobody_took_is_tried_again_and_then_written() {
    let mut s = Script::connected();
    let data = Bytes::from(vec![1; 100_000]);
    let call = s.call(Call::Write { ino: Ino(5), at: WriteAt::End, data, kill_suid: false, mapped: false });
    let id = SliceId { session: SessionId(1), number: 1 };
    assert!(matches!(s.out[..], [Output::Put { id: put, .. }] if put == id));
    s.give(Input::Put { call, id, outcome: Err(SliceFault::Unreachable) });
    s.out.clear();
    s.wait(250_000);
    assert!(s.out.iter().any(|o| matches!(o, Output::Put { id: put, .. } if *put == id)));
    s.out.clear();
    s.give(Input::Put { call, id, outcome: Ok(vec![NodeId(1), NodeId(2)]) });
    let told = s.told();
    let [ToNode::Commands(commands)] = &told[..] else { panic!("{told:?}") };
    let slice = SliceRef { id, len: 100_000, nodes: vec![NodeId(1), NodeId(2)] };
    let write = Write { ino: Ino(5), at: WriteAt::End, data: WriteData::Slice(slice), kill_suid: false };
    assert_eq!(commands[0].op, Op::Write(write));
}

#[test]
fn a_stored_slice_of_a_session_that_ended_is_not_used() {
    let mut s = Script::connected();
    let data = Bytes::from(vec![1; 100_000]);
    let call = s.call(Call::Write { ino: Ino(5), at: WriteAt::End, data, kill_suid: false, mapped: false });
    let id = SliceId { session: SessionId(1), number: 1 };
    s.give(Input::Put { call, id, outcome: Ok(vec![NodeId(1)]) });
    s.out.clear();
    s.gone(1);
    assert_eq!(s.outcomes(), [(call, Err(Errno::EIO))]);
}

/// Found by reading: the outcome of the first put was taken for that of the second one.
#[test]
fn the_outcome_of_a_slice_that_was_given_up_is_not_taken_for_anothers() {
    let mut s = Script::connected();
    let data = Bytes::from(vec![1; 100_000]);
    let call = s.call(Call::Write { ino: Ino(5), at: WriteAt::End, data, kill_suid: false, mapped: false });
    let old = SliceId { session: SessionId(1), number: 1 };
    s.gone(1);
    s.welcome(2);
    let new = SliceId { session: SessionId(2), number: 2 };
    assert!(s.out.iter().any(|o| matches!(o, Output::Put { id, .. } if *id == new)), "{:?}", s.out);
    s.out.clear();
    s.give(Input::Put { call, id: old, outcome: Ok(vec![NodeId(1)]) });
    assert!(s.told().is_empty(), "a slice that nobody stored would be written");
    s.give(Input::Put { call, id: new, outcome: Ok(vec![NodeId(2)]) });
    let told = s.told();
    let [ToNode::Commands(commands)] = &told[..] else { panic!("{told:?}") };
    s.give(Input::Put { call, id: old, outcome: Err(SliceFault::Unreachable) });
    s.wait(250_000);
    assert!(
        commands.len() == 1 && !s.out.iter().any(|o| matches!(o, Output::Tell(ToNode::Commands(_)))),
        "written twice"
    );
}

#[test]
fn a_mount_without_a_node_waits_and_then_asks() {
    let mut s = Script::new();
    let open = Open { ino: Ino(5), read: true, write: false, exec: false };
    s.call(Call::Open { ino: open.ino, read: true, write: false, exec: false });
    s.unlink();
    assert_eq!(s.told(), []);
    assert!(!s.mount.is_ready());
    s.give(Input::Linked);
    s.welcome(3);
    assert!(s.mount.is_ready());
    let told = s.told();
    assert!(matches!(told[0], ToNode::Hello { session: None, nonce: 7, .. }));
    assert!(told.iter().any(|m| *m
        == ToNode::Ask {
            id: 1,
            cred: Cred { uid: 1, gid: 1, groups: None },
            query: open.clone().into(),
            keep: false
        }));
    assert!(told.iter().any(|m| matches!(m, ToNode::Commands(c) if c[0].number == 1 && c[0].session == SessionId(3))));
}

fn lock(owner: u64, wait: bool) -> Call {
    Call::Lock { ino: Ino(5), handle: None, owner, pid: 1, start: 0, end: 9, exclusive: true, wait }
}

#[test]
fn a_lock_that_is_waited_for_comes_or_the_waiting_is_ended() {
    let mut s = Script::connected();
    let (first, second) = (s.call(lock(1, true)), s.call(lock(2, true)));
    let queued = |number| (number, Reply::Done(Answer::Queued));
    s.says(ToMount::Replies(vec![queued(1), queued(2)]));
    s.out.clear();
    s.says(ToMount::LocksMoved { ino: Ino(6) });
    assert_eq!(s.told(), [], "another object");
    s.says(ToMount::LocksMoved { ino: Ino(5) });
    let asks = |told: Vec<ToNode>| {
        let id = |m| if let ToNode::Ask { id, .. } = m { Some(id) } else { None };
        told.into_iter().filter_map(id).collect::<Vec<u64>>()
    };
    let ids = asks(s.told());
    s.says(ToMount::Answer { id: ids[0], reply: Reply::Done(Answer::Done), facts: Vec::new() });
    s.says(ToMount::Answer { id: ids[1], reply: Reply::Done(Answer::Queued), facts: Vec::new() });
    assert_eq!(s.outcomes(), [(first, Ok(Done::Nothing))]);
    // A hint may get lost: it asks by itself, and the answer that is late by then is nobody's.
    s.wait(1_100_000);
    let late = asks(s.told());
    s.give(Input::Interrupt { call: second });
    assert_eq!(s.numbers(), [(3, 2)], "withdrawn");
    s.says(ToMount::Answer { id: late[0], reply: Reply::Done(Answer::Done), facts: Vec::new() });
    assert_eq!(s.outcomes(), []);
    s.says(ToMount::Replies(vec![queued(3)]));
    assert_eq!(s.outcomes(), [(second, Err(Errno::EINTR))]);
}

#[test]
fn a_lost_session_takes_its_locks_along_until_their_files_are_closed() {
    let mut s = Script::connected();
    s.call(Call::Open { ino: Ino(5), read: true, write: true, exec: false });
    let ToNode::Ask { id, .. } = s.told().remove(0) else { panic!() };
    s.says(ToMount::Answer { id, reply: Reply::Done(Answer::Attr(attr(5))), facts: Vec::new() });
    let Some((_, Ok(Done::Opened { handle, .. }))) = s.outcomes().pop() else { panic!() };
    s.call(lock(1, false));
    s.done(1);
    let waiting = s.call(lock(2, true));
    s.says(ToMount::Replies(vec![(2, Reply::Done(Answer::Queued))]));
    s.out.clear();
    s.gone(1);
    let fenced = |o: &Output| matches!(o, Output::Fenced { unlocked, .. } if *unlocked == [Ino(5)]);
    assert!(s.out.iter().any(fenced));
    assert_eq!(s.outcomes(), [(waiting, Err(Errno::EIO))]);
    s.welcome(2);
    let data = Bytes::from_static(b"late");
    let write = Call::Write { ino: Ino(5), at: WriteAt::Offset(0), data, kill_suid: false, mapped: false };
    let refused = s.call(write.clone());
    assert_eq!(s.outcomes(), [(refused, Err(Errno::EIO))]);
    s.call(Call::Release(handle));
    s.out.clear();
    s.call(write);
    assert_eq!(s.numbers(), [(1, 0)], "closed, it is a file like any other");
}

#[test]
fn the_last_close_of_a_file_ends_what_nobody_said_had_ended() {
    let mut s = Script::connected();
    s.call(Call::Open { ino: Ino(5), read: true, write: true, exec: false });
    let ToNode::Ask { id, .. } = s.told().remove(0) else { panic!() };
    s.says(ToMount::Answer { id, reply: Reply::Done(Answer::Attr(attr(5))), facts: Vec::new() });
    let Some((_, Ok(Done::Opened { handle, .. }))) = s.outcomes().pop() else { panic!() };
    s.call(lock(1, false));
    s.done(1);
    let unlock = Call::Unlock { ino: Ino(5), owner: 2, start: 0, end: u64::MAX };
    s.out.clear();
    s.call(unlock);
    assert_eq!(s.numbers(), [], "an owner that took nothing has nothing to give back");
    s.call(Call::Release(handle));
    assert_eq!(s.numbers(), [(2, 1)]);
    s.done(2);
    assert_eq!(s.outcomes(), [], "nobody waits for it");
}
