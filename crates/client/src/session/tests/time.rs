//! Tests of the session as time passes.

use std::time::Duration;

use crucial_object::Error;
use crucial_proto::frame::{Operation, REPEAT_LEASES};

use super::super::TICK_MS;
use super::*;

const PATIENCE: Duration = Duration::from_millis(400);

fn overdue(session: &mut Session<()>, now_ms: u64) -> Vec<(u64, String)> {
    let overdue = session.take_overdue(PATIENCE, now_ms).into_iter();
    let overdue = overdue.map(|(call, error)| (call.sequence.0, error.to_string()));
    overdue.collect()
}

#[test]
fn calls_fail_when_patience_ends_and_others_go_on() {
    let mut session = connected(2);
    call(&mut session, object(0, 1));
    call(&mut session, object(1, 1));
    disconnect(&mut session, member(2), 1000);
    assert!(session.begin_connecting(member(2)));
    session.on_connect_failed(member(2), "nobody listens".to_owned());
    assert_eq!(overdue(&mut session, 1399), []);
    let failed = overdue(&mut session, 1500);
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].0, 2);
    for part in ["server-2:1", "400ms", "nobody listens"] {
        assert!(failed[0].1.contains(part), "{}", failed[0].1);
    }
    // A call that begins later has patience of its own.
    call(&mut session, object(1, 1));
    assert_eq!(overdue(&mut session, 2000), []);
    assert_eq!(overdue(&mut session, 2400).len(), 1);
}

#[test]
fn a_call_without_a_primary_fails_when_patience_ends() {
    let mut session = connected(1);
    take(&mut session, routes(2, &[member(1)], |_| None), 0);
    call(&mut session, object(0, 1));
    assert_eq!(overdue(&mut session, 0), []);
    let failed = overdue(&mut session, 400);
    assert!(failed[0].1.contains("the cluster"), "{}", failed[0].1);
}

#[test]
fn a_call_that_is_held_at_a_connected_server_has_all_the_time() {
    let mut session = connected(1);
    call(&mut session, object(0, 1));
    let connection = session.link(member(1)).unwrap().connection;
    session.on_moved(Sequence(1), connection, 2, 0);
    for now_ms in [0, 1000, 2000] {
        assert_eq!(overdue(&mut session, now_ms), []);
    }
}

#[test]
fn signs_of_life_are_given_three_times_in_each_lease() {
    let mut session = connected(2);
    disconnect(&mut session, member(2), 0);
    assert_eq!(session.signs_due(999), []);
    assert_eq!(session.signs_due(1000), [member(1)]);
    let mut out = Vec::new();
    session.write_sign(member(1), 1000, &mut out);
    assert_eq!(operations(&heard(&out)), [Operation::Ping]);
    assert_eq!(session.signs_due(1999), []);
    // Nobody waits for the answer.
    assert!(session.on_reply(Sequence(1), 1).is_none());
}

#[test]
fn an_exactly_once_threads_session_needs_no_signs() {
    let identity = Identity {
        is_exactly_once: true,
        ..identity()
    };
    let mut session = begin(identity, even_routes(1, 1));
    connect(&mut session, member(1));
    assert_eq!(session.signs_due(1_000_000), []);
    assert!(session.next_look_ms(0) > 10_000);
}

#[test]
fn a_client_of_a_single_server_looks_around_only_when_it_must() {
    let mut session = connected(1);
    assert_eq!(session.next_look_ms(0), LEASE_MS / 3);
    session.write_sign(member(1), 1000, &mut Vec::new());
    // Somebody has to read the answer.
    assert_eq!(session.next_look_ms(1000), 1000 + TICK_MS);
    session.on_heard(member(1), 1050);
    assert_eq!(session.next_look_ms(1050), 2000);
    disconnect(&mut session, member(1), 1100);
    assert_eq!(session.next_look_ms(1100), 1100 + TICK_MS);
    assert_eq!(connected(2).next_look_ms(0), TICK_MS);
}

#[test]
fn others_are_asked_when_a_server_with_calls_is_silent_or_not_there() {
    let mut session = session(3);
    connect(&mut session, member(1));
    assert!(!session.lacks_news(1000));
    call(&mut session, object(0, 1));
    session.on_heard(member(1), 1000);
    assert!(!session.lacks_news(1249));
    assert!(session.lacks_news(1250));
    session.on_heard(member(1), 1250);
    call(&mut session, object(1, 1));
    assert!(session.begin_connecting(member(2)));
    assert!(session.lacks_news(1250));
    // All members are connected: there is no other.
    session.give_up_connecting(member(2));
    connect(&mut session, member(2));
    connect(&mut session, member(3));
    assert!(!session.lacks_news(10_000));
}

