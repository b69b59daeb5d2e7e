//! Sessions that end, and runs, without objects.

use crucial_object::{Error, ObjectId, Sequence, SessionId, ThreadId, encode};
use crucial_proto::frame::{
    Attempt, Fence, Inspect, OpenMode, OpenRequest, Operation, RESULTS_KEPT_LEASES, Response,
};

use super::server::{Server, hello};
use crate::Input;
use crate::cell::CallId;
use crate::hash::HashSeed;
use crate::replication::{Grant, ViewVersion};
use crate::session::{Fenced, Sessions, WaitingCall};

const LEASE_MS: u64 = 1000;

#[test]
fn an_object_that_comes_while_its_session_ends_is_told_of_the_end() {
    let (session, object) = (SessionId(1), ObjectId([7; 16]));
    for is_known in [true, false] {
        let sessions = Sessions::new(HashSeed(1));
        sessions.hello(&hello(1), 0).unwrap();
        sessions.end(session, None, (is_known, 0)).unwrap();
        sessions.expect(session, (Some(object), None), 0);
        sessions.on_ended(session, is_known, 0);
        assert_eq!(sessions.absent(LEASE_MS, LEASE_MS), []);
        let absent = sessions.absent(LEASE_MS + 1, LEASE_MS);
        assert_eq!(absent, [(session, vec![object])]);
        sessions.on_ended(session, false, LEASE_MS + 1);
        assert_eq!(sessions.absent(10 * LEASE_MS, LEASE_MS), []);
    }
}

fn thread(number: u32) -> ThreadId {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.to_le_bytes());
    ThreadId(id)
}

#[test]
fn a_run_remembers_a_bounded_number_of_threads_that_are_over() {
    let sessions = Sessions::new(HashSeed(1));
    let owner = sessions.hello(&hello(1), 0).unwrap().session;
    let fence = |number| Fence {
        thread: thread(number),
        before: Fence::ALL,
    };
    for number in 0..5000 {
        // A fence that stops no attempt leaves nothing.
        let before = 0;
        let nothing = Fence {
            before,
            ..fence(number)
        };
        sessions.fence(&owner, nothing).unwrap();
    }
    assert_eq!(sessions.threads_len(&owner.run), 0);
    for number in 0..5000 {
        sessions.fence(&owner, fence(number)).unwrap();
        // A fence may be repeated.
        sessions.fence(&owner, fence(number)).unwrap();
    }
    assert_eq!(sessions.threads_len(&owner.run), 1024);
    // The last ones are still fenced.
    let mut late = hello(2);
    (late.run, late.owner) = (owner.run, false);
    late.attempt = Some(attempt(thread(4999)));
    assert!(matches!(sessions.hello(&late, 0), Err(Error::Fenced)));
}

fn attempt(thread: ThreadId) -> Attempt {
    Attempt {
        thread,
        number: 1,
        exactly_once: true,
    }
}

#[test]
fn an_expected_exactly_once_thread_goes_with_its_run() {
    let object = ObjectId([7; 16]);
    let session = ThreadId::new(&hello(1).run, [9; 16]).session();
    for run in [Some(hello(1).run), None] {
        let sessions = Sessions::new(HashSeed(1));
        sessions.hello(&hello(1), 0).unwrap();
        sessions.expect(session, (Some(object), run), 0);
        // The thread may be started again for as long as somebody waits for it.
        assert_eq!(sessions.absent(100 * LEASE_MS, LEASE_MS), []);
        sessions.end(SessionId(1), None, (true, 0)).unwrap();
        let absent = sessions.absent(100 * LEASE_MS, LEASE_MS);
        assert_eq!(absent, [(session, vec![object])]);
    }
}

#[test]
fn an_expected_exactly_once_thread_goes_though_other_runs_live_on() {
    let object = ObjectId([7; 16]);
    let sessions = Sessions::new(HashSeed(1));
    sessions.hello(&hello(1), 0).unwrap();
    sessions.hello(&hello(2), 0).unwrap();
    // The object is persistent, so its run is not known.
    let session = ThreadId::new(&hello(1).run, [9; 16]).session();
    sessions.expect(session, (Some(object), None), 0);
    assert_eq!(sessions.absent(100 * LEASE_MS, LEASE_MS), []);
    sessions.end(SessionId(1), None, (true, 0)).unwrap();
    let absent = sessions.absent(100 * LEASE_MS, LEASE_MS);
    assert_eq!(absent, [(session, vec![object])]);
}

