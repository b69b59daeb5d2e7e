//! Connections begin and end, and servers are told what they have to know.

use crucial_object::Error;
use crucial_proto::frame::{Fence, Operation, Request as Heard};

use super::super::Fit;
use super::*;

#[test]
fn calls_are_repeated_on_a_new_connection_with_their_numbers_and_before_new_ones() {
    let mut session = connected(1);
    call(&mut session, object(0, 1));
    call(&mut session, object(1, 1));
    disconnect(&mut session, member(1), 0);
    let third = call(&mut session, object(0, 1));
    assert!(third.heard.is_empty() && third.connect);
    let again = connect(&mut session, member(1));
    assert_eq!(numbers(&again), [(1, 1), (2, 1), (3, 1)]);
}

#[test]
fn a_server_that_began_again_is_introduced_to_anew() {
    let mut session = session(1);
    introduce(&mut session, member(1));
    let reborn = Member {
        node: 1,
        incarnation: 2,
    };
    take(&mut session, routes(2, &[reborn], |_| Some(1)), 0);
    assert!(session.introduce(member(1)).is_none());
    introduce(&mut session, reborn);
}

#[test]
fn one_thread_at_a_time_sees_to_a_connection() {
    let mut session = session(2);
    assert!(session.begin_connecting(member(1)));
    assert!(!session.begin_connecting(member(1)));
    session.give_up_connecting(member(1));
    connect(&mut session, member(1));
    assert!(!session.begin_connecting(member(1)));
    assert!(session.introduce(member(1)).is_none());
    // A second connection is of no use.
    let introduction = introduce(&mut session, member(2));
    let welcome = welcome(&session, member(1), true);
    let mut out = Vec::new();
    let second = session.on_connected(member(1), &introduction, &welcome, 0, &mut out);
    assert!(second.is_none() && out.is_empty());
}

#[test]
fn a_server_hears_what_has_changed_since_the_hello() {
    let mut session = session(2);
    let introduction = introduce(&mut session, member(1));
    assert_eq!(introduction.hello.routes, 1);
    session.set_attempt(attempt(1));
    take(&mut session, even_routes(2, 2), 0);
    let welcome = welcome(&session, member(1), true);
    let mut out = Vec::new();
    session.on_connected(member(1), &introduction, &welcome, 0, &mut out);
    let heard = heard(&out);
    assert_eq!(heard[0], Heard::Routes(2));
    assert_eq!(operations(&heard), [Operation::Begin(attempt(1))]);
    // Another hears the same in the hello.
    let introduction = introduce(&mut session, member(2));
    assert_eq!(introduction.hello.attempt, Some(attempt(1)));
    assert_eq!(introduction.hello.routes, 2);
}

#[test]
fn a_new_server_hears_from_a_runs_owner_which_attempts_are_over() {
    let owner = Identity {
        owner: true,
        ..identity()
    };
    let mut session = begin(owner, even_routes(1, 1));
    connect(&mut session, member(1));
    let over = session.record_fence(ThreadId([4; 16]), Fence::ALL);
    session.record_fence(attempt(2).thread, 2);
    let newest = session.record_fence(attempt(3).thread, 3);
    take(&mut session, even_routes(2, 2), 0);
    let introduction = introduce(&mut session, member(2));
    assert_eq!(introduction.hello.fences, 2);
    session.give_up_connecting(member(2));
    let heard = connect(&mut session, member(2));
    let fences = [Operation::Fence(over), Operation::Fence(newest)];
    assert_eq!(operations(&heard), fences);
}

#[test]
fn a_server_that_ended_the_session_fails_what_was_sent_before_and_nothing_else() {
    let mut session = connected(2);
    call(&mut session, object(0, 1));
    call(&mut session, object(1, 1));
    disconnect(&mut session, member(1), 0);
    call(&mut session, object(0, 1));
    let introduction = introduce(&mut session, member(1));
    let welcome = welcome(&session, member(1), false);
    let mut out = Vec::new();
    let connected = session.on_connected(member(1), &introduction, &welcome, 0, &mut out);
    let (_, failed) = connected.unwrap();
    let sequences: Vec<u64> = failed.calls.iter().map(|call| call.sequence.0).collect();
    assert_eq!((failed.error, sequences), (Error::SessionExpired, vec![1]));
    assert_eq!(numbers(&heard(&out)), [(3, 2)]);
}

