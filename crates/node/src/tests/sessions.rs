//! Sessions that end, and runs, without objects.

use crucial_object::{ObjectId, SessionId};

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
        sessions.expect(session, Some(object), 0);
        sessions.on_ended(session, is_known, 0);
        assert_eq!(sessions.absent(LEASE_MS, LEASE_MS), []);
        let absent = sessions.absent(LEASE_MS + 1, LEASE_MS);
        assert_eq!(absent, [(session, vec![object])]);
        sessions.on_ended(session, false, LEASE_MS + 1);
        assert_eq!(sessions.absent(10 * LEASE_MS, LEASE_MS), []);
    }
}
