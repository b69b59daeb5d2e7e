//! Condition variables and barriers.

use std::sync::Arc;

use crucial_std::sync::{Barrier, Condvar, Mutex};
use shuttle::thread;

use crate::schedules::{explore, join, spawn, travel};

type Pair = (Mutex<u64>, Condvar);

fn wait_for(pair: &Pair, number: u64) {
    let guard = pair.0.lock().unwrap();
    let guard = pair.1.wait_while(guard, |value| *value < number).unwrap();
    assert!(*guard >= number);
}

fn add_and_notify(pair: &Pair) {
    *pair.0.lock().unwrap() += 1;
    pair.1.notify_all();
}

#[test]
fn a_waiter_misses_no_notification_of_a_pair_that_is_shared() {
    explore(|| {
        let pair = Arc::new(Pair::default());
        let threads = [
            spawn(&pair, |pair| wait_for(pair, 2)),
            spawn(&pair, add_and_notify),
            spawn(&pair, |pair| {
                let other = travel(pair);
                add_and_notify(&other);
                wait_for(&other, 2);
            }),
        ];
        join(threads);
    });
}

#[test]
fn a_waiter_misses_no_notification_of_another_process() {
    explore(|| {
        let pair = Arc::new(Pair::default());
        let threads = [
            spawn(&pair, |pair| wait_for(pair, 1)),
            spawn(&pair, |pair| wait_for(pair, 1)),
            spawn(&pair, |pair| add_and_notify(&travel(pair))),
        ];
        join(threads);
    });
}

/// The mutex alone is shared: whoever waits makes the condition variable an object as well, if needed.
#[test]
fn a_local_condition_variable_serves_a_shared_mutex() {
    explore(|| {
        let pair = Arc::new(Pair::default());
        let threads = [
            spawn(&pair, |pair| wait_for(pair, 1)),
            spawn(&pair, |pair| wait_for(pair, 1)),
            spawn(&pair, |pair| drop(travel(&pair.0))),
            spawn(&pair, add_and_notify),
        ];
        join(threads);
    });
}

/// Each takes one, so that a notification of one waiter that goes astray leaves the other without.
#[test]
fn each_notification_of_one_wakes_one() {
    explore(|| {
        let pair = Arc::new(Pair::default());
        let take = |pair: &Pair| {
            let guard = pair.0.lock().unwrap();
            let mut guard = pair.1.wait_while(guard, |value| *value == 0).unwrap();
            *guard -= 1;
        };
        let give = |pair: &Pair| {
            *pair.0.lock().unwrap() += 1;
            pair.1.notify_one();
        };
        let threads = [
            spawn(&pair, move |pair| take(pair)),
            spawn(&pair, move |pair| take(pair)),
            spawn(&pair, move |pair| give(pair)),
            spawn(&pair, move |pair| give(&travel(pair))),
        ];
        join(threads);
        assert_eq!(*pair.0.lock().unwrap(), 0);
    });
}

#[test]
fn all_meet_at_a_barrier() {
    explore(|| {
        let barrier = Arc::new(Barrier::new(3));
        let meet = |barrier: &Barrier| {
            let first = barrier.wait().is_leader();
            thread::yield_now();
            let second = barrier.wait().is_leader();
            [u64::from(first), u64::from(second)]
        };
        let threads = [
            spawn(&barrier, move |barrier| meet(barrier)),
            spawn(&barrier, move |barrier| meet(barrier)),
            spawn(&barrier, move |barrier| meet(&travel(barrier))),
        ];
        let leaders = join(threads);
        for round in 0..2 {
            let leaders = leaders.iter().map(|leads| leads[round]);
            assert_eq!(leaders.sum::<u64>(), 1, "round {round}");
        }
    });
}

#[test]
fn a_barrier_is_shared_between_its_rounds() {
    explore(|| {
        let barrier = Arc::new(Barrier::new(2));
        let meet = |barrier: &Barrier| (0..2).filter(|_| barrier.wait().is_leader()).count();
        let threads = [
            spawn(&barrier, move |barrier| meet(barrier)),
            spawn(&barrier, move |barrier| meet(barrier)),
            spawn(&barrier, move |barrier| {
                drop(travel(barrier));
                0
            }),
        ];
        assert_eq!(join(threads).into_iter().sum::<usize>(), 2);
    });
}
