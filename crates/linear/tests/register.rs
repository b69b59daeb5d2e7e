//! Histories of a register that are known to be linearizable or not.

use crucial_linear::models::{Register, RegisterInput, RegisterOutput};
use crucial_linear::{Checker, Failure, History, Operation, Recorder, Violation, check};

use RegisterInput::{CompareExchange, FetchAdd, Load, Store, Swap};
use RegisterOutput::{Done, Exchanged, Value};

type Call = Operation<&'static str, RegisterInput, RegisterOutput>;

fn answered(process: u64, times: (u64, u64), input: RegisterInput, output: RegisterOutput) -> Call {
    Operation::called(process, "x", input, times.0).returned(output, times.1)
}

fn unanswered(process: u64, called: u64, input: RegisterInput) -> Call {
    Operation::called(process, "x", input, called)
}

fn accepted(operations: impl IntoIterator<Item = Call>) {
    check(&operations.into_iter().collect(), &Register(0)).unwrap();
}

fn violation(operations: impl IntoIterator<Item = Call>) -> Box<Violation> {
    match check(&operations.into_iter().collect(), &Register(0)) {
        Err(Failure::Violation(violation)) => violation,
        other => panic!("expected a violation: {other:?}"),
    }
}

#[test]
fn histories_without_answers_are_linearizable() {
    accepted([]);
    accepted([unanswered(0, 0, Store(1))]);
}

#[test]
fn overlapping_operations_may_have_either_order() {
    for seen in [0, 1] {
        accepted([
            answered(0, (0, 3), Store(1), Done),
            answered(1, (1, 2), Load, Value(seen)),
        ]);
    }
}

#[test]
fn stale_read() {
    let violation = violation([
        answered(0, (0, 1), Store(1), Done),
        answered(1, (2, 3), Load, Value(0)),
        answered(0, (4, 5), Store(2), Done),
        answered(1, (6, 7), Load, Value(2)),
    ]);
    assert_eq!(violation.object(), "\"x\"");
    assert_eq!(violation.culprit(), Some(1));
    assert_eq!(violation.prefix(), [0]);
    assert_eq!(violation.refused(), [1]);
    assert_eq!(
        violation.to_string(),
        "object \"x\" is not linearizable\n\
         up to the return of\n\
         \x20 [2, 3]  process 1  Load -> Value(0)\n\
         the longest order found, [call, return]:\n\
         \x20 [0, 1]  process 0  Store(1) -> Done\n\
         leads to the state\n\
         \x20 1\n\
         in which none of these is possible:\n\
         \x20 [2, 3]  process 1  Load -> Value(0)"
    );
}

#[test]
fn an_observed_value_stays_observed() {
    // Both reads overlap the write, but the second follows the first.
    let reads = |first, second| {
        [
            answered(0, (0, 9), Store(1), Done),
            answered(1, (1, 2), Load, Value(first)),
            answered(2, (3, 4), Load, Value(second)),
        ]
    };
    accepted(reads(0, 1));
    assert_eq!(violation(reads(1, 0)).culprit(), Some(2));
}

#[test]
fn lost_update() {
    let violation = violation([
        answered(0, (0, 3), FetchAdd(1), Value(0)),
        answered(1, (1, 2), FetchAdd(1), Value(0)),
    ]);
    assert_eq!(violation.culprit(), Some(0));
    assert!(violation.to_string().contains("[1, 2]"));
}

#[test]
fn duplicated_effect() {
    // A call that is repeated after a lost connection must not add twice.
    let total = |sum| {
        [
            answered(0, (0, 1), FetchAdd(5), Value(0)),
            answered(1, (2, 3), Load, Value(sum)),
        ]
    };
    accepted(total(5));
    assert_eq!(violation(total(10)).culprit(), Some(1));
}

#[test]
fn processes_see_writes_in_one_order() {
    let history = |last| {
        [
            answered(0, (0, 20), Store(1), Done),
            answered(1, (0, 20), Store(2), Done),
            answered(2, (1, 4), Load, Value(1)),
            answered(3, (2, 5), Load, Value(2)),
            answered(2, (6, 9), Load, Value(2)),
            answered(3, (7, 10), Load, Value(last)),
        ]
    };
    accepted(history(2));
    assert_eq!(violation(history(1)).culprit(), Some(5));
}

#[test]
fn sequential_consistency_is_not_enough() {
    // The order of each process could be kept, but the second call begins after the first has returned.
    violation([
        answered(0, (0, 1), Swap(1), Value(0)),
        answered(1, (2, 3), Swap(2), Value(0)),
    ]);
}

#[test]
fn compare_exchange_has_one_winner() {
    let race = |second| {
        let exchange = CompareExchange { current: 0, new: 7 };
        [
            answered(0, (0, 2), exchange, Exchanged(Ok(0))),
            answered(1, (1, 3), exchange, Exchanged(second)),
        ]
    };
    accepted(race(Err(7)));
    violation(race(Ok(0)));
    violation(race(Err(0)));
}

