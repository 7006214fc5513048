//! What could keep a lock for ever, or let somebody write who lost it.

use super::*;
use crate::meta::locks::{FileLock, InTheWay, LockOwner};
use crate::meta::ops::ForgetBroken;

impl Script {
    fn open(&mut self) -> Handle {
        self.call(Call::Open { ino: Ino(5), read: true, write: true, exec: false });
        let asked = |m| if let ToNode::Ask { id, .. } = m { Some(id) } else { None };
        let id = self.told().into_iter().find_map(asked).expect("a question");
        self.says(ToMount::Answer { id, reply: Reply::Done(Answer::Attr(attr(5))), facts: Vec::new() });
        match self.outcomes().pop() {
            Some((_, Ok(Done::Opened { handle, .. }))) => handle,
            other => panic!("{other:?}"),
        }
    }

    fn commands(&mut self) -> Vec<Op> {
        let commands = |m| if let ToNode::Commands(commands) = m { commands } else { Vec::new() };
        self.told().into_iter().flat_map(commands).map(|c| c.op).collect()
    }
}

#[test]
fn bytes_on_their_way_to_a_slice_are_not_written_under_a_lost_lock() {
    let mut s = Script::connected();
    s.open();
    s.call(lock(1, false));
    s.done(1);
    s.out.clear();
    let data = Bytes::from(vec![7; 1 << 20]);
    let write = s.call(Call::Write { ino: Ino(5), at: WriteAt::Offset(0), data, kill_suid: false, mapped: false });
    assert!(s.out.iter().any(|o| matches!(o, Output::Put { .. })));
    s.out.clear();
    s.gone(1);
    assert_eq!(s.outcomes(), [(write, Err(Errno::EIO))]);
    s.welcome(2);
    s.wait(1_000_000);
    assert!(!s.out.iter().any(|o| matches!(o, Output::Put { .. })));
    assert_eq!(s.commands(), []);
}

#[test]
fn who_lost_patience_before_its_place_in_the_queue_was_certain_takes_it_back() {
    let mut s = Script::connected();
    s.mount.config.patience = Patience { lasts: 3_000_000, soft: true };
    let call = s.call(lock(1, true));
    s.out.clear();
    s.wait(3_100_000);
    let told = std::mem::take(&mut s.out);
    assert!(told.iter().any(|o| matches!(o, Output::Slow(Slow { gives_up: true, .. }))));
    s.out = told;
    let cancel = |op: &Op| matches!(op, Op::CancelLock(cancel) if cancel.ticket == call.0);
    let out = s.out.clone();
    assert!(s.commands().iter().any(cancel));
    s.out = out;
    assert_eq!(s.outcomes(), [(call, Err(Errno::ETIMEDOUT))]);
}

#[test]
fn a_lock_that_came_after_another_thread_closed_the_file_ends_with_the_next_close() {
    let mut s = Script::connected();
    s.open();
    let waits = s.call(lock(1, true));
    s.says(ToMount::Replies(vec![(1, Reply::Done(Answer::Queued))]));
    s.out.clear();
    let unlock = Call::Unlock { ino: Ino(5), owner: 1, start: 0, end: u64::MAX };
    s.call(unlock.clone());
    s.done(2);
    s.out.clear();
    s.says(ToMount::LocksMoved { ino: Ino(5) });
    let asked = |m| if let ToNode::Ask { id, .. } = m { Some(id) } else { None };
    let id = s.told().into_iter().find_map(asked).unwrap();
    s.says(ToMount::Answer { id, reply: Reply::Done(Answer::Done), facts: Vec::new() });
    assert_eq!(s.outcomes(), [(waits, Ok(Done::Nothing))]);
    s.call(unlock);
    assert!(matches!(s.commands()[..], [Op::Unlock(_)]));
}

