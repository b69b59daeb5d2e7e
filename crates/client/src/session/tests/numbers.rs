//! Numbers and acknowledgements.

use crucial_object::Error;
use crucial_proto::frame::{Operation, Request as Heard};

use super::super::Withdrawal;
use super::super::calls::OUT_OF_BAND;
use super::*;

#[test]
fn calls_are_numbered_over_all_servers_and_go_to_the_primaries() {
    let mut session = connected(2);
    for sequence in 1..=4 {
        let object = object(sequence as usize % PARTITIONS, 1);
        let call = call(&mut session, object);
        assert_eq!(numbers(&call.heard), [(sequence, 1)]);
        let place = session.table().place_of_object(&object);
        assert_eq!(place, Some(sequence as usize % 2));
    }
}

#[test]
fn acknowledgements_never_pass_an_unanswered_call() {
    let mut session = connected(1);
    for _ in 0..3 {
        call(&mut session, object(0, 1));
    }
    reply(&mut session, 3);
    assert_eq!(numbers(&call(&mut session, object(0, 1)).heard), [(4, 1)]);
    reply(&mut session, 1);
    assert_eq!(numbers(&call(&mut session, object(0, 1)).heard), [(5, 2)]);
    // Nor what a sign of life acknowledges, nor what is sent again.
    let mut out = Vec::new();
    session.write_sign(member(1), 0, &mut out);
    assert_eq!(numbers(&heard(&out)), [(6, 2)]);
    disconnect(&mut session, member(1), 0);
    let again = connect(&mut session, member(1));
    assert_eq!(numbers(&again), [(2, 2), (4, 2), (5, 2)]);
    for sequence in [2, 4, 5] {
        reply(&mut session, sequence);
    }
    assert_eq!(numbers(&call(&mut session, object(0, 1)).heard), [(7, 7)]);
}

#[test]
fn an_answer_that_comes_twice_is_one() {
    let mut session = connected(1);
    call(&mut session, object(0, 1));
    reply(&mut session, 1);
    assert!(session.on_reply(Sequence(1), 1).is_none());
}

#[test]
fn servers_are_told_now_and_then_what_one_long_wait_holds_up() {
    let mut session = connected(2);
    let mut reports = Vec::new();
    let mut call = |of: &mut Session<()>| {
        let place = of.table().place_of_object(&object(0, 1));
        let request = request(Target::Object(object(0, 1)), call_frame(object(0, 1)));
        let submitted = of.submit(place, request).unwrap();
        reports.extend(submitted.report);
        submitted.call.sequence.0
    };
    let first = call(&mut session);
    for _ in 0..3000 {
        let sequence = call(&mut session);
        reply(&mut session, sequence);
    }
    assert_eq!(reports.len(), 2);
    for report in reports {
        assert_eq!(report.waiting, [Sequence(first), report.last]);
    }
}

fn exactly_once(count: u64) -> Session<()> {
    let identity = Identity {
        is_exactly_once: true,
        ..identity()
    };
    let mut session = begin(identity, even_routes(1, count));
    for node in 1..=count {
        connect(&mut session, member(node));
    }
    session
}

#[test]
fn an_exactly_once_threads_calls_are_numbered_by_position_and_not_acknowledged() {
    let mut session = exactly_once(2);
    assert_eq!(numbers(&call(&mut session, object(0, 1)).heard), [(1, 1)]);
    reply(&mut session, 1);
    let modules = ask(&mut session, member(2), &Operation::Modules).unwrap();
    assert!(modules.sequence > OUT_OF_BAND);
    assert_eq!(numbers(&modules.heard), [(modules.sequence, 1)]);
    // A call that is too long has its position all the same, and so has one that stands for requests to all servers.
    let long = vec![0; 20_000];
    let refused = submit(&mut session, Target::Object(object(0, 1)), long).map(drop);
    assert!(matches!(refused, Err(Error::LimitExceeded { .. })));
    session.skip_call();
    assert_eq!(numbers(&call(&mut session, object(1, 1)).heard), [(4, 1)]);
}

#[test]
fn a_request_to_the_only_server_can_be_one_of_an_exactly_once_threads_calls() {
    let mut session = exactly_once(1);
    let target = Target::Member(member(1));
    let mut frame = Vec::new();
    let clear = Operation::ClearNamespace;
    frame::write_operation(Sequence(0), Sequence(0), &clear, &mut frame).unwrap();
    let request = Request {
        is_in_band: true,
        ..request(target, frame)
    };
    let submitted = session.submit(Some(0), request).unwrap();
    assert_eq!(submitted.call.sequence, Sequence(1));
}

#[test]
fn a_request_that_is_too_long_is_refused_and_takes_no_number() {
    let mut session = connected(1);
    let refused = submit(&mut session, Target::Object(object(0, 1)), vec![0; 20_000]);
    let text = refused.map(drop).unwrap_err().to_string();
    assert!(text.contains("frame_bytes_max"), "{text}");
    assert_eq!(call(&mut session, object(0, 1)).sequence, 1);
}

#[test]
fn a_call_is_withdrawn_where_it_is() {
    let mut session = connected(2);
    let object = object(0, 1);
    call(&mut session, object);
    let (first, second) = (Some(member(1)), Some(member(2)));
    let withdrawn = session.withdraw(Sequence(1), second);
    assert_eq!(withdrawn, Withdrawal::Elsewhere(first));
    assert_eq!(session.withdraw(Sequence(1), first), Withdrawal::Write);
    // The withdrawal goes along wherever the call is sent.
    disconnect(&mut session, member(1), 0);
    assert_eq!(session.withdraw(Sequence(1), first), Withdrawal::Done);
    let again = connect(&mut session, member(1));
    let cancel = Heard::Cancel {
        sequence: Sequence(1),
        object,
    };
    assert_eq!(again.last(), Some(&cancel));
    reply(&mut session, 1);
    assert_eq!(session.withdraw(Sequence(1), first), Withdrawal::Done);
}

#[test]
fn a_session_that_has_ended_makes_no_calls() {
    let mut session = connected(1);
    call(&mut session, object(0, 1));
    session.end(Error::Fenced);
    session.end(Error::Cancelled);
    let refused = submit(&mut session, Target::Object(object(0, 1)), Vec::new());
    assert_eq!(refused.map(drop), Err(Error::Fenced));
    assert!(!session.begin_connecting(member(1)));
    let connection = session.link(member(1)).unwrap().connection;
    let disconnected = session.on_disconnected(member(1), connection, None, 0);
    assert!(!disconnected.reconnect);
    let failed = disconnected.failed.unwrap();
    assert_eq!((failed.calls.len(), failed.error), (1, Error::Fenced));
}
