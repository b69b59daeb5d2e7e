//! Sessions that end, and connections that come, while their calls are executed.

use crucial_node::Input;
use crucial_node::replication::Control;
use crucial_object::sync::Semaphore;
use crucial_proto::frame::{OpenMode, Operation, Response};
use serde_bytes::ByteBuf;
use shuttle::thread;

use crate::client::{Client, Named};
use crate::objects::slow;
use crate::schedules::explore;
use crate::shell::{CLIENT_LEASE_MS, NOW, PARTITIONS, Shell, Thread, join};
use crate::waiting::{parked, queue};

fn lock(key: &str) -> Named {
    Named::new("crucial::Semaphore", key, &Semaphore::new(1))
}

/// A client says goodbye on a new connection while calls of its old one are executed.
pub fn goodbye_and_calls() {
    let shell = Shell::alone();
    let (object, held) = (queue("left"), lock("left"));
    let mut main = Thread::new(&shell, NOW);
    let mut stays = Client::connect(&mut main, 9);
    for object in [&object, &held] {
        stays
            .ask::<bool>(&mut main, object.open(OpenMode::FindOrCreate))
            .unwrap();
    }
    let mut leaves = Client::connect(&mut main, 1);
    let mut again = leaves.reconnect(&mut main);
    let caller = {
        let (shell, object, held) = (shell.clone(), object.clone(), held.clone());
        thread::spawn(move || {
            let mut thread = Thread::new(&shell, NOW);
            leaves.send(&mut thread, held.call("acquire", &()));
            leaves.send(&mut thread, object.call("pop", &()));
        })
    };
    let goodbye = {
        let shell = shell.clone();
        thread::spawn(move || {
            let mut thread = Thread::new(&shell, NOW);
            again.send(&mut thread, Operation::Goodbye);
        })
    };
    let acquired = stays.send(&mut main, held.call("acquire", &()));
    caller.join().unwrap();
    goodbye.join().unwrap();
    main.serve();
    // What the other session held has come back, and it waits nowhere.
    stays.result::<u64>(acquired).unwrap();
    assert_eq!(
        parked(&shell, &object),
        0,
        "a call of a session that has ended waits"
    );
    assert_eq!(parked(&shell, &held), 0);
    assert_eq!(shell.node.status().sessions, 1);
    shell.check();
}

/// A client is silent for longer than its lease while its call is executed and another one waits for what it holds.
pub fn silence_and_calls() {
    let shell = Shell::alone();
    let held = lock("silent");
    let mut main = Thread::new(&shell, NOW);
    let mut stays = Client::connect(&mut main, 9);
    stays
        .ask::<bool>(&mut main, held.open(OpenMode::FindOrCreate))
        .unwrap();
    let mut silent = Client::connect(&mut main, 1);
    main.on_time();
    let late = NOW + 2 * CLIENT_LEASE_MS;
    // A server that was stopped for so long forgives all clients once.
    Thread::new(&shell, late).on_time();
    let late = late + CLIENT_LEASE_MS / 8;
    let caller = {
        let (shell, held) = (shell.clone(), held.clone());
        thread::spawn(move || {
            let mut thread = Thread::new(&shell, NOW);
            silent.send(&mut thread, held.call("acquire", &()));
        })
    };
    let timers = {
        let shell = shell.clone();
        thread::spawn(move || Thread::new(&shell, late).on_time())
    };
    let mut main = Thread::new(&shell, late);
    let acquired = stays.send(&mut main, held.call("acquire", &()));
    caller.join().unwrap();
    timers.join().unwrap();
    let mut now = late;
    for _ in 0..10 {
        // Signs of life of the client that stays, until the other one has ended.
        now += CLIENT_LEASE_MS / 8;
        let mut thread = Thread::new(&shell, now);
        stays.ask::<()>(&mut thread, Operation::Ping).ok();
        thread.on_time();
        thread.serve();
    }
    stays.result::<u64>(acquired).unwrap();
    assert_eq!(parked(&shell, &held), 0);
    assert_eq!(shell.node.status().sessions, 1);
    shell.check();
}

/// A client connects once more while a view comes.
pub fn a_hello_and_a_view() {
    let shell = Shell::alone();
    let mut control = Control::new(PARTITIONS);
    join(&mut control, 1);
    let mut main = Thread::new(&shell, NOW);
    let client = Client::connect(&mut main, 1);
    let view = join(&mut control, 2);
    let version = view.routes_version.0;
    let hello = {
        let shell = shell.clone();
        thread::spawn(move || {
            let mut thread = Thread::new(&shell, NOW);
            let again = client.reconnect(&mut thread);
            let new = Client::connect(&mut thread, 2);
            [again, new]
        })
    };
    main.input(Input::View(view));
    for client in hello.join().unwrap() {
        let sent = shell.sent(&client.connection).into_iter();
        let routes = sent.filter_map(|response| match response {
            Response::Welcome(welcome) => Some(welcome.routes.version),
            Response::Routes(routes) => Some(routes.version),
            _ => None,
        });
        let newest = routes.max();
        assert_eq!(
            newest,
            Some(version),
            "{:?} was not sent the newest routes",
            client.session
        );
    }
    shell.check();
}

