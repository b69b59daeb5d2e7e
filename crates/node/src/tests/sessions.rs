//! Sessions that end, and runs, without objects.

use crucial_object::{Error, ObjectId, SessionId, ThreadId};
use crucial_proto::frame::{Attempt, Fence};

use super::server::hello;
use crate::hash::HashSeed;
use crate::session::Sessions;

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
    let session = thread(1).session();
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
