//! Requests that go to all servers.

use std::collections::HashSet;
use std::thread;

use crucial_client::Client;
use crucial_core::frame::{Attempt, Fence, Operation};
use crucial_object::caller::Caller;
use crucial_object::{Error, ThreadId};

use crate::fake::{Fake, add, kinds, object};

fn heard(fake: &Fake, server: usize) -> HashSet<String> {
    fake.with(server, |server| kinds(&server.heard))
}

fn attempt(number: u32) -> Attempt {
    Attempt {
        thread: ThreadId([5; 16]),
        number,
        exactly_once: false,
    }
}

#[test]
fn answers_of_all_are_one() {
    let fake = Fake::new(3);
    let client = fake.client(0);
    assert_eq!(client.clear_namespace().unwrap(), 1 + 2 + 3);
    let pushed = client.push_module(vec![1, 2, 3], false).unwrap();
    assert_eq!((pushed.moved, pushed.left), (1 + 2 + 3, 3));
    assert_eq!(pushed.reason.as_deref(), Some("of 1"));
    assert_eq!(pushed.module.objects, 1 + 2 + 3);
    let modules = client.modules().unwrap();
    assert_eq!((modules.len(), modules[0].objects), (1, 1 + 2 + 3));
    // There is one at each server that nothing is of; that of the objects stays, at all.
    let refused = client.remove_module([1; 32]).unwrap_err();
    assert!(refused.to_string().contains("6 objects"), "{refused}");
    assert!(client.remove_module([2; 32]).unwrap());
    client.fence_thread(ThreadId([4; 16])).unwrap();
    for server in 0..3 {
        let heard = heard(&fake, server);
        for kind in ["ClearNamespace", "Push", "Modules", "RemoveModule", "Fence"] {
            assert!(heard.contains(kind), "{kind} in {heard:?}");
        }
    }
    client.ping().unwrap();
    client.goodbye().unwrap();
    assert!((0..3).all(|server| heard(&fake, server).contains("Goodbye")));
    assert_eq!(add(&client, object(0, 1)), Err(Error::Cancelled));
    fake.check();
}

#[test]
fn a_replacement_is_first_checked_everywhere() {
    let fake = Fake::new(3);
    let client = fake.client(0);
    client.push_module(vec![1, 2, 3], true).unwrap();
    for server in 0..3 {
        let checks = fake.with(server, |server| {
            let pushes = server.heard.iter().filter_map(|heard| match heard {
                Operation::Push { check, .. } => Some(*check),
                _ => None,
            });
            pushes.collect::<Vec<_>>()
        });
        assert!(checks.starts_with(&[true, false]), "{checks:?}");
    }
}

#[test]
fn a_first_attempt_begins_where_there_are_links_and_later_in_the_hello() {
    let fake = Fake::new(3);
    let client = fake.client(0);
    client.begin_thread(attempt(1)).unwrap();
    assert!(heard(&fake, 0).contains("Begin"));
    fake.with(1, |server| assert!(server.hellos.is_empty()));
    add(&client, object(1, 1)).unwrap();
    fake.with(1, |server| {
        assert_eq!(server.hellos[0].attempt, Some(attempt(1)));
    });
}

#[test]
fn a_later_attempt_begins_everywhere() {
    let fake = Fake::new(3);
    let client = fake.client(0);
    client.begin_thread(attempt(2)).unwrap();
    assert!((0..3).all(|server| heard(&fake, server).contains("Begin")));
}

#[test]
fn a_fence_that_nobody_waits_for_comes_to_all() {
    let fake = Fake::new(3);
    let client = fake.client(0);
    client.fence_thread_soon(ThreadId([4; 16])).unwrap();
    fake.wait("all hear of it", |servers| {
        servers.iter().all(|s| kinds(&s.heard).contains("Fence"))
    });
}

#[test]
fn a_server_that_joins_later_hears_from_a_runs_owner_which_attempts_are_over() {
    let fake = Fake::new(2);
    let mut config = fake.config(0);
    config.owner = true;
    let client = Client::connect(config).unwrap();
    let over = Fence {
        thread: ThreadId([4; 16]),
        before: Fence::ALL,
    };
    client.fence_thread(over.thread).unwrap();
    client.expect_attempt(attempt(2));
    client.expect_attempt(attempt(3));
    let added = fake.add();
    let members = [0, 1, added];
    fake.route(2, &members, |_| Some(0), &members);
    let newest = Fence {
        thread: attempt(3).thread,
        before: 3,
    };
    fake.wait("it hears of them", |servers| {
        let server = &servers[added];
        let heard = [Operation::Fence(over), Operation::Fence(newest)];
        server.heard == heard && server.hellos[0].fences == 2
    });
    fake.check();
}

#[test]
fn a_server_that_leaves_meanwhile_does_not_count_and_one_that_comes_does() {
    let fake = Fake::new(3);
    let client = fake.client(0);
    fake.with(2, |server| server.paused = true);
    let added = fake.add();
    thread::scope(|scope| {
        let clearing = scope.spawn(|| client.clear_namespace().unwrap());
        fake.wait("the others are asked", |servers| {
            (0..2).all(|server| kinds(&servers[server].heard).contains("ClearNamespace"))
        });
        let members = [0, 1, added];
        fake.route(2, &members, |_| Some(0), &members);
        assert_eq!(clearing.join().unwrap(), 1 + 2 + 4);
    });
}

#[test]
fn goodbye_does_not_wait_for_a_server_that_is_silent() {
    let fake = Fake::new(2);
    let client = fake.client(0);
    add(&client, object(1, 1)).unwrap();
    fake.with(1, |server| server.paused = true);
    client.goodbye().unwrap();
    assert!(heard(&fake, 0).contains("Goodbye"));
}