/// A reply of a waiting call comes up while its client connects once more.
pub fn a_hello_and_a_reply() {
    let shell = Shell::alone();
    let object = queue("resumed");
    let mut main = Thread::new(&shell, NOW);
    let mut maker = Client::connect(&mut main, 9);
    maker
        .ask::<bool>(&mut main, object.open(OpenMode::FindOrCreate))
        .unwrap();
    let mut client = Client::connect(&mut main, 1);
    let call = client.send(&mut main, object.call("pop", &()));
    let hello = {
        let (shell, object) = (shell.clone(), object.clone());
        thread::spawn(move || {
            let mut thread = Thread::new(&shell, NOW);
            let again = client.reconnect(&mut thread);
            again.repeat(&mut thread, call.0, object.call("pop", &()));
            again
        })
    };
    let item = ByteBuf::from(crucial_object::encode(&7i64).unwrap());
    maker.send(&mut main, object.call("push", &(item.clone(),)));
    let again = hello.join().unwrap();
    let sent = shell.sent(&again.connection);
    assert!(
        matches!(sent.first(), Some(Response::Welcome(_))),
        "something was sent before the welcome: {sent:?}"
    );
    let replies = sent
        .iter()
        .filter(|response| matches!(response, Response::Reply { .. }));
    assert!(replies.count() > 0, "the reply is lost");
    shell.check();
}

/// A server begins a new incarnation while clients connect and call.
pub fn a_new_incarnation() {
    let shell = Shell::alone();
    let object = queue("forgotten");
    let mut control = Control::new(PARTITIONS);
    join(&mut control, 1);
    let mut main = Thread::new(&shell, NOW);
    let mut client = Client::connect(&mut main, 1);
    client
        .ask::<bool>(&mut main, object.open(OpenMode::FindOrCreate))
        .unwrap();
    let caller = {
        let (shell, object) = (shell.clone(), object.clone());
        thread::spawn(move || {
            let mut thread = Thread::new(&shell, NOW);
            client.send(&mut thread, object.call("pop", &()));
            client.send(&mut thread, object.call("close", &()));
            Client::connect(&mut thread, 2);
        })
    };
    main.input(Input::Evicted);
    main.input(Input::Incarnation(crucial_node::replication::Incarnation(
        2,
    )));
    caller.join().unwrap();
    main.serve();
    assert_eq!(
        shell.node.status().objects,
        0,
        "an object of an earlier incarnation is left"
    );
    shell.node.check();
}

/// A newer attempt of an exactly-once thread says hello while calls of the older one are executed.
pub fn a_newer_attempt() {
    let shell = Shell::alone();
    let object = slow("attempts");
    let mut main = Thread::new(&shell, NOW);
    let mut other = Client::connect(&mut main, 9);
    other
        .ask::<bool>(&mut main, object.open(OpenMode::FindOrCreate))
        .unwrap();
    let mut older = Client::attempt(&mut main, 1);
    let caller = {
        let (shell, object) = (shell.clone(), object.clone());
        thread::spawn(move || {
            let mut thread = Thread::new(&shell, NOW);
            for _ in 0..3 {
                older.send(&mut thread, object.call("add", &()));
            }
        })
    };
    Client::attempt(&mut main, 2);
    let first = other.send(&mut main, object.call("add", &()));
    caller.join().unwrap();
    main.serve();
    let first: u64 = other.result(first).unwrap();
    let last: u64 = other.ask(&mut main, object.call("add", &())).unwrap();
    assert_eq!(last, first + 1, "a fenced attempt has changed something");
    shell.check();
}

#[test]
fn an_attempt_changes_nothing_once_a_newer_one_is_welcome() {
    explore(1000, a_newer_attempt);
}

#[test]
fn a_session_that_ends_while_its_calls_execute_leaves_nothing() {
    explore(1000, goodbye_and_calls);
}

#[test]
fn a_silent_session_that_ends_while_its_call_executes_leaves_nothing() {
    explore(500, silence_and_calls);
}

#[test]
fn a_client_that_connects_while_a_view_comes_has_its_routes() {
    explore(1000, a_hello_and_a_view);
}

#[test]
fn a_welcome_comes_before_all_replies() {
    explore(1000, a_hello_and_a_reply);
}

#[test]
fn a_new_incarnation_has_nothing_of_the_last_one() {
    explore(500, a_new_incarnation);
}
