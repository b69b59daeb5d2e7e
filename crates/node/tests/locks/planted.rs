//! Planted bugs: each is found by a test that the locks as they are pass.

use crucial_node::sync::LockMutant;

use crate::schedules::find;
use crate::{cluster, objects, peers, sessions, waiting};

fn is_found(mutant: LockMutant, test: fn()) {
    let found = find(mutant, test);
    let found = found.unwrap_or_else(|| panic!("no schedule shows {mutant:?}"));
    println!("{mutant:?}: schedule {found}");
}

#[test]
fn an_entry_that_is_made_twice() {
    is_found(LockMutant::NoSecondLook, objects::calls_of_one_object);
}

#[test]
fn an_entry_that_is_removed_for_another() {
    is_found(LockMutant::RemoveAnyEntry, objects::deletion_and_creation);
}

#[test]
fn an_event_that_queues_for_nobody() {
    is_found(LockMutant::QueueUnlocked, objects::calls_of_one_object);
}

#[test]
fn a_newer_request_that_overtakes() {
    is_found(
        LockMutant::NewerOvertakes,
        waiting::a_lease_and_newer_requests,
    );
}

#[test]
fn an_older_request_that_is_taken_out_behind_newer_ones() {
    is_found(
        LockMutant::RetryOvertakes,
        waiting::two_leases_and_waiting_requests,
    );
}

#[test]
fn a_change_behind_the_end_of_its_term() {
    is_found(LockMutant::TermUnlocked, cluster::a_term_that_ends);
}

#[test]
fn a_call_that_waits_behind_the_end_of_its_session() {
    is_found(LockMutant::ParkAfterEnd, sessions::goodbye_and_calls);
}

#[test]
fn a_timeout_that_wakes_nobody() {
    is_found(LockMutant::WakeUnlocked, waiting::timeouts_and_a_wait);
}

#[test]
fn routes_that_go_to_the_previous_connection() {
    is_found(LockMutant::RoutesUnlocked, sessions::a_hello_and_a_view);
}

#[test]
fn messages_that_wait_for_the_next_one() {
    is_found(
        LockMutant::PeerForgotten,
        peers::messages_and_a_new_connection,
    );
}
