//! Servers that die, fall silent, and live again.

use std::thread;
use std::time::{Duration, Instant};

use crucial_object::Error;

use crate::fake::{Fake, add, object, park, routes_of_another_cluster, start, value};

#[test]
fn a_connection_that_breaks_is_made_again_and_nothing_is_done_twice() {
    let fake = Fake::new(2);
    let client = fake.client(0);
    let parked = park(&client, object(0, 1));
    fake.wait_parked(object(0, 1), 1);
    for round in 0..20 {
        assert_eq!(add(&client, object(1, 1)).unwrap(), round + 1);
        fake.cut(round as usize % 2);
    }
    fake.wait("it is connected", |servers| servers[0].is_connected());
    fake.release(object(0, 1));
    assert_eq!(value(parked).unwrap(), 1);
    fake.with(0, |server| assert!(server.hellos.last().unwrap().resume));
    fake.check();
}

#[test]
fn the_calls_of_a_server_that_dies_go_where_others_say() {
    let fake = Fake::new(2);
    let client = fake.client(0);
    assert_eq!(add(&client, object(0, 1)).unwrap(), 1);
    fake.with(1, |server| assert!(!server.is_connected()));
    fake.kill(0);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| add(&client, object(0, 1)).unwrap());
        fake.wait("another is asked", |servers| servers[1].is_connected());
        fake.route(2, &[1], |_| Some(1), &[1]);
        assert_eq!(waiting.join().unwrap(), 2);
    });
    fake.check();
}

#[test]
fn the_calls_of_a_server_that_is_silent_go_where_others_say() {
    let fake = Fake::new(2);
    let client = fake.client(0);
    assert_eq!(add(&client, object(0, 1)).unwrap(), 1);
    fake.with(0, |server| server.paused = true);
    fake.route(2, &[1], |_| Some(1), &[1]);
    thread::scope(|scope| {
        // One of them reads, the others wait for that one.
        let waiting: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| add(&client, object(0, 1)).unwrap()))
            .collect();
        let mut values: Vec<i64> = waiting.into_iter().map(|w| w.join().unwrap()).collect();
        values.sort_unstable();
        assert_eq!(values, [2, 3, 4]);
    });
    fake.check();
}

#[test]
fn a_server_that_is_silent_from_the_start_is_not_waited_for() {
    let fake = Fake::new(3);
    fake.with(0, |server| server.paused = true);
    let mut config = fake.config(0);
    config.seeds = vec![fake.config(1).endpoint];
    let client = crucial_client::Client::connect(config).unwrap();
    fake.route(2, &[1, 2], |_| Some(2), &[1, 2]);
    assert_eq!(add(&client, object(0, 1)).unwrap(), 1);
    fake.check();
}

#[test]
fn calls_fail_when_patience_ends_and_others_go_on() {
    let fake = Fake::new(2);
    let mut config = fake.config(0);
    config.patience = Duration::from_millis(300);
    let client = crucial_client::Client::connect(config).unwrap();
    assert_eq!(add(&client, object(0, 1)).unwrap(), 1);
    assert_eq!(add(&client, object(1, 1)).unwrap(), 1);
    fake.kill(1);
    let began = Instant::now();
    let away = start(&client, object(1, 1));
    assert_eq!(add(&client, object(0, 1)).unwrap(), 2);
    assert!(matches!(value(away), Err(Error::Unavailable { .. })));
    assert!(began.elapsed() >= Duration::from_millis(250));
    assert_eq!(add(&client, object(0, 1)).unwrap(), 3);
    fake.check();
}

#[test]
fn a_server_that_forgot_the_session_fails_its_calls_and_no_others() {
    let fake = Fake::new(2);
    let client = fake.client(0);
    let (here, there) = (park(&client, object(0, 1)), park(&client, object(1, 1)));
    fake.wait_parked(object(0, 1), 1);
    fake.wait_parked(object(1, 1), 1);
    fake.with(0, |server| server.forgets = true);
    fake.cut(0);
    assert_eq!(value(here), Err(Error::SessionExpired));
    fake.release(object(1, 1));
    assert_eq!(value(there).unwrap(), 1);
}

#[test]
fn a_server_that_lives_again_is_another() {
    let fake = Fake::new(2);
    let client = fake.client(0);
    assert_eq!(add(&client, object(0, 1)).unwrap(), 1);
    fake.kill(0);
    fake.route(2, &[1], |_| Some(1), &[1]);
    assert_eq!(add(&client, object(0, 1)).unwrap(), 2);
    fake.restart(0);
    fake.route(3, &[0, 1], |_| Some(0), &[0, 1]);
    assert_eq!(add(&client, object(0, 1)).unwrap(), 3);
    fake.check();
}

#[test]
fn a_server_that_lives_again_before_anybody_missed_it_says_so_itself() {
    let fake = Fake::new(1);
    let client = fake.client(0);
    assert_eq!(add(&client, object(0, 1)).unwrap(), 1);
    fake.kill(0);
    fake.restart(0);
    fake.route(2, &[0], |_| Some(0), &[0]);
    assert_eq!(add(&client, object(0, 1)).unwrap(), 2);
    let routes = client.routes();
    assert_eq!(routes.servers[0].incarnation, 2);
    fake.check();
}

#[test]
fn a_server_that_is_not_ready_is_tried_again() {
    let fake = Fake::new(2);
    let not_yet = Error::Unavailable {
        address: "the server".to_owned(),
        reason: "it starts".to_owned(),
    };
    fake.with(0, |server| server.refuse = vec![not_yet.clone(); 3]);
    fake.with(1, |server| server.refuse = vec![not_yet; 3]);
    let client = fake.client(0);
    assert_eq!(add(&client, object(0, 1)).unwrap(), 1);
    assert_eq!(add(&client, object(1, 1)).unwrap(), 1);
    fake.with(1, |server| assert_eq!(server.hellos.len(), 4));
    fake.check();
}

#[test]
fn what_a_server_refuses_fails_its_calls_and_no_others() {
    let fake = Fake::new(2);
    let client = fake.client(0);
    let (here, there) = (park(&client, object(0, 1)), park(&client, object(1, 1)));
    fake.wait_parked(object(0, 1), 1);
    fake.wait_parked(object(1, 1), 1);
    fake.with(0, |server| server.write_all(&routes_of_another_cluster()));
    assert!(matches!(value(here), Err(Error::Protocol { .. })));
    fake.release(object(1, 1));
    assert_eq!(value(there).unwrap(), 1);
    // It was a slip.
    assert_eq!(add(&client, object(0, 2)).unwrap(), 1);
}

#[test]
fn a_server_of_another_cluster_fails_calls() {
    let fake = Fake::new(2);
    let client = fake.client(0);
    fake.with(1, |server| server.cluster = 8);
    assert!(matches!(
        add(&client, object(1, 1)),
        Err(Error::Protocol { .. })
    ));
    assert_eq!(add(&client, object(0, 1)).unwrap(), 1);
}

#[test]
fn who_is_fenced_at_one_server_is_fenced() {
    let fake = Fake::new(2);
    let client = fake.client(0);
    let parked = park(&client, object(0, 1));
    fake.wait_parked(object(0, 1), 1);
    fake.with(1, |server| server.refuse = vec![Error::Fenced]);
    assert_eq!(add(&client, object(1, 1)), Err(Error::Fenced));
    assert_eq!(value(parked), Err(Error::Fenced));
    assert!(client.has_ended());
    assert_eq!(add(&client, object(0, 1)), Err(Error::Fenced));
}