#[test]
fn an_unanswered_operation_may_have_happened_or_not() {
    for seen in [0, 3] {
        accepted([
            unanswered(0, 0, FetchAdd(3)),
            answered(1, (1, 2), Load, Value(seen)),
        ]);
    }
    // The operation may take effect later, even after later calls of its own process.
    accepted([
        unanswered(0, 0, FetchAdd(3)),
        answered(0, (1, 2), Load, Value(0)),
        answered(0, (3, 4), Load, Value(3)),
    ]);
}

#[test]
fn an_unanswered_operation_happens_at_most_once() {
    violation([
        unanswered(0, 0, FetchAdd(3)),
        answered(1, (1, 2), Load, Value(6)),
    ]);
    // An observed effect cannot be undone.
    let violation = violation([
        unanswered(0, 0, FetchAdd(3)),
        answered(1, (1, 2), Load, Value(3)),
        answered(1, (3, 4), Load, Value(0)),
    ]);
    assert_eq!(violation.prefix(), [0, 1]);
}

#[test]
fn an_unanswered_operation_does_not_happen_before_its_call() {
    violation([
        answered(1, (0, 1), Load, Value(3)),
        unanswered(0, 2, FetchAdd(3)),
    ]);
}

#[test]
fn an_unanswered_operation_that_must_have_happened_before_another() {
    let history = |read| {
        [
            unanswered(0, 0, Store(1)),
            answered(
                1,
                (1, 2),
                CompareExchange { current: 1, new: 2 },
                Exchanged(Ok(1)),
            ),
            answered(2, (3, 4), Load, Value(read)),
        ]
    };
    accepted(history(2));
    // The unanswered operation takes effect only once.
    violation(history(1));
}

#[test]
fn many_unanswered_operations() {
    // All 60 operations took effect: no subset of them explains the read.
    let adds = (0..60).map(|process| unanswered(process, process, FetchAdd(1)));
    accepted(
        adds.clone()
            .chain([answered(99, (70, 71), Load, Value(60))]),
    );
    violation(adds.chain([answered(99, (70, 71), Load, Value(61))]));
    // Writes of different values: only the last one is observed.
    let stores = (0..60).map(|n| unanswered(n, n, Store(n as i64)));
    let read = |at, value| answered(99, (at, at + 1), Load, Value(value));
    accepted(
        stores
            .clone()
            .chain([read(70, 9), read(72, 40), read(74, 3)]),
    );
    violation(stores.chain([read(70, 9), read(72, 40), read(74, 9)]));
}

#[test]
fn objects_are_checked_one_by_one() {
    let mut history = History::new();
    for (object, seen) in [("x", 1), ("y", 2), ("z", 1)] {
        history.push(Operation::called(0, object, Store(1), 0).returned(Done, 1));
        history.push(Operation::called(0, object, Load, 2).returned(Value(seen), 3));
    }
    let failure = check(&history, &Register(0)).unwrap_err();
    let violation = failure.violation().unwrap();
    assert_eq!(violation.object(), "\"y\"");
    assert_eq!(violation.culprit(), Some(3));
}

#[test]
fn invalid_times_are_a_violation() {
    let violation = violation([
        answered(0, (0, 1), Store(0), Done),
        answered(0, (9, 5), Load, Value(0)),
    ]);
    assert!(violation.to_string().contains("[9, 5]"), "{violation}");
    // Two events at the same tick: neither precedes the other.
    accepted([
        answered(0, (5, 5), Load, Value(1)),
        answered(1, (5, 5), Store(1), Done),
    ]);
}

#[test]
fn the_work_is_bounded() {
    // 24 unanswered additions, and a read that none of their 2^24 sums explains.
    let history: History<_, _, _> = (0..24)
        .map(|n| unanswered(n, n, FetchAdd(1 << n)))
        .chain([answered(99, (200, 201), Load, Value(-1))])
        .collect();
    let failure = Checker::new(&Register(0))
        .steps_max(1000)
        .check(&history)
        .unwrap_err();
    assert!(failure.violation().is_none());
    assert_eq!(
        failure.to_string(),
        "object \"x\": undecided after 1000 steps; the longest order found has 0 of 25 operations"
    );
}

#[test]
fn a_recorder_keeps_unanswered_operations() {
    let recorder = Recorder::new();
    let done: Result<_, ()> = recorder.record(1, "x", Store(1), || Ok(Done));
    assert_eq!(done, Ok(Done));
    let lost = recorder.record(2, "x", Store(2), || Err("connection lost"));
    assert_eq!(lost, Err("connection lost"));
    let running = recorder.begin(3, "x", Load);
    let before = recorder.history();
    running.returned(Value(2));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        recorder.record(4, "x", Load, || -> Result<_, ()> { panic!("in the call") })
    }));
    assert!(panicked.is_err());

    assert_eq!(before.operations()[2].answer, None);
    let expected = [
        answered(1, (0, 1), Store(1), Done),
        unanswered(2, 2, Store(2)),
        answered(3, (3, 4), Load, Value(2)),
        unanswered(4, 5, Load),
    ];
    assert_eq!(recorder.history().operations(), expected);
    check(&recorder.into_history(), &Register(0)).unwrap();
}
