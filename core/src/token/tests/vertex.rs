//! One vertex alone: what it says, keeps, refuses and forgets.

use crate::token::Mode::{Exclusive, Shared};
use crate::token::{Grant, Message, Misuse, Output, Refusal, Say, Vertex, Wanted};
use crate::types::Ino;

const UP: u8 = 0;
const LEFT: u8 = 1;
const RIGHT: u8 = 2;
const OBJECT: Ino = Ino(7);

fn root() -> Vertex<u8> {
    let mut root = Vertex::new(None);
    root.edge_added(LEFT);
    root.edge_added(RIGHT);
    root
}

fn inner() -> Vertex<u8> {
    let mut inner = Vertex::new(Some(UP));
    inner.edge_added(LEFT);
    inner.edge_added(RIGHT);
    inner
}

fn message(say: Say) -> Message {
    Message { object: OBJECT, say }
}

fn says(vertex: &mut Vertex<u8>, edge: u8, say: Say) -> Vec<Output<u8>> {
    vertex.receive(edge, message(say)).unwrap();
    vertex.outputs()
}

fn send(edge: u8, say: Say) -> Output<u8> {
    Output::Send { edge, messages: vec![message(say)] }
}

fn grant(serial: u64, stamp: u64) -> Grant {
    Grant { serial, stamp }
}

#[test]
fn what_is_here_and_idle_is_used_without_a_word() {
    let mut root = root();
    for _ in 0..3 {
        assert_eq!(root.want(OBJECT, Exclusive), Wanted::Granted { stamp: 0 });
        assert_eq!(root.want(OBJECT, Shared), Wanted::Granted { stamp: 0 });
        root.done(OBJECT, Shared).unwrap();
        root.done(OBJECT, Exclusive).unwrap();
    }
    assert_eq!((root.outputs(), root.held(OBJECT), root.records()), (vec![], Some(Exclusive), 1));
    root.revoked(OBJECT, 5).unwrap();
    assert_eq!((root.outputs(), root.records()), (vec![], 0));
}

#[test]
fn wants_for_many_objects_go_in_one_message() {
    let mut inner = inner();
    for ino in 10..110 {
        assert_eq!(inner.want(Ino(ino), Shared), Wanted::Queued);
    }
    let outputs = inner.outputs();
    let [Output::Send { edge: UP, messages }] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(messages.len(), 100);
    assert_eq!(messages[99], Message { object: Ino(109), say: Say::Want(Shared) });
    assert_eq!(inner.outputs(), vec![]);
}

#[test]
fn waiting_users_of_one_vertex_share_a_place() {
    let mut inner = inner();
    for _ in 0..3 {
        assert_eq!(inner.want(OBJECT, Shared), Wanted::Queued);
    }
    assert_eq!(inner.outputs(), vec![send(UP, Say::Want(Shared))]);
    let granted = Output::Granted { object: OBJECT, mode: Shared, stamp: 9, users: 3 };
    assert_eq!(says(&mut inner, UP, Say::Copy(grant(1, 9))), vec![granted]);
    assert_eq!(inner.revoked(OBJECT, 0), Err(Misuse::StillUsed(OBJECT)));
    for _ in 0..3 {
        inner.done(OBJECT, Shared).unwrap();
    }
    assert_eq!(inner.done(OBJECT, Shared), Err(Misuse::NotUsed(OBJECT)));
    assert_eq!(inner.revoked(OBJECT, 0), Ok(()));
}

#[test]
fn a_recall_is_answered_when_the_owner_has_let_go() {
    let mut inner = inner();
    assert_eq!(inner.want(OBJECT, Shared), Wanted::Queued);
    inner.outputs();
    says(&mut inner, UP, Say::Copy(grant(1, 9)));
    assert_eq!(says(&mut inner, UP, Say::Recall), vec![Output::Revoke { object: OBJECT, keep: None }]);
    inner.done(OBJECT, Shared).unwrap();
    assert_eq!(inner.outputs(), vec![]);
    assert_eq!(inner.want(OBJECT, Shared), Wanted::Queued, "the copy is no longer true");
    assert_eq!(inner.outputs(), vec![]);
    inner.revoked(OBJECT, 0).unwrap();
    let messages = vec![message(Say::Recalled { serial: 1 }), message(Say::Want(Shared))];
    assert_eq!(inner.outputs(), vec![Output::Send { edge: UP, messages }]);
}

#[test]
fn a_writers_last_index_travels_with_what_it_lets_go() {
    let mut root = root();
    assert_eq!(root.want(OBJECT, Exclusive), Wanted::Granted { stamp: 0 });
    let revoke = Output::Revoke { object: OBJECT, keep: Some(Shared) };
    assert_eq!(says(&mut root, LEFT, Say::Want(Shared)), vec![revoke]);
    assert_eq!(root.downgrade(OBJECT, 40), Err(Misuse::StillUsed(OBJECT)));
    root.done(OBJECT, Exclusive).unwrap();
    root.downgrade(OBJECT, 40).unwrap();
    assert_eq!(root.outputs(), vec![send(LEFT, Say::Copy(grant(1, 40)))]);
    assert_eq!(root.held(OBJECT), Some(Shared));
}