#[test]
fn a_waiting_call_of_a_fenced_attempt_ends_where_its_session_has_not_come() {
    let sessions = Sessions::new(HashSeed(1));
    let owner = sessions.hello(&hello(1), 0).unwrap().session;
    let (thread, object) = (thread(1), ObjectId([7; 16]));
    let waiting = |session, number| WaitingCall {
        attempt: Attempt {
            number,
            exactly_once: false,
            ..attempt(thread)
        },
        call: CallId {
            session: SessionId(session),
            sequence: Sequence(1),
        },
        object,
    };
    let taken = |before| {
        let taken = sessions.take_waiting(thread, before).into_iter();
        taken.map(|one| one.call.session.0).collect::<Vec<_>>()
    };
    for (session, number) in [(2, 1), (3, 2), (4, 3)] {
        sessions.expect(SessionId(session), (Some(object), None), 0);
        assert!(sessions.expect_attempt(waiting(session, number)));
        sessions.check();
    }
    assert_eq!(taken(1), [0; 0]);
    assert_eq!(taken(2), [2]);
    assert_eq!(taken(2), [0; 0]);
    sessions.check();
    // This one has come, and its end is the end of its calls.
    let mut member = hello(3);
    (member.run, member.owner) = (owner.run, false);
    sessions.hello(&member, 0).unwrap();
    sessions.check();
    assert_eq!(taken(Fence::ALL), [4]);
    sessions.check();
    // And if the fence comes first:
    let before = 2;
    sessions.fence(&owner, Fence { thread, before }).unwrap();
    sessions.expect(SessionId(5), (Some(object), None), 0);
    assert!(!sessions.expect_attempt(waiting(5, 1)));
    assert!(sessions.expect_attempt(waiting(5, 2)));
    // A session that does not come leaves nothing behind.
    sessions.end_expected(SessionId(5)).unwrap();
    sessions.check();
}

#[test]
fn results_are_kept_and_ends_remembered_by_time_whatever_else_ends() {
    let sessions = Sessions::new(HashSeed(1));
    let call = CallId {
        session: SessionId(1),
        sequence: Sequence(1),
    };
    sessions.hello(&hello(1), 0).unwrap();
    sessions.end(SessionId(1), None, (false, 0)).unwrap();
    sessions.on_ended(SessionId(1), false, 0);
    for other in 2..10_000 {
        sessions.hello(&hello(other), 1).unwrap();
        sessions.end(SessionId(other), None, (true, 1)).unwrap();
        sessions.on_ended(SessionId(other), true, 1);
    }
    sessions.forget_ended(0);
    assert!(sessions.needs(call));
    assert!(!sessions.hello(&hello(2), 1).unwrap().resumed);
    sessions.forget_ended(1);
    assert!(!sessions.needs(call));
    assert!(sessions.hello(&hello(1), 2).unwrap().resumed);
    assert!(!sessions.hello(&hello(3), 2).unwrap().resumed);
    sessions.forget_ended(2);
    assert!(sessions.hello(&hello(4), 2).unwrap().resumed);
}

/// A server with a lease for clients of [`LEASE_MS`], and no lease of its own before it gets one.
fn server() -> Server {
    Server::with(|config| {
        config.client_lease_ms = LEASE_MS;
        config.lease_ms = LEASE_MS;
        config.records_min = 1;
    })
}

fn renew(server: &mut Server) {
    let grant = Grant {
        sent_ms: server.now,
        view: ViewVersion(1),
    };
    server.input(Input::Lease(grant));
}

/// Lets time pass in which the server has its lease.
fn pass(server: &mut Server, leases: u64) {
    for _ in 0..2 * leases {
        renew(server);
        server.pass(LEASE_MS / 2);
    }
    renew(server);
}