#[test]
fn seeds_are_tried_when_no_member_is_connected() {
    let mut session = connected(2);
    assert!(!session.begin_probing(10_000));
    disconnect(&mut session, member(1), 10_000);
    disconnect(&mut session, member(2), 10_100);
    assert!(!session.begin_probing(10_599));
    assert!(session.begin_probing(10_600));
    assert!(!session.begin_probing(11_099));
    assert!(session.begin_probing(11_100));
    session.end(Error::Cancelled);
    assert!(!session.begin_probing(20_000));
}

/// A server answers the last sign of life.
fn vouch(session: &mut Session<()>, member: Member, now_ms: u64) {
    let mut out = Vec::new();
    session.write_sign(member, now_ms, &mut out);
    let (sequence, _) = numbers(&heard(&out))[0];
    let connection = session.link(member).unwrap().connection;
    assert!(session.on_reply(Sequence(sequence), connection).is_none());
    session.on_sign_answered(Sequence(sequence), connection);
}

fn connect_at(session: &mut Session<()>, member: Member, now_ms: u64) -> (Vec<u64>, Vec<u64>) {
    let introduction = introduce(session, member);
    let welcome = welcome(session, member, true);
    let mut out = Vec::new();
    let connected = session.on_connected(member, &introduction, &welcome, now_ms, &mut out);
    let (_, failed) = connected.unwrap();
    assert!(failed.calls.is_empty() || failed.error == Error::SessionExpired);
    let failed = failed.calls.iter().map(|call| call.sequence.0);
    let sent = numbers(&heard(&out)).into_iter();
    (
        failed.collect(),
        sent.map(|(sequence, _)| sequence).collect(),
    )
}

const REPEAT_MS: u64 = REPEAT_LEASES * LEASE_MS;

#[test]
fn a_call_is_repeated_only_while_its_result_is_kept_for_sure() {
    for (late_ms, is_repeated) in [(REPEAT_MS, true), (REPEAT_MS + 1, false)] {
        let mut session = connected(1);
        call(&mut session, object(0, 1));
        vouch(&mut session, member(1), 5_000);
        disconnect(&mut session, member(1), 6_000);
        // One that was never sent has time.
        call(&mut session, object(0, 1));
        let (failed, sent) = connect_at(&mut session, member(1), 5_000 + late_ms);
        match is_repeated {
            true => assert_eq!((failed, sent), (vec![], vec![1, 3])),
            false => assert_eq!((failed, sent), (vec![1], vec![3])),
        }
    }
}

#[test]
fn a_call_whose_result_may_be_gone_is_sent_to_no_other_server_and_fails() {
    let mut session = connected(2);
    call(&mut session, object(0, 1));
    vouch(&mut session, member(1), 1_000);
    // The other server's word is nothing to the call.
    vouch(&mut session, member(2), 1_000 + REPEAT_MS);
    let late_ms = 1_001 + REPEAT_MS;
    let all = [member(1), member(2)];
    let (frames, _) = take(&mut session, routes(2, &all, |_| Some(2)), late_ms);
    assert_eq!(numbers(&frames[1]), []);
    let patience = Duration::from_secs(3600);
    let overdue = session.take_overdue(patience, late_ms);
    assert_eq!(overdue.len(), 1);
    assert_eq!(overdue[0].1, Error::SessionExpired);
}

#[test]
fn a_server_that_has_the_call_and_answers_signs_keeps_it_repeatable() {
    let mut session = connected(1);
    call(&mut session, object(0, 1));
    for now_ms in [REPEAT_MS, 2 * REPEAT_MS, 3 * REPEAT_MS] {
        vouch(&mut session, member(1), now_ms - 1);
        disconnect(&mut session, member(1), now_ms);
        let (failed, sent) = connect_at(&mut session, member(1), now_ms + 100);
        assert_eq!((failed, sent), (vec![], vec![1]));
        // The server is to vouch for it soon.
        assert_eq!(session.signs_due(now_ms + 100), [member(1)]);
    }
}

#[test]
fn the_calls_of_an_exactly_once_thread_are_repeated_for_as_long_as_its_run_lives() {
    let identity = Identity {
        is_exactly_once: true,
        ..identity()
    };
    let mut session = begin(identity, even_routes(1, 1));
    connect(&mut session, member(1));
    call(&mut session, object(0, 1));
    disconnect(&mut session, member(1), 0);
    let (failed, sent) = connect_at(&mut session, member(1), 100 * REPEAT_MS);
    assert_eq!((failed, sent), (vec![], vec![1]));
}
