//! Calls that wait: in an object, for a lease, for a time.

use std::sync::Arc;

use crucial_node::replication::Control;
use crucial_node::{Input, Millis};
use crucial_object::{Error, Sequence};
use crucial_proto::frame::OpenMode;
use serde_bytes::ByteBuf;
use shuttle::thread;

use crate::client::{Client, Named};
use crate::objects::slow;
use crate::schedules::explore;
use crate::shell::{NOW, PARTITIONS, Shell, Thread, grant, join};

/// How long a call waits.
const PATIENCE_MS: u32 = 500;

pub fn queue(key: &str) -> Named {
    let state = (Vec::<ByteBuf>::new(), 1u64 << 20, false);
    Named::new("crucial::Queue", key, &state)
}

fn item() -> ByteBuf {
    ByteBuf::from(crucial_object::encode(&7i64).unwrap())
}

/// Two calls wait for an item, one comes, and the time of the calls is over.
pub fn an_item_and_the_time() {
    let shell = Shell::alone();
    let object = queue("late");
    let mut main = Thread::new(&shell, NOW);
    let mut maker = Client::connect(&mut main, 9);
    maker
        .ask::<bool>(&mut main, object.open(OpenMode::FindOrCreate))
        .unwrap();
    let waiter = |session| {
        let (shell, object) = (shell.clone(), object.clone());
        thread::spawn(move || {
            let mut thread = Thread::new(&shell, NOW);
            let mut client = Client::connect(&mut thread, session);
            client.send(&mut thread, object.call_within(PATIENCE_MS, "pop", &()));
            client
        })
    };
    let waiters = [waiter(1), waiter(2)];
    let timers = {
        let shell = shell.clone();
        thread::spawn(move || {
            let mut thread = Thread::new(&shell, NOW + 2 * Millis::from(PATIENCE_MS));
            thread.on_time();
            thread.on_time();
        })
    };
    let pushed = maker.send(&mut main, object.call("push", &(item(),)));
    let waiters = waiters.map(|waiter| waiter.join().unwrap());
    timers.join().unwrap();
    shell.check();
    // All calls that still wait have waited for too long; also one that begins to wait only now, behind another one.
    for patience in [4, 6] {
        main.now = NOW + patience * Millis::from(PATIENCE_MS);
        main.on_time();
        main.serve();
    }
    maker.result::<()>(pushed).unwrap();
    let popped = waiters.iter().filter(|waiter| {
        match waiter.result::<Option<ByteBuf>>(Sequence(1)) {
            Ok(found) => assert_eq!(found, Some(item())),
            Err(Error::TimedOut { .. }) => return false,
            Err(error) => panic!("{error}"),
        }
        true
    });
    let popped = popped.count();
    let left: Option<ByteBuf> = maker.ask(&mut main, object.call("try_pop", &())).unwrap();
    assert_eq!(
        popped + usize::from(left.is_some()),
        1,
        "an item is lost or there twice"
    );
    assert_eq!(parked(&shell, &object), 0);
    shell.check();
}

/// A client takes its waiting call back while it is served.
pub fn an_item_and_a_withdrawal() {
    let shell = Shell::alone();
    let object = queue("withdrawn");
    let mut main = Thread::new(&shell, NOW);
    let mut maker = Client::connect(&mut main, 9);
    maker
        .ask::<bool>(&mut main, object.open(OpenMode::FindOrCreate))
        .unwrap();
    let mut client = Client::connect(&mut main, 1);
    let waiter = {
        let (shell, object) = (shell.clone(), object.clone());
        thread::spawn(move || {
            let mut thread = Thread::new(&shell, NOW);
            let call = client.send(&mut thread, object.call("pop", &()));
            client.cancel(&mut thread, call, &object);
            client
        })
    };
    let pusher = {
        let (shell, object) = (shell.clone(), object.clone());
        thread::spawn(move || {
            let mut thread = Thread::new(&shell, NOW);
            maker.send(&mut thread, object.call("push", &(item(),)));
            maker
        })
    };
    let (client, mut maker) = (waiter.join().unwrap(), pusher.join().unwrap());
    let left: Option<ByteBuf> = maker.ask(&mut main, object.call("try_pop", &())).unwrap();
    match client.result::<Option<ByteBuf>>(Sequence(1)) {
        Ok(found) => assert_eq!((found, left), (Some(item()), None)),
        Err(Error::Cancelled) => assert_eq!(left, Some(item())),
        Err(error) => panic!("{error}"),
    }
    assert_eq!(parked(&shell, &object), 0);
    shell.check();
}