#[test]
fn results_of_a_silent_session_outlast_the_patience_of_its_client() {
    let mut server = server();
    let client = server.client(1);
    let counter = server.counter(&client, "c");
    server.call(
        &client,
        2,
        (counter, "fetch_add"),
        (encode(&(1i64,)).unwrap(), 0),
    );
    let records = |server: &mut Server| {
        let other = server.client(2);
        let now = server.now;
        server.call(
            &other,
            now,
            (counter, "fetch_add"),
            (encode(&(1i64,)).unwrap(), 0),
        );
        let clients = server.node.look_at(&counter, |replica| replica.clients());
        clients.unwrap().contains(&SessionId(1))
    };
    pass(&mut server, RESULTS_KEPT_LEASES);
    assert!(server.is_closed(&client), "it was silent for a lease");
    assert!(
        records(&mut server),
        "the client may repeat its call elsewhere"
    );
    pass(&mut server, RESULTS_KEPT_LEASES + 3);
    records(&mut server);
    assert!(!records(&mut server), "nobody repeats it any more");
}

#[test]
fn a_call_that_waits_as_its_session_lapses_leaves_the_sessions_other_results() {
    let mut server = server();
    let client = server.client(1);
    let lock = server.lock(&client, "l");
    server.call(&client, 2, (lock, "acquire"), (Vec::new(), 0));
    server.holds_jobs = true;
    server.call(&client, 3, (lock, "acquire"), (Vec::new(), 0));
    pass(&mut server, 2);
    assert!(server.is_closed(&client));
    server.holds_jobs = false;
    server.execute_jobs();
    let other = server.client(2);
    server.call(&other, 2, (lock, "try_acquire"), (Vec::new(), 0));
    let clients = server
        .node
        .look_at(&lock, |replica| replica.clients())
        .unwrap();
    assert!(clients.contains(&SessionId(1)));
}

#[test]
fn a_server_without_a_lease_vouches_for_nobody() {
    let mut server = server();
    renew(&mut server);
    let client = server.client(1);
    server.take(&client);
    server.request(&client, 1, Operation::Ping);
    assert_eq!(server.replies(&client), [(1, Ok(Vec::new()))]);
    server.pass(2 * LEASE_MS);
    for sequence in 2..=18 {
        server.request(&client, sequence, Operation::Ping);
    }
    // The oldest of too many is not waited for, and is no sign that the server serves.
    match &server.take(&client)[..] {
        [Response::Reply { sequence, result }] => {
            assert_eq!(*sequence, Sequence(2));
            assert!(matches!(result, Err(Error::Unavailable { .. })));
        }
        other => panic!("{other:?}"),
    }
    renew(&mut server);
    let sequences = server
        .replies(&client)
        .into_iter()
        .map(|(sequence, _)| sequence);
    assert!(sequences.eq(3..=18));
}

#[test]
fn the_end_of_an_exactly_once_attempt_leaves_its_results_to_the_next_one() {
    let mut server = Server::new();
    let owner = server.client(1);
    let mut member = hello(0);
    let thread = thread(9);
    (member.session, member.owner) = (thread.session(), false);
    (member.run, member.attempt) = (hello(1).run, Some(attempt(thread)));
    let first = server.client_with(member.clone());
    let counter = server.counter(&first, "c");
    let one = || (encode(&(1i64,)).unwrap(), 0);
    server.call(&first, 2, (counter, "fetch_add"), one());
    assert_eq!(server.replies(&first).len(), 2);
    // Its welcome is on its way when the fence comes.
    server.holds_greetings = true;
    let again = server.client_with(member.clone());
    // The owner says so on each new connection.
    let before = 2;
    server.request(&owner, 1, Operation::Fence(Fence { thread, before }));
    server.holds_greetings = false;
    for greeted in std::mem::take(&mut server.greetings) {
        server.input(Input::Greeted(greeted));
    }
    assert!(server.is_closed(&first) && server.is_closed(&again));
    for connection in [&first, &again] {
        server.take(connection);
        server.call(connection, 3, (counter, "fetch_add"), one());
        assert_eq!(server.replies(connection), []);
    }
    let refused = server.client_with(member.clone());
    assert!(matches!(
        &server.take(&refused)[..],
        [Response::Refused(Error::Fenced)]
    ));
    member.attempt = member.attempt.map(|attempt| Attempt {
        number: 2,
        ..attempt
    });
    let second = server.client_with(member);
    server.take(&second);
    server.call(&second, 2, (counter, "fetch_add"), one());
    server.call(&second, 3, (counter, "load"), (Vec::new(), 0));
    let loaded = &server.replies(&second)[1];
    assert_eq!(*loaded, (3, encode(&1i64)));
}

