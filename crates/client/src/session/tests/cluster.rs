//! Objects that go from server to server.

use std::time::Duration;

use crucial_object::Error;
use crucial_proto::frame::{Operation, Request as Heard};

use super::super::Withdrawal;
use super::super::upkeep::Due;
use super::*;

fn both() -> [Member; 2] {
    [member(1), member(2)]
}

#[test]
fn a_call_in_flight_moves_to_the_new_primary_before_new_ones() {
    let mut session = connected(2);
    call(&mut session, object(0, 1));
    call(&mut session, object(1, 1));
    call(&mut session, object(0, 2));
    let table = session.newer_table(routes(2, &both(), |_| Some(2)), "");
    let rerouted = session.take_table(table.unwrap().unwrap(), 0);
    let moved = rerouted.moved.iter();
    let moved = moved.map(|(call, to)| (call.sequence.0, *to));
    let moved: Vec<_> = moved.collect();
    assert_eq!(moved, [(1, Some(member(2))), (3, Some(member(2)))]);
    assert_eq!(heard(&rerouted.frames[0]), [Heard::Routes(2)]);
    let second = heard(&rerouted.frames[1]);
    assert_eq!(second[0], Heard::Routes(2));
    assert_eq!(numbers(&second), [(1, 1), (3, 1)]);
    let fourth = call(&mut session, object(0, 1));
    assert_eq!(numbers(&fourth.heard), [(4, 1)]);
    assert_eq!(
        session.calls.get(Sequence(4)).unwrap().member,
        Some(member(2))
    );
}

#[test]
fn a_reply_from_where_a_call_was_before_does_not_count() {
    let mut session = connected(2);
    call(&mut session, object(0, 1));
    let at_first = session.calls.get(Sequence(1)).unwrap().sent;
    take(&mut session, routes(2, &both(), |_| Some(2)), 0);
    // The first server had not executed the call, and said so. The copy at the second one is.
    assert!(session.on_reply(Sequence(1), at_first).is_none());
    reply(&mut session, 1);
    assert!(session.calls.get(Sequence(1)).is_none());
}

#[test]
fn calls_are_sent_again_before_new_ones_when_routes_were_skipped() {
    let mut session = connected(2);
    call(&mut session, object(0, 1));
    let (heard, _) = take(&mut session, even_routes(2, 2), 0);
    assert_eq!(numbers(&heard.concat()), []);
    // By routes that the client has not seen, the object can have been elsewhere.
    let (heard, _) = take(&mut session, even_routes(4, 2), 0);
    assert_eq!(heard[0][0], Heard::Routes(4));
    assert_eq!(numbers(&heard[0]), [(1, 1)]);
}

#[test]
fn older_routes_are_ignored() {
    let mut session = connected(2);
    take(&mut session, even_routes(3, 2), 0);
    for version in [2, 3] {
        let older = session.newer_table(even_routes(version, 1), "");
        assert!(older.unwrap().is_none());
    }
}

#[test]
fn requests_to_a_server_that_leaves_fail_and_calls_of_objects_go_on() {
    let mut session = connected(2);
    call(&mut session, object(1, 1));
    ask(&mut session, member(2), &Operation::Modules).unwrap();
    let (heard, failed) = take(&mut session, routes(2, &[member(1)], |_| Some(1)), 0);
    assert_eq!((numbers(&heard[0]), failed), (vec![(1, 1)], 1));
    let error = ask(&mut session, member(2), &Operation::Ping).map(drop);
    assert!(matches!(error, Err(Error::Unavailable { .. })));
}

#[test]
fn a_partition_without_a_primary_waits_for_one() {
    let mut session = connected(2);
    call(&mut session, object(0, 1));
    let nobody = |partition| (partition > 0).then_some(1);
    let (heard, _) = take(&mut session, routes(2, &both(), nobody), 0);
    assert_eq!(numbers(&heard.concat()), []);
    let second = call(&mut session, object(0, 1));
    assert!(second.heard.is_empty() && !second.connect);
    assert_eq!(numbers(&call(&mut session, object(1, 1)).heard), [(3, 1)]);
    let (heard, _) = take(&mut session, routes(3, &both(), |_| Some(2)), 0);
    // The third was at the first server.
    assert_eq!(numbers(&heard[1]), [(1, 1), (2, 1), (3, 1)]);
}