#[test]
fn hints_that_come_faster_than_answers_do_not_keep_the_answer_away() {
    let mut s = Script::connected();
    let call = s.call(lock(1, true));
    s.says(ToMount::Replies(vec![(1, Reply::Done(Answer::Queued))]));
    s.out.clear();
    for _ in 0..5 {
        s.says(ToMount::LocksMoved { ino: Ino(5) });
    }
    let asks = |told: Vec<ToNode>| {
        let id = |m| if let ToNode::Ask { id, .. } = m { Some(id) } else { None };
        told.into_iter().filter_map(id).collect::<Vec<u64>>()
    };
    let ids = asks(s.told());
    assert_eq!(ids.len(), 1, "one question at a time");
    // It may be of before the last hint: asked again.
    s.says(ToMount::Answer { id: ids[0], reply: Reply::Done(Answer::Queued), facts: Vec::new() });
    let again = asks(s.told());
    s.says(ToMount::LocksMoved { ino: Ino(5) });
    s.out.clear();
    s.says(ToMount::Answer { id: again[0], reply: Reply::Done(Answer::Done), facts: Vec::new() });
    assert_eq!(s.outcomes(), [(call, Ok(Done::Nothing))]);
}

fn write(len: usize) -> Call {
    Call::Write {
        ino: Ino(5),
        at: WriteAt::Offset(0),
        data: Bytes::from(vec![7; len]),
        kill_suid: false,
        mapped: false,
    }
}

#[test]
fn whose_locks_were_broken_writes_nothing_until_it_has_closed_the_file() {
    let mut s = Script::connected();
    let handle = s.open();
    s.call(lock(1, false));
    s.done(1);
    s.out.clear();
    s.says(ToMount::LocksBroken { ino: Ino(5) });
    assert!(matches!(s.out[..], [Output::LocksBroken { ino: Ino(5) }]), "{:?}", s.out);
    s.out.clear();
    s.says(ToMount::LocksBroken { ino: Ino(5) });
    assert!(s.out.is_empty(), "once is enough: {:?}", s.out);
    let refused = [s.call(write(9)), s.call(lock(1, false))];
    assert_eq!(s.outcomes(), refused.map(|call| (call, Err(Errno::EIO))));
    s.call(Call::Release(handle));
    // The state is told only after all that may have relied on the lock.
    assert!(matches!(s.commands()[..], [Op::Unlock(_), Op::ForgetBroken(ForgetBroken { ino: Ino(5) })]));
    s.open();
    s.call(write(9));
    assert!(matches!(s.commands()[..], [Op::Write(_)]), "it is a file like any other again");
}

#[test]
fn who_has_closed_the_file_when_it_hears_of_broken_locks_says_so_at_once() {
    let mut s = Script::connected();
    s.says(ToMount::LocksBroken { ino: Ino(5) });
    assert!(matches!(s.commands()[..], [Op::ForgetBroken(_)]));
}

#[test]
fn waiting_beside_broken_locks_ends() {
    let mut s = Script::connected();
    s.open();
    let waits = s.call(lock(1, true));
    s.says(ToMount::Replies(vec![(1, Reply::Done(Answer::Queued))]));
    let late = s.call(lock(2, true));
    s.out.clear();
    s.says(ToMount::LocksBroken { ino: Ino(5) });
    // The state knows whether its place is broken too.
    assert!(matches!(s.commands()[..], [Op::CancelLock(_)]));
    s.out.clear();
    s.says(ToMount::Replies(vec![(3, Reply::Failed(Errno::EIO))]));
    assert_eq!(s.outcomes(), [(waits, Err(Errno::EIO))]);
    // The other was on its way; that it was queued is of before.
    s.says(ToMount::Replies(vec![(2, Reply::Done(Answer::Queued))]));
    assert!(matches!(s.commands()[..], [Op::CancelLock(_)]));
    s.out.clear();
    // Old news: the lock was given out behind the break, and is the program's.
    s.says(ToMount::Replies(vec![(4, Reply::Done(Answer::Done))]));
    assert_eq!(s.outcomes(), [(late, Ok(Done::Nothing))]);
}

