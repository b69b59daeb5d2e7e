//! Tests of the models of locks, latches, semaphores, queues and maps.

use std::fmt::Debug;
use std::hash::Hash;

use crucial_linear::models::{
    Entry, EntryInput, EntryOutput, Latch, LatchInput, LatchOutput, Lock, LockInput, LockOutput,
    Queue, QueueInput, QueueOutput, Semaphore, SemaphoreInput, SemaphoreOutput,
};
use crucial_linear::{History, Model, Operation, check};

/// Object, input and output; a call without an answer has no output.
type Call<M, K> = (K, <M as Model>::Input, Option<<M as Model>::Output>);

/// Whether one process can have made these calls one after the other.
fn is_sequential<M: Model<Input: Clone, Output: Clone>, K: Clone + Eq + Hash + Debug>(
    model: &M,
    calls: &[Call<M, K>],
) -> bool {
    let history: History<_, _, _> = calls
        .iter()
        .zip((0..).step_by(2))
        .map(|((object, input, output), time)| {
            let call = Operation::called(0, object.clone(), input.clone(), time);
            match output {
                Some(output) => call.returned(output.clone(), time + 1),
                None => call,
            }
        })
        .collect();
    check(&history, model).is_ok()
}

#[test]
fn lock() {
    use LockOutput::{Busy, Locked, NotHeld, Unlocked};

    let allowed = |calls: &[(LockInput, Option<LockOutput>)]| {
        let calls: Vec<_> = calls.iter().map(|&(i, o)| ((), i, o)).collect();
        is_sequential(&Lock, &calls)
    };
    let lock = |token| (LockInput::Lock, Some(Locked(token)));
    let unlock = |token, output| (LockInput::Unlock { token }, output);
    let busy = (LockInput::TryLock, Some(Busy));
    let lost = (LockInput::Lock, None);

    assert!(allowed(&[
        lock(3),
        busy,
        unlock(3, Some(Unlocked)),
        lock(7)
    ]));
    // Two holders; a repeated token; a lower token.
    assert!(!allowed(&[lock(3), lock(4)]));
    assert!(!allowed(&[lock(3), unlock(3, Some(Unlocked)), lock(3)]));
    assert!(!allowed(&[lock(3), unlock(3, Some(Unlocked)), lock(2)]));
    // Busy although free; released by a wrong token; not released by the right token.
    assert!(!allowed(&[busy]));
    assert!(!allowed(&[lock(3), unlock(2, Some(Unlocked))]));
    assert!(!allowed(&[lock(3), unlock(3, Some(NotHeld))]));
    assert!(allowed(&[lock(3), unlock(2, Some(NotHeld)), busy]));
    // An unanswered unlock may have released the lock.
    assert!(allowed(&[lock(3), unlock(3, None), lock(4)]));
    assert!(allowed(&[lock(3), unlock(3, None), busy]));
    assert!(!allowed(&[lock(3), unlock(2, None), lock(4)]));
    // An unanswered lock may hold the lock, until its token is used.
    assert!(allowed(&[lost, busy, unlock(5, Some(Unlocked)), lock(6)]));
    assert!(!allowed(&[lost, busy, unlock(5, Some(Unlocked)), lock(5)]));
    assert!(!allowed(&[lost, busy, lock(6)]));
    assert!(allowed(&[lost, lock(6)]));
    // An output of another method.
    assert!(!allowed(&[(LockInput::Lock, Some(Busy))]));
}