/// How many calls wait in an object.
pub fn parked(shell: &Shell, object: &Named) -> usize {
    let parked = |replica: &mut crucial_node::replication::Replica| {
        replica.cell().map_or(0, |cell| cell.parked_len())
    };
    shell
        .node
        .look_at(&object.id, parked)
        .expect("the object was given back")
}

const LEASE_MS: Millis = 1_000;

/// A server with a lease, and a client that has made an object there.
fn with_lease() -> (Arc<Shell>, Named, Client) {
    let shell = Shell::new(1, LEASE_MS);
    let object = slow("waiting");
    let mut main = Thread::new(&shell, 0);
    main.input(Input::View(join(&mut Control::new(PARTITIONS), 1)));
    main.input(Input::Lease(grant(0)));
    let mut client = Client::connect(&mut main, 1);
    client
        .ask::<bool>(&mut main, object.open(OpenMode::FindOrCreate))
        .unwrap();
    (shell, object, client)
}

/// The client's four calls were executed in the order in which they were made.
fn assert_in_order(client: &Client) {
    let values = [2, 3, 4, 5].map(|call| client.result::<u64>(Sequence(call)).unwrap());
    assert_eq!(
        values,
        [0, 1, 2, 3],
        "newer calls have overtaken older ones"
    );
}

/// A lease comes while requests wait for one, and newer requests come.
pub fn a_lease_and_newer_requests() {
    let (shell, object, mut client) = with_lease();
    // The lease has ended.
    let now = 2 * LEASE_MS;
    let mut main = Thread::new(&shell, now);
    client.send(&mut main, object.call("add", &()));
    let caller = {
        let (shell, object) = (shell.clone(), object.clone());
        thread::spawn(move || {
            let mut thread = Thread::new(&shell, now);
            for _ in 0..3 {
                client.send(&mut thread, object.call("add", &()));
            }
            client
        })
    };
    let grants = |sent_ms| {
        let shell = shell.clone();
        thread::spawn(move || {
            let mut thread = Thread::new(&shell, now);
            thread.input_only(Input::Lease(grant(sent_ms)));
        })
    };
    let grants = [grants(now - 1), grants(now)];
    let client = caller.join().unwrap();
    for grant in grants {
        grant.join().unwrap();
    }
    main.serve();
    assert_in_order(&client);
    shell.check();
}

/// A lease ends while requests that have waited for it are admitted, and another one comes meanwhile.
pub fn two_leases_and_waiting_requests() {
    let (shell, object, mut client) = with_lease();
    // The lease has ended.
    let now = 2 * LEASE_MS;
    let mut main = Thread::new(&shell, now);
    for _ in 0..4 {
        client.send(&mut main, object.call("add", &()));
    }
    // This one ends soon, and the first call is on its way.
    main.input_only(Input::Lease(grant(now - LEASE_MS + 1)));
    let later = now + 5;
    let server = {
        let shell = shell.clone();
        thread::spawn(move || Thread::new(&shell, later).serve())
    };
    main.now = later;
    main.input_only(Input::Lease(grant(later)));
    server.join().unwrap();
    main.serve();
    assert_in_order(&client);
    shell.check();
}

/// Calls begin to wait while timeouts are due.
pub fn timeouts_and_a_wait() {
    let shell = Shell::alone();
    let object = queue("timeouts");
    let mut main = Thread::new(&shell, NOW);
    let mut client = Client::connect(&mut main, 1);
    client
        .ask::<bool>(&mut main, object.open(OpenMode::FindOrCreate))
        .unwrap();
    client.send(&mut main, object.call_within(1, "pop", &()));
    main.on_time();
    let timers = {
        let shell = shell.clone();
        thread::spawn(move || Thread::new(&shell, NOW + 2).on_time())
    };
    client.send(&mut main, object.call_within(PATIENCE_MS, "pop", &()));
    timers.join().unwrap();
    main.serve();
    shell.check();
}

#[test]
fn an_item_that_comes_at_the_timeout_is_not_lost() {
    explore(1000, an_item_and_the_time);
}

#[test]
fn an_item_that_comes_with_the_withdrawal_is_not_lost() {
    explore(1000, an_item_and_a_withdrawal);
}

#[test]
fn newer_requests_stay_behind_those_that_wait_for_a_lease() {
    explore(1000, a_lease_and_newer_requests);
}

#[test]
fn requests_that_wait_for_a_lease_twice_stay_in_order() {
    explore(1000, two_leases_and_waiting_requests);
}

#[test]
fn the_thread_with_the_timeouts_overlooks_no_timeout() {
    explore(1000, timeouts_and_a_wait);
}