/// Found by the simulator (seed 500794): told first that nobody has the file open, the state forgot that the lock was broken,
/// and said of the place in the queue that it had been served.
#[test]
fn the_state_is_told_that_nobody_has_the_file_open_after_the_last_call_that_waited() {
    let mut s = Script::connected();
    let waits = s.call(lock(1, true));
    s.out.clear();
    s.says(ToMount::LocksBroken { ino: Ino(5) });
    assert!(s.commands().is_empty(), "{:?}", s.commands());
    s.says(ToMount::Replies(vec![(1, Reply::Done(Answer::Queued))]));
    assert!(matches!(s.commands()[..], [Op::CancelLock(_)]), "{:?}", s.commands());
    s.out.clear();
    s.says(ToMount::Replies(vec![(2, Reply::Failed(Errno::EIO))]));
    let out = s.out.clone();
    assert_eq!(s.outcomes(), [(waits, Err(Errno::EIO))]);
    s.out = out;
    assert!(matches!(s.commands()[..], [Op::ForgetBroken(_)]));
}

#[test]
fn a_turn_that_is_refused_is_not_taken_for_one_that_came() {
    let mut s = Script::connected();
    s.open();
    let waits = s.call(lock(1, true));
    s.says(ToMount::Replies(vec![(1, Reply::Done(Answer::Queued))]));
    s.out.clear();
    s.wait(1_000_000);
    let asked = |m| if let ToNode::Ask { id, .. } = m { Some(id) } else { None };
    let id = s.told().into_iter().find_map(asked).expect("it asks by itself");
    s.says(ToMount::Answer { id, reply: Reply::Failed(Errno::EIO), facts: Vec::new() });
    assert_eq!(s.outcomes(), [(waits, Err(Errno::EIO))]);
}

#[test]
fn of_a_write_under_way_the_state_decides_what_was_sent_and_the_rest_is_not_sent() {
    let mut s = Script::connected();
    s.open();
    let short = s.call(write(9));
    let long = s.call(write(1 << 20));
    s.out.clear();
    s.says(ToMount::LocksBroken { ino: Ino(5) });
    assert_eq!(s.outcomes(), [(long, Err(Errno::EIO))], "its bytes were on their way to a slice");
    s.says(ToMount::Replies(vec![(1, Reply::Failed(Errno::EIO))]));
    assert_eq!(s.outcomes(), [(short, Err(Errno::EIO))]);
}

#[test]
fn who_waits_long_for_a_lock_says_who_has_it() {
    let mut s = Script::connected();
    s.call(lock(1, true));
    s.says(ToMount::Replies(vec![(1, Reply::Done(Answer::Queued))]));
    s.out.clear();
    let by = LockOwner { session: SessionId(8), owner: 3 };
    let held = FileLock { by, pid: 77, start: 0, end: 9, exclusive: true };
    let slow = |s: &mut Script| {
        let slow = |o| if let Output::Slow(slow) = o { Some(slow.waits_for) } else { None };
        let out = std::mem::take(&mut s.out);
        s.out = out.clone();
        out.into_iter().find_map(slow)
    };
    let mut said = Vec::new();
    for (seconds, waits) in [(1, true), (1, false), (29, false), (1, false)] {
        s.wait(seconds * 1_000_000);
        said.extend(slow(&mut s));
        let asked = |m| if let ToNode::Ask { id, .. } = m { Some(id) } else { None };
        let Some(id) = s.told().into_iter().find_map(asked) else { continue };
        let client = "other:/mnt".into();
        let behind = Answer::Behind(InTheWay { lock: held, client, waits });
        s.says(ToMount::Answer { id, reply: Reply::Done(behind), facts: Vec::new() });
    }
    let expected = [
        "a lock that process 77 on other:/mnt waits for too, and came first",
        "a lock that process 77 on other:/mnt has held for 30 s at least",
    ];
    assert_eq!(said, expected);
    s.give(Input::Unlinked);
    s.wait(30_000_000);
    assert_eq!(slow(&mut s).as_deref(), Some("a node that can be reached"), "what it knew of the lock is old");
}