#[test]
fn a_call_that_is_withdrawn_while_it_is_nowhere_is_withdrawn_where_it_comes_to() {
    let mut session = connected(2);
    call(&mut session, object(0, 1));
    take(&mut session, routes(2, &both(), |_| None), 0);
    assert_eq!(session.withdraw(Sequence(1), None), Withdrawal::Done);
    let (heard, _) = take(&mut session, routes(3, &both(), |_| Some(2)), 0);
    assert!(matches!(heard[1].last(), Some(Heard::Cancel { .. })));
}

/// Request 1, of `object(0, 1)`, was not executed by server 1, which has routes of version `needs`.
fn moved(session: &mut Session<()>, needs: u64) {
    let connection = session.link(member(1)).unwrap().connection;
    session.on_moved(Sequence(1), connection, needs, 0);
}

fn send_due(session: &mut Session<()>, due: &Due) -> Vec<(u64, u64)> {
    let mut out = Vec::new();
    session.send_due(due, member(1), &mut out);
    session.send_due(due, member(2), &mut out);
    numbers(&heard(&out))
}

#[test]
fn a_call_that_was_moved_by_the_right_server_is_sent_again_after_a_pause() {
    let mut session = connected(2);
    call(&mut session, object(0, 1));
    moved(&mut session, 1);
    // Those of the object wait behind it, others do not.
    assert!(call(&mut session, object(0, 1)).heard.is_empty());
    assert!(!call(&mut session, object(0, 2)).heard.is_empty());
    assert!(session.due(4).is_none());
    assert_eq!(session.next_look_ms(0), 5);
    let due = session.due(5).unwrap();
    assert!(!due.lacks_routes);
    assert_eq!(send_due(&mut session, &due), [(1, 1), (2, 1)]);
    assert!(!call(&mut session, object(0, 1)).heard.is_empty());
    // The next pause is longer, until it was answered.
    moved(&mut session, 1);
    assert!(session.due(9).is_none() && session.due(10).is_some());
    let due = session.due(10).unwrap();
    send_due(&mut session, &due);
    reply(&mut session, 1);
    assert!(session.holds.is_empty());
}

#[test]
fn a_call_that_was_moved_waits_for_the_routes_that_are_on_their_way() {
    let mut session = connected(2);
    call(&mut session, object(0, 1));
    moved(&mut session, 2);
    call(&mut session, object(0, 1));
    assert!(session.due(99).is_none());
    let (heard, _) = take(&mut session, routes(2, &both(), |_| Some(1)), 0);
    assert_eq!(numbers(&heard[0]), [(1, 1), (2, 1)]);
    assert!(session.due(1000).is_none());
}

#[test]
fn routes_that_do_not_come_are_asked_for_elsewhere() {
    let mut session = connected(2);
    call(&mut session, object(0, 1));
    moved(&mut session, 2);
    let due = session.due(100).unwrap();
    assert!(due.lacks_routes);
}

#[test]
fn a_call_that_was_moved_and_cannot_be_sent_again_waits_on() {
    let mut session = connected(2);
    call(&mut session, object(0, 1));
    moved(&mut session, 1);
    disconnect(&mut session, member(1), 0);
    let due = session.due(5).unwrap();
    assert_eq!(send_due(&mut session, &due), []);
    session.postpone_due(5);
    assert!(session.due(104).is_none() && session.due(105).is_some());
    // A new connection ends the wait.
    assert_eq!(numbers(&connect(&mut session, member(1))), [(1, 1)]);
    assert!(session.due(1000).is_none());
}

#[test]
fn a_call_that_was_sent_elsewhere_meanwhile_is_not_moved_back() {
    let mut session = connected(2);
    call(&mut session, object(0, 1));
    take(&mut session, routes(2, &both(), |_| Some(2)), 0);
    moved(&mut session, 2);
    assert!(session.holds.is_empty());
}

#[test]
fn an_object_whose_calls_have_failed_is_held_no_more() {
    // Before its calls are sent again, and behind that.
    for is_sent_again in [false, true] {
        let mut session = connected(2);
        call(&mut session, object(0, 1));
        moved(&mut session, 1);
        if is_sent_again {
            let due = session.due(5).unwrap();
            send_due(&mut session, &due);
        }
        let failed = session.fail_at(member(1), Error::Cancelled);
        assert_eq!(failed.calls.len(), 1);
        assert!(session.holds.is_empty());
    }
    let mut session = connected(2);
    call(&mut session, object(0, 1));
    moved(&mut session, 1);
    disconnect(&mut session, member(1), 0);
    let patience = Duration::from_millis(400);
    session.take_overdue(patience, 0);
    assert_eq!(session.take_overdue(patience, 1000).len(), 1);
    assert!(session.holds.is_empty());
    assert!(session.due(5000).is_none());
}