#[test]
fn semaphore() {
    use SemaphoreInput::{Acquire, Available, Release, TryAcquire};
    use SemaphoreOutput::{Acquired, Done, Permits};

    let semaphore = |try_may_fail, calls: &[(SemaphoreInput, SemaphoreOutput)]| {
        let calls: Vec<_> = calls.iter().map(|&(i, o)| ((), i, Some(o))).collect();
        let permits = 2;
        is_sequential(
            &Semaphore {
                permits,
                try_may_fail,
            },
            &calls,
        )
    };
    let refused = (TryAcquire(1), Acquired(false));
    assert!(semaphore(
        false,
        &[
            (Acquire(2), Done),
            refused,
            (Release(1), Done),
            (Acquire(1), Done)
        ]
    ));
    assert!(!semaphore(false, &[(Acquire(2), Done), (Acquire(1), Done)]));
    assert!(!semaphore(false, &[(TryAcquire(3), Acquired(true))]));
    assert!(!semaphore(false, &[refused]));
    assert!(semaphore(true, &[refused, (Available, Permits(2))]));
    assert!(!semaphore(true, &[refused, (Available, Permits(1))]));
    // The number of permits overflows.
    assert!(!semaphore(false, &[(Release(u64::MAX), Done)]));
}

#[test]
fn latch() {
    use LatchInput::{Count, CountDown, Wait};
    use LatchOutput::Done;

    let latch = |calls: &[(LatchInput, LatchOutput)]| {
        let calls: Vec<_> = calls.iter().map(|&(i, o)| ((), i, Some(o))).collect();
        is_sequential(&Latch(2), &calls)
    };
    let down = (CountDown, Done);
    assert!(latch(&[
        down,
        (Count, LatchOutput::Count(1)),
        down,
        (Wait, Done),
        (Wait, Done)
    ]));
    assert!(latch(&[down, down, down, (Count, LatchOutput::Count(0))]));
    assert!(!latch(&[down, (Wait, Done), down]));
}

#[test]
fn queue() {
    use QueueOutput::{Done, Empty, Popped};

    let queue = |calls: &[(QueueInput<char>, Option<QueueOutput<char>>)]| {
        let calls: Vec<_> = calls.iter().map(|&(i, o)| ((), i, o)).collect();
        is_sequential(&Queue::default(), &calls)
    };
    let push = |value| (QueueInput::Push(value), Some(Done));
    let pop = |value| (QueueInput::Pop, Some(Popped(value)));
    let empty = (QueueInput::TryPop, Some(Empty));
    assert!(queue(&[
        empty,
        push('a'),
        push('b'),
        pop('a'),
        pop('b'),
        empty
    ]));
    assert!(!queue(&[push('a'), push('b'), pop('b')]));
    assert!(!queue(&[push('a'), pop('a'), pop('a')]));
    assert!(!queue(&[push('a'), empty]));
    assert!(!queue(&[(QueueInput::Pop, Some(Empty))]));
    // An unanswered push or pop.
    let lost_push = (QueueInput::Push('a'), None);
    let lost_pop = (QueueInput::TryPop, None);
    assert!(queue(&[lost_push, empty, pop('a'), empty]));
    assert!(queue(&[lost_pop, push('a'), push('b'), pop('b')]));
    assert!(!queue(&[
        lost_pop,
        push('a'),
        push('b'),
        push('c'),
        pop('c')
    ]));
}

#[test]
fn map_entries_are_independent() {
    use EntryInput::{CompareAndSet, Get, Insert, Remove};
    use EntryOutput::{Set, Value};

    let map = |calls: &[(&'static str, EntryInput<u8>, EntryOutput<u8>)]| {
        let calls: Vec<_> = calls.iter().map(|&(k, i, o)| (k, i, Some(o))).collect();
        is_sequential(&Entry::default(), &calls)
    };
    let set = |current, new| CompareAndSet { current, new };
    assert!(map(&[
        ("a", Insert(1), Value(None)),
        ("b", Get, Value(None)),
        ("a", set(Some(1), 2), Set(true)),
        ("a", set(None, 3), Set(false)),
        ("b", set(None, 3), Set(true)),
        ("a", Remove, Value(Some(2))),
        ("a", Get, Value(None)),
        ("b", Get, Value(Some(3))),
    ]));
    assert!(!map(&[
        ("a", Insert(1), Value(None)),
        ("a", Get, Value(None))
    ]));
    assert!(!map(&[
        ("a", Insert(1), Value(None)),
        ("b", Get, Value(Some(1)))
    ]));
}
