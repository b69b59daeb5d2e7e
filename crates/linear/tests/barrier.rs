//! Tests of the check of barriers.

use crucial_linear::barrier::{Broken, Wait, check};
use proptest::prelude::*;

fn wait(process: u64, called: u64, returned: u64, leads: bool) -> Wait<char> {
    Wait::called(process, 'b', (), called).returned(leads, returned)
}

fn checked(waits: &[Wait<char>], parties: usize) -> Result<(), Broken> {
    check(&waits.iter().cloned().collect(), parties)
}

#[test]
fn rounds() {
    let waits = [
        wait(0, 0, 4, false),
        wait(1, 1, 5, true),
        wait(0, 6, 9, true),
        wait(1, 7, 8, false),
    ];
    checked(&waits, 2).unwrap();
    assert_eq!(checked(&waits, 3).unwrap_err().wait, 0);
    checked(&waits[..0], 3).unwrap();
    for parties in [0, 1] {
        checked(&[wait(0, 0, 1, true)], parties).unwrap();
        checked(&[wait(0, 0, 1, false)], parties).unwrap_err();
    }
}

#[test]
fn no_wait_returns_before_the_last_arrives() {
    let broken = checked(&[wait(0, 0, 1, false), wait(1, 2, 3, true)], 2).unwrap_err();
    assert_eq!((broken.wait, broken.leaders, broken.followers), (0, 0, 1));
    assert_eq!(
        broken.to_string(),
        "barrier 'b': [0, 1]  process 0 returned, but its round of 2 can have at most 0 leaders and \
         1 followers"
    );
}

#[test]
fn each_round_has_one_leader() {
    checked(&[wait(0, 0, 2, true), wait(1, 1, 3, true)], 2).unwrap_err();
    checked(&[wait(0, 0, 2, false), wait(1, 1, 3, false)], 2).unwrap_err();
}

#[test]
fn one_wait_is_in_one_round() {
    // Process 2 overlaps both others, which do not overlap each other.
    let waits = [
        wait(0, 0, 2, true),
        wait(1, 3, 5, true),
        wait(2, 1, 4, false),
    ];
    assert_eq!(checked(&waits, 2).unwrap_err().wait, 1);
    checked(&waits[1..], 2).unwrap();
}

#[test]
fn unanswered_waits_may_have_arrived() {
    let lost = |called| Wait::called(9, 'b', (), called);
    checked(&[lost(0)], 2).unwrap();
    for leads in [false, true] {
        checked(&[lost(0), wait(1, 1, 2, leads)], 2).unwrap();
        // An unanswered wait is part of one round only, and of none before its call.
        checked(&[lost(0), wait(1, 1, 2, leads), wait(1, 3, 4, leads)], 2).unwrap_err();
        checked(&[wait(1, 1, 2, leads), lost(3)], 2).unwrap_err();
    }
}

#[test]
fn invalid_times_are_a_violation() {
    checked(&[wait(0, 5, 2, true)], 1).unwrap_err();
}

/// Whether the waits can be partitioned into rounds, by trying all partitions.
fn some_partition(waits: &[Wait<char>], parties: usize) -> bool {
    let Some(first) = waits.iter().position(|wait| wait.answer.is_some()) else {
        return true;
    };
    (0u32..1 << waits.len()).any(|round| {
        let within = |index: usize| round >> index & 1 == 1;
        let (of_round, rest): (Vec<_>, Vec<_>) = (0..waits.len()).partition(|&index| within(index));
        let answers = || of_round.iter().filter_map(|&index| waits[index].answer);
        let last_call = of_round.iter().map(|&index| waits[index].called).max();
        let first_return = answers().map(|answer| answer.1).min();
        let leaders = answers().filter(|answer| answer.0).count();
        let followers = answers().filter(|answer| !answer.0).count();
        let rest: Vec<_> = rest.iter().map(|&index| waits[index].clone()).collect();
        within(first)
            && of_round.len() == parties
            && last_call <= first_return
            && leaders <= 1
            && followers < parties
            && some_partition(&rest, parties)
    })
}

proptest! {
    #[test]
    fn agrees_with_trying_all_partitions(
        waits in prop::collection::vec((0u64..12, 0u64..8, 0u8..5), 0..7),
        parties in 1usize..4,
    ) {
        let waits: Vec<_> = waits
            .into_iter()
            .zip(0..)
            .map(|((called, length, answer), process)| match answer {
                0 => Wait::called(process, 'b', (), called),
                _ => wait(process, called, called + length, answer == 1),
            })
            .collect();
        prop_assert_eq!(checked(&waits, parties).is_ok(), some_partition(&waits, parties));
    }
}
