//! To whom a client has links, and how it finds servers.

use std::time::Duration;

use crucial_client::Client;
use crucial_core::frame::{Attempt, Operation};
use crucial_object::{Error, ThreadId};

use crate::fake::{Fake, add, object, park, value};

fn pings(heard: &[Operation]) -> usize {
    heard.iter().filter(|o| **o == Operation::Ping).count()
}

#[test]
fn an_owner_keeps_its_session_at_all_servers() {
    let fake = Fake::new(3);
    let mut config = fake.config(1);
    config.owner = true;
    let _client = Client::connect(config).unwrap();
    fake.wait("all are told that it lives", |servers| {
        servers.iter().all(|server| pings(&server.heard) >= 2)
    });
    let added = fake.add();
    fake.route(2, &[0, 1, 2, 3], |_| Some(0), &[0, 1, 2, 3]);
    fake.wait("the new one as well", |servers| {
        pings(&servers[added].heard) >= 1
    });
    fake.check();
}

#[test]
fn others_keep_it_where_their_objects_are_and_go_along() {
    let fake = Fake::new(3);
    let client = fake.client(0);
    add(&client, object(0, 1)).unwrap();
    fake.with(1, |server| assert!(!server.is_connected()));
    // Without a call.
    fake.route(2, &[0, 1, 2], |_| Some(2), &[0, 1, 2]);
    fake.wait("it is told that the client lives", |servers| {
        pings(&servers[2].heard) >= 2
    });
    fake.with(1, |server| assert!(server.hellos.is_empty()));
    fake.check();
}

#[test]
fn the_first_server_that_answers_will_do() {
    let fake = Fake::new(3);
    fake.kill(0);
    let mut config = fake.config(0);
    config.seeds = vec![fake.config(1).endpoint, fake.config(2).endpoint];
    let client = Client::connect(config).unwrap();
    assert_eq!(add(&client, object(1, 1)).unwrap(), 1);
    assert_eq!(client.endpoint(), &fake.config(0).endpoint);
    let seeds = client.seeds();
    assert!((0..3).all(|server| seeds.contains(&fake.config(server).endpoint)));
    assert_eq!(seeds.len(), 3);
}

#[test]
fn the_error_names_all_servers_that_are_not_there() {
    let fake = Fake::new(2);
    fake.kill(0);
    fake.kill(1);
    let mut config = fake.config(0);
    let addresses = [config.endpoint.clone(), fake.config(1).endpoint];
    config.seeds = vec![addresses[1].clone()];
    let began = std::time::Instant::now();
    let error = Client::connect(config).map(drop).unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(10));
    let text = error.to_string();
    assert!(matches!(error, Error::Unavailable { .. }));
    for address in addresses {
        assert!(text.contains(&address.to_string()), "{text}");
    }
}

#[test]
fn when_all_members_have_changed_the_seeds_are_asked() {
    let fake = Fake::new(2);
    let added = fake.add();
    let mut config = fake.config(0);
    config.seeds = vec![fake.config(added).endpoint];
    let client = Client::connect(config).unwrap();
    assert_eq!(add(&client, object(0, 1)).unwrap(), 1);
    fake.kill(0);
    fake.kill(1);
    fake.route(2, &[added], |_| Some(added), &[added]);
    assert_eq!(add(&client, object(0, 1)).unwrap(), 2);
    fake.check();
}

#[test]
fn all_servers_are_told_what_one_long_wait_holds_up() {
    let fake = Fake::new(2);
    let client = fake.client(0);
    let parked = park(&client, object(0, 1));
    for _ in 0..2_500 {
        add(&client, object(1, 1)).unwrap();
    }
    fake.wait("they are told", |servers| {
        servers.iter().all(|server| server.reports >= 1)
    });
    fake.wait_parked(object(0, 1), 1);
    fake.release(object(0, 1));
    assert_eq!(value(parked).unwrap(), 1);
    fake.check();
}

#[test]
fn the_calls_of_an_exactly_once_thread_have_the_same_numbers_whatever_the_servers_are() {
    let thread = ThreadId([3; 16]);
    let fake = Fake::new(3);
    let attempt = |number| {
        let mut config = fake.config(0);
        config.exactly_once = Some(Attempt {
            thread,
            number,
            exactly_once: true,
        });
        Client::connect(config).unwrap()
    };
    let first = attempt(1);
    assert_eq!(add(&first, object(0, 1)).unwrap(), 1);
    first.modules().unwrap();
    assert_eq!(add(&first, object(1, 1)).unwrap(), 1);
    drop(first);
    let added = fake.add();
    fake.route(2, &[0, 1, 2, added], |_| Some(added), &[0, 1, 2, added]);
    let second = attempt(2);
    assert_eq!(add(&second, object(0, 1)).unwrap(), 1);
    second.modules().unwrap();
    assert_eq!(add(&second, object(1, 1)).unwrap(), 1);
    assert_eq!(add(&second, object(1, 1)).unwrap(), 2);
    // The second has shown itself to all, and no more.
    for server in 0..4 {
        fake.with(server, |server| assert_eq!(pings(&server.heard), 1));
    }
    fake.check();
}
