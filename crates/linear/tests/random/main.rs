//! Random histories: histories of linearizable objects must be accepted, and for modified histories the checker must
//! agree with trying all orders.

mod exported;
mod objects;
mod simulation;

use crucial_linear::{Checker, Failure, check};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use objects::{CountingSemaphore, Fifo, Integer, MapEntry, Object, TokenLock};
use simulation::{Log, all_orders_fail, cut, simulate, tamper};

fn choices(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), length)
}

/// Checks that the history of a real object is accepted.
fn accept<T: Object>(processes: u64, choices: &[u8]) {
    let log = simulate::<T>(processes, usize::MAX, choices);
    check(&log.into(), &T::model()).unwrap();
}

/// Checks that the checker agrees with trying all orders, and that a violation's explanation is right.
fn agree<T: Object>(processes: u64, choices: &[u8], wrong: &[(u8, u8)]) {
    const OPERATIONS_MAX: usize = 7;

    let mut log = simulate::<T>(processes, OPERATIONS_MAX, choices);
    for &(which, how) in wrong {
        tamper::<T>(&mut log, which, how);
    }
    match check(&log.clone().into(), &T::model()) {
        Ok(()) => assert!(!all_orders_fail::<T>(&log), "wrongly accepted: {log:#?}"),
        Err(failure) => {
            assert!(all_orders_fail::<T>(&log), "wrongly rejected: {failure}");
            check_explanation::<T>(&log, &failure);
        }
    }
}

fn check_explanation<T: Object>(log: &Log<T>, failure: &Failure) {
    let violation = failure.violation().expect("small enough to decide");
    let culprit = violation.culprit().expect("small enough to find");
    let end = log[culprit].answer.as_ref().expect("it returned").1;
    assert!(all_orders_fail::<T>(&cut::<T>(log, end)), "{violation}");
    assert!(
        !all_orders_fail::<T>(&cut::<T>(log, end - 1)),
        "{violation}"
    );

    let mut object = T::default();
    for &index in violation.prefix() {
        let answer = log[index].answer.as_ref().filter(|answer| answer.1 <= end);
        let output = object.perform(&log[index].input);
        assert!(output.is_some(), "{violation}");
        assert!(
            answer.is_none() || output.as_ref() == answer.map(|answer| &answer.0),
            "{violation}"
        );
    }
    for &index in violation.refused() {
        let output = object.clone().perform(&log[index].input);
        assert_ne!(
            output.as_ref(),
            log[index].answer.as_ref().map(|answer| &answer.0),
            "{violation}"
        );
    }
}

proptest! {
    // Little shrinking, since a history that the checker cannot decide takes long.
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn real_histories_are_accepted(processes in 1u64..9, choices in choices(600)) {
        accept::<Integer>(processes, &choices);
        accept::<CountingSemaphore>(processes, &choices);
        accept::<MapEntry>(processes, &choices);
        accept::<TokenLock>(processes, &choices);
        // Shorter, since pushes whose order is observed late are hard to check.
        accept::<Fifo>(processes.min(4), &choices[..200]);
    }

    #[test]
    fn register_agrees_with_all_orders(
        processes in 2u64..7,
        choices in choices(40),
        wrong in prop::collection::vec(any::<(u8, u8)>(), 0..3),
    ) {
        agree::<Integer>(processes, &choices, &wrong);
    }

    #[test]
    fn queue_agrees_with_all_orders(
        processes in 2u64..7,
        choices in choices(40),
        wrong in prop::collection::vec(any::<(u8, u8)>(), 0..3),
    ) {
        agree::<Fifo>(processes, &choices, &wrong);
    }

    #[test]
    fn semaphore_agrees_with_all_orders(
        processes in 2u64..7,
        choices in choices(40),
        wrong in prop::collection::vec(any::<(u8, u8)>(), 0..3),
    ) {
        agree::<CountingSemaphore>(processes, &choices, &wrong);
    }

    #[test]
    fn map_entry_agrees_with_all_orders(
        processes in 2u64..7,
        choices in choices(40),
        wrong in prop::collection::vec(any::<(u8, u8)>(), 0..3),
    ) {
        agree::<MapEntry>(processes, &choices, &wrong);
    }
}

#[test]
fn a_wrong_output_is_mostly_detected() {
    const CASES: usize = 200;

    let mut runner = TestRunner::deterministic();
    let mut detected = 0;
    for _ in 0..CASES {
        let mut draw = || {
            choices(200)
                .new_tree(&mut runner)
                .expect("no filter")
                .current()
        };
        let mut log = simulate::<Integer>(4, usize::MAX, &draw());
        let wrong = draw();
        tamper::<Integer>(&mut log, wrong[0], wrong[1]);
        let model = Integer::model();
        let verdict = Checker::new(&model).check(&log.into());
        detected += usize::from(matches!(verdict, Err(Failure::Violation(_))));
    }
    assert!(detected > CASES / 2, "{detected} of {CASES}");
}
