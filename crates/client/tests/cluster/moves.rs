//! Objects that go from server to server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crucial_object::caller::InFlight;

use crate::fake::{Fake, PARTITIONS, add, object, park, start, value};

/// A generator that is as good as any here, and repeats itself.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % end
    }
}

#[test]
fn calls_go_to_the_primaries_of_their_objects() {
    let fake = Fake::new(3);
    let client = fake.client(0);
    thread::scope(|scope| {
        for thread in 0..4 {
            let client = &client;
            scope.spawn(move || {
                for round in 0..500 {
                    add(client, object(round % PARTITIONS, thread)).unwrap();
                }
            });
        }
    });
    for server in 0..3 {
        fake.with(server, |server| assert!(server.calls > 0));
    }
    fake.check();
    let sum: i64 = (0..PARTITIONS)
        .flat_map(|partition| (0..4).map(move |thread| object(partition, thread)))
        .map(|object| fake.value(object))
        .sum();
    assert_eq!(sum, 2000);
}

#[test]
fn each_call_takes_effect_once_and_in_order_while_objects_move_and_connections_break() {
    let fake = Fake::new(4);
    let client = fake.client(0);
    let is_over = AtomicBool::new(false);
    let calls = thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|thread| {
                let (client, is_over) = (&client, &is_over);
                scope.spawn(move || call_on(client, thread, is_over))
            })
            .collect();
        let mut random = Random(1);
        for version in 2..150 {
            let salt = random.below(1000);
            let all = [0, 1, 2, 3];
            // One after the other learns of it.
            let first = random.below(4);
            let primary = |partition: usize| Some((partition * 7 + salt) % 4);
            fake.route(version, &all, primary, &[first]);
            if random.below(3) == 0 {
                fake.cut(random.below(4));
            }
            if random.below(10) == 0 {
                client.break_connection();
            }
            for step in 1..4 {
                thread::yield_now();
                fake.gossip(first, (first + step) % 4);
            }
        }
        is_over.store(true, Ordering::Relaxed);
        callers
            .into_iter()
            .map(|caller| caller.join().unwrap())
            .sum::<i64>()
    });
    fake.check();
    let objects = (0..PARTITIONS).flat_map(|p| (0..4).map(move |thread| object(p, thread)));
    assert_eq!(objects.map(|object| fake.value(object)).sum::<i64>(), calls);
}

/// Calls, each alone or several at once, until it is over; how many.
fn call_on(client: &crucial_client::Client, thread: u8, is_over: &AtomicBool) -> i64 {
    let mut random = Random(100 + u64::from(thread));
    let mut calls = 0;
    while !is_over.load(Ordering::Relaxed) {
        let object = object(random.below(PARTITIONS), thread);
        let before = add(client, object).unwrap();
        let pending: Vec<_> = (0..5).map(|_| start(client, object)).collect();
        for (pending, after) in pending.into_iter().zip(before + 1..) {
            assert_eq!(value(pending).unwrap(), after);
        }
        calls += 6;
    }
    calls
}

#[test]
fn a_call_that_waits_follows_its_object() {
    let fake = Fake::new(2);
    let client = fake.client(0);
    let object = object(0, 1);
    let parked: Vec<_> = (0..3).map(|_| park(&client, object)).collect();
    fake.wait_parked(object, 3);
    thread::scope(|scope| {
        let waiting: Vec<_> = parked
            .into_iter()
            .map(|parked| scope.spawn(|| value(parked).unwrap()))
            .collect();
        fake.route(2, &[0, 1], |_| Some(1), &[0, 1]);
        // It is asked for again there.
        fake.wait("the calls follow", |servers| servers[1].calls == 3);
        fake.release(object);
        let mut values: Vec<i64> = waiting.into_iter().map(|w| w.join().unwrap()).collect();
        values.sort_unstable();
        assert_eq!(values, [1, 2, 3]);
    });
    fake.check();
}

#[test]
fn a_call_that_was_moved_by_a_server_that_is_right_is_sent_again_after_a_pause() {
    let fake = Fake::new(2);
    let client = fake.client(0);
    fake.with(0, |server| {
        server.moves = 6;
        server.moves_to = 1;
    });
    let began = std::time::Instant::now();
    let (first, second) = (start(&client, object(0, 1)), start(&client, object(0, 1)));
    // Others are not held up.
    assert_eq!(add(&client, object(1, 1)).unwrap(), 1);
    // The server may move the first and execute the second.
    assert_eq!(value(first).unwrap() + value(second).unwrap(), 1 + 2);
    assert!(began.elapsed().as_millis() >= 5);
    fake.with(0, |server| assert!(server.calls <= 16, "{}", server.calls));
}