#[test]
fn numbers_go_on_though_records_come_and_go() {
    let mut root = root();
    assert_eq!(says(&mut root, LEFT, Say::Want(Exclusive)), vec![send(LEFT, Say::Token(grant(1, 0)))]);
    assert_eq!(says(&mut root, LEFT, Say::Token(grant(2, 77))), vec![]);
    assert_eq!(root.records(), 0);
    assert_eq!(says(&mut root, RIGHT, Say::Want(Shared)), vec![send(RIGHT, Say::Copy(grant(3, 77)))]);
    assert_eq!(says(&mut root, RIGHT, Say::Dropped { serial: 9 }), vec![]);
    assert_eq!(root.records(), 0);
    assert_eq!(says(&mut root, LEFT, Say::Want(Shared)), vec![send(LEFT, Say::Copy(grant(10, 77)))]);
}

#[test]
fn a_lost_holders_serials_are_passed_by() {
    let mut root = root();
    says(&mut root, LEFT, Say::Want(Exclusive));
    says(&mut root, RIGHT, Say::Want(Shared));
    root.edge_lost(LEFT, 50).unwrap();
    // It may have given a copy (2) and the token (3) that nobody heard of.
    assert_eq!(root.outputs(), vec![send(RIGHT, Say::Copy(grant(4, 50)))]);
    assert_eq!(root.receive(LEFT, message(Say::Token(grant(2, 0)))), Err(Refusal::NoSuchEdge));
    assert_eq!(root.edge_lost(LEFT, 50), Err(Refusal::NoSuchEdge));
    assert_eq!(inner().edge_lost(UP, 50), Err(Refusal::TowardsTheRoot));
}

#[test]
fn what_was_not_sent_yet_to_a_lost_edge_is_not_sent() {
    let mut root = root();
    root.receive(LEFT, message(Say::Want(Exclusive))).unwrap();
    root.edge_lost(LEFT, 3).unwrap();
    assert_eq!(root.outputs(), vec![]);
    assert_eq!(root.records(), 0);
    assert_eq!(root.want(OBJECT, Exclusive), Wanted::Granted { stamp: 3 });
}

#[test]
fn what_no_state_allows_is_refused() {
    let refused = |vertex: &mut Vertex<u8>, edge, say| vertex.receive(edge, message(say)).unwrap_err();
    let mut root = root();
    assert_eq!(refused(&mut root, 9, Say::Want(Shared)), Refusal::NoSuchEdge);
    assert_eq!(refused(&mut root, LEFT, Say::Token(grant(1, 0))), Refusal::TokenNotAsked);
    assert_eq!(refused(&mut root, LEFT, Say::Copy(grant(1, 0))), Refusal::CopyNotAsked);
    assert_eq!(refused(&mut root, LEFT, Say::Recall), Refusal::RecallOutOfPlace);
    assert_eq!(refused(&mut root, LEFT, Say::Recalled { serial: 1 }), Refusal::NotRecalled);
    assert_eq!(refused(&mut root, LEFT, Say::Dropped { serial: 1 }), Refusal::NoCopyThere);
    assert_eq!(root.records(), 0);

    let mut inner = inner();
    assert_eq!(refused(&mut inner, UP, Say::Token(grant(1, 0))), Refusal::TokenNotAsked);
    says(&mut inner, LEFT, Say::Want(Exclusive));
    assert_eq!(refused(&mut inner, LEFT, Say::Want(Exclusive)), Refusal::AskedTwice);
    assert_eq!(refused(&mut inner, LEFT, Say::Want(Shared)), Refusal::AskedTwice);
    assert_eq!(refused(&mut inner, RIGHT, Say::Token(grant(1, 0))), Refusal::TokenNotAsked);
    assert_eq!(says(&mut inner, UP, Say::Token(grant(8, 0))), vec![send(LEFT, Say::Token(grant(9, 0)))]);
    assert_eq!(refused(&mut inner, LEFT, Say::Token(grant(9, 0))), Refusal::Serial { said: 9, known: 9 });
    assert_eq!(refused(&mut inner, LEFT, Say::Token(grant(u64::MAX, 0))), Refusal::Serial { said: u64::MAX, known: 9 });
    assert_eq!(says(&mut inner, LEFT, Say::Token(grant(10, 0))), vec![]);
}

#[test]
fn tidying_lets_go_of_what_nobody_uses() {
    let mut inner = inner();
    assert_eq!(inner.want(OBJECT, Exclusive), Wanted::Queued);
    inner.outputs();
    says(&mut inner, UP, Say::Token(grant(1, 0)));
    assert!(!inner.tidy(OBJECT), "it is used");
    inner.done(OBJECT, Exclusive).unwrap();
    assert!(!inner.tidy(OBJECT), "it is held");
    inner.revoked(OBJECT, 6).unwrap();
    assert_eq!(inner.tidy_idle(), 1);
    assert_eq!(inner.outputs(), vec![send(UP, Say::Token(grant(2, 6)))]);
    assert_eq!((inner.records(), inner.tidy_idle()), (0, 0));
}

#[test]
fn upgrading_ends_the_shared_use() {
    let mut inner = inner();
    assert_eq!(inner.upgrade(OBJECT), Err(Misuse::NotUsed(OBJECT)));
    assert_eq!(inner.want(OBJECT, Shared), Wanted::Queued);
    inner.outputs();
    says(&mut inner, UP, Say::Copy(grant(1, 0)));
    assert_eq!(inner.upgrade(OBJECT), Ok(Wanted::Queued));
    assert_eq!(inner.outputs(), vec![send(UP, Say::Want(Exclusive))]);
    let granted = Output::Granted { object: OBJECT, mode: Exclusive, stamp: 4, users: 1 };
    assert_eq!(says(&mut inner, UP, Say::Token(grant(2, 4))), vec![granted]);
    inner.done(OBJECT, Exclusive).unwrap();
    assert_eq!(inner.done(OBJECT, Shared), Err(Misuse::NotUsed(OBJECT)));
}