#[test]
fn what_a_server_refuses_fails_its_calls_and_no_others() {
    let mut session = connected(2);
    call(&mut session, object(0, 1));
    call(&mut session, object(1, 1));
    let connection = session.link(member(1)).unwrap().connection;
    let refusal = Some(Error::SessionExpired);
    let failed = session.on_disconnected(member(1), connection, refusal, 0);
    let failed = failed.failed.unwrap();
    assert_eq!(failed.error, Error::SessionExpired);
    assert_eq!(failed.calls.len(), 1);
    assert_eq!(failed.calls[0].sequence, Sequence(1));
    reply(&mut session, 2);
}

#[test]
fn a_welcome_by_another_cluster_from_the_only_server_expires_the_session() {
    let mut session = connected(1);
    call(&mut session, object(0, 1));
    let mut other = welcome(&session, member(5), false);
    other.routes = Routes {
        cluster: 8,
        ..routes(1, &[member(5)], |_| Some(5))
    };
    // While that is connected, somebody else answers there.
    assert!(session.fit(Some(member(1)), &other).is_err());
    disconnect(&mut session, member(1), 0);
    // A seed does not speak for the cluster.
    assert!(session.fit(None, &other).is_err());
    assert_eq!(session.fit(Some(member(1)), &other), Ok(Fit::Another));
    let table = super::super::Table::new(other.routes.clone(), "reached:1").unwrap();
    let failed = session.take_cluster(table.into()).failed;
    assert_eq!(failed.error, Error::SessionExpired);
    assert_eq!(failed.calls.len(), 1);
    // The client goes on there.
    let second = call(&mut session, object(0, 1));
    assert!(second.connect);
    assert!(!session.is_up(member(1)));
    assert_eq!(numbers(&connect(&mut session, member(5))), [(2, 2)]);
}

#[test]
fn another_cluster_hears_before_all_requests_that_its_older_routes_are_known() {
    let mut session = connected(1);
    take(&mut session, even_routes(2, 1), 0);
    disconnect(&mut session, member(1), 0);
    let introduction = introduce(&mut session, member(1));
    assert_eq!(introduction.hello.routes, 2);
    let mut other = welcome(&session, member(5), false);
    other.routes = Routes {
        cluster: 8,
        ..routes(1, &[member(5)], |_| Some(5))
    };
    assert_eq!(session.fit(Some(member(1)), &other), Ok(Fit::Another));
    let table = super::super::Table::new(other.routes.clone(), "reached:1").unwrap();
    session.take_cluster(table.into());
    call(&mut session, object(0, 1));
    let mut out = Vec::new();
    session.on_connected(member(5), &introduction, &other, 0, &mut out);
    let heard = heard(&out);
    assert_eq!(heard[0], Heard::Routes(1));
    assert_eq!(numbers(&heard), [(1, 1)]);
}

#[test]
fn one_of_several_servers_does_not_speak_for_the_cluster() {
    let mut session = session(2);
    let mut other = welcome(&session, member(1), false);
    assert_eq!(session.fit(Some(member(1)), &other), Ok(Fit::Ours));
    other.routes.cluster = 8;
    let error = session.fit(Some(member(1)), &other).unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }));
    assert!(session.newer_table(other.routes, "").is_err());
    call(&mut session, object(0, 1));
}

#[test]
fn an_empty_address_is_where_the_client_is_connected() {
    let mut lone = even_routes(1, 1);
    lone.servers[0].address.clear();
    let session = begin(identity(), lone);
    assert_eq!(session.table().address(0), "reached:1");
}

#[test]
fn an_owner_keeps_its_session_at_all_servers_and_others_where_their_objects_are() {
    let owner = Identity {
        owner: true,
        ..identity()
    };
    let session = begin(owner, even_routes(1, 3));
    assert_eq!(session.wanted(), [member(1), member(2), member(3)]);
    let mut session = super::session(3);
    assert_eq!(session.wanted(), []);
    call(&mut session, object(1, 1));
    assert_eq!(session.wanted(), [member(2)]);
    // The object moves without a call.
    let all = [member(1), member(2), member(3)];
    take(&mut session, routes(2, &all, |_| Some(3)), 0);
    assert_eq!(session.wanted(), [member(3)]);
}