#[test]
fn none_of_many_calls_that_were_moved_is_lost() {
    let fake = Fake::new(1);
    let client = fake.client(0);
    for round in 1..20 {
        fake.with(0, |server| {
            server.moves = round;
            server.moves_to = 1;
        });
        let pending: Vec<_> = (0..20).map(|_| start(&client, object(0, 1))).collect();
        for pending in pending {
            value(pending).unwrap();
        }
    }
    // The server moves some and executes those behind them: an order that no client can hold.
    assert_eq!(fake.value(object(0, 1)), 19 * 20);
}

#[test]
fn a_call_that_was_moved_waits_for_the_routes_that_are_on_their_way() {
    let fake = Fake::new(2);
    let client = fake.client(0);
    fake.with(0, |server| {
        server.moves = 1;
        server.moves_to = 2;
    });
    let pending = start(&client, object(0, 1));
    fake.wait("it is moved", |servers| servers[0].moves == 0);
    fake.route(2, &[0, 1], |_| Some(1), &[0, 1]);
    assert_eq!(value(pending).unwrap(), 1);
    fake.check();
}

#[test]
fn routes_that_do_not_come_are_asked_for_elsewhere() {
    let fake = Fake::new(2);
    let client = fake.client(0);
    assert_eq!(add(&client, object(0, 1)).unwrap(), 1);
    fake.with(0, |server| {
        server.secretive = true;
        server.moves = 1_000_000;
        server.moves_to = 2;
    });
    fake.route(2, &[0, 1], |_| Some(1), &[0, 1]);
    assert_eq!(add(&client, object(0, 1)).unwrap(), 2);
    fake.check();
}

#[test]
fn a_partition_without_a_primary_waits_for_one() {
    let fake = Fake::new(2);
    let client = fake.client(0);
    fake.route(2, &[0, 1], |p| (p > 0).then_some(0), &[0, 1]);
    fake.wait("the client knows", |_| client.routes().version == 2);
    thread::scope(|scope| {
        let pending = start(&client, object(0, 1));
        let waiting = scope.spawn(|| value(pending).unwrap());
        assert_eq!(add(&client, object(1, 1)).unwrap(), 1);
        assert!(!waiting.is_finished());
        fake.route(3, &[0, 1], |_| Some(1), &[0, 1]);
        assert_eq!(waiting.join().unwrap(), 1);
    });
    fake.check();
}

#[test]
fn a_call_that_is_withdrawn_while_it_is_nowhere_is_withdrawn_where_it_comes_to() {
    let fake = Fake::new(2);
    let client = fake.client(0);
    let object = object(0, 1);
    let parked = park(&client, object);
    fake.wait_parked(object, 1);
    fake.route(2, &[0, 1], |_| None, &[0, 1]);
    fake.wait("the client knows", |_| client.routes().version == 2);
    drop(parked);
    fake.route(3, &[0, 1], |_| Some(1), &[0, 1]);
    fake.wait_parked(object, 0);
    fake.check();
}

#[test]
fn tasks_get_results_from_all_servers() {
    let fake = Fake::new(3);
    let client = fake.client(0);
    let mut parked: Vec<_> = (0..6).map(|p| park(&client, object(p, 1))).collect();
    let woken = Arc::new(Woken(thread::current(), AtomicBool::new(false)));
    let waker = woken.clone().into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut poll = |of: &mut Box<dyn InFlight>| of.poll(&mut context).is_ready();
    assert!(!parked.iter_mut().any(&mut poll));
    for partition in 0..6 {
        fake.wait_parked(object(partition, 1), 1);
        fake.release(object(partition, 1));
    }
    while !parked.is_empty() {
        while !woken.1.swap(false, Ordering::AcqRel) {
            thread::park();
        }
        parked.retain_mut(|of| !poll(of));
    }
    fake.check();
}

struct Woken(thread::Thread, AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.1.store(true, Ordering::Release);
        self.0.unpark();
    }
}