#[test]
fn an_owner_that_was_silent_may_still_fence_its_threads() {
    let sessions = Sessions::new(HashSeed(1));
    let owner = hello(1);
    sessions.hello(&owner, 0).unwrap();
    let mut member = hello(2);
    (member.run, member.owner) = (owner.run, false);
    let thread = thread(1);
    member.attempt = Some(Attempt {
        exactly_once: false,
        ..attempt(thread)
    });
    sessions.hello(&member, 0).unwrap();
    sessions.end(SessionId(1), None, (false, 0)).unwrap();
    sessions.on_ended(SessionId(1), false, 0);
    let kept_ms = RESULTS_KEPT_LEASES * LEASE_MS;
    let leases = (LEASE_MS, kept_ms);
    assert_eq!(
        sessions.orphans(kept_ms + 1, leases, &|_| false),
        [owner.run]
    );
    let again = sessions.hello(&owner, kept_ms + 2).unwrap();
    let before = Fence::ALL;
    let fenced = sessions.fence(&again.session, Fence { thread, before });
    assert!(matches!(fenced, Ok(Some(Fenced::Session(SessionId(2))))));
    sessions.end(SessionId(2), Some(thread), (true, 0)).unwrap();
    // A run without an owner is forgotten when nobody comes any more.
    sessions.end(SessionId(1), None, (false, kept_ms)).unwrap();
    sessions.orphans(2 * kept_ms, leases, &|_| false);
    assert_eq!(sessions.threads_len(&owner.run), 1);
    sessions.orphans(2 * kept_ms + LEASE_MS + 1, leases, &|_| false);
    assert_eq!(sessions.threads_len(&owner.run), 0);
}

fn ephemeral(key: &str) -> OpenRequest {
    OpenRequest {
        type_name: "crucial::AtomicI64".to_owned(),
        key: key.to_owned(),
        persistent: false,
        mode: OpenMode::FindOrCreate,
        replicas: 1,
        state: encode(&0i64).unwrap(),
    }
}

#[test]
fn a_run_that_has_ended_takes_no_new_objects() {
    let mut server = Server::new();
    let owner = server.client(1);
    let mut member = hello(2);
    (member.run, member.owner) = (hello(1).run, false);
    let member = server.client_with(member);
    server.take(&member);
    server.open_as(&member, 1, ephemeral("a"));
    assert_eq!(server.replies(&member), [(1, encode(&true))]);
    server.request(&owner, 1, Operation::Goodbye);
    server.open_as(&member, 2, ephemeral("b"));
    let replies = server.replies(&member);
    assert!(matches!(&replies[..], [(2, Err(Error::Lost { .. }))]));
    assert_eq!(server.node.status().objects, 0);
    server.counter(&member, "persistent");
}

#[test]
fn a_client_that_acknowledges_nothing_is_stopped_by_a_limit() {
    let mut server = Server::with(|config| config.limits.unacknowledged_calls_max = 3);
    let client = server.client(1);
    let counter = server.counter(&client, "c");
    for sequence in 2..=4 {
        server.call(&client, sequence, (counter, "load"), (Vec::new(), 0));
    }
    let replies = server.replies(&client);
    assert!(replies[..3].iter().all(|(_, result)| result.is_ok()));
    match &replies[3] {
        (4, Err(Error::LimitExceeded { limit, .. })) => {
            assert_eq!(limit, "unacknowledged_calls_max");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_question_about_objects_does_not_wait_for_a_method_that_does_not_end() {
    let mut server = Server::new();
    let client = server.client(1);
    let counter = server.counter(&client, "c");
    server.take(&client);
    server.holds_jobs = true;
    server.call(&client, 2, (counter, "load"), (Vec::new(), 0));
    for (sequence, inspect) in [
        (
            3,
            Inspect::Objects {
                after: None,
                max: 10,
                key: None,
            },
        ),
        (4, Inspect::Replicas { max: 10 }),
    ] {
        server.request(&client, sequence, Operation::Inspect(inspect));
    }
    assert_eq!(server.replies(&client), []);
    server.pass(5_001);
    let replies = server.replies(&client);
    let sequences = replies.iter().map(|(sequence, _)| *sequence);
    assert!(sequences.eq([3, 4]));
    let is_refused = |result: &Result<_, _>| matches!(result, Err(Error::Unavailable { .. }));
    assert!(replies.iter().all(|(_, result)| is_refused(result)));
    // What the objects have to say later is for nobody.
    server.execute_jobs();
    server.execute_jobs();
    assert_eq!(server.replies(&client).len(), 1);
}
