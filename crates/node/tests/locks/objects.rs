//! Calls of one object from several event loops: the table, the entry, and the partition.

use std::sync::Arc;

use crucial_object::{Object, Result, Sequence, shared};
use crucial_proto::frame::{OpenMode, Response};
use serde::{Deserialize, Serialize};
use shuttle::sync::Mutex;
use shuttle::thread;

use crate::client::{Client, Named, is_gone};
use crate::schedules::explore;
use crate::shell::{NOW, Shell, Thread};

/// A counter whose method has a step at which another thread can go on.
#[derive(Default, Serialize, Deserialize)]
pub struct Slow {
    count: u64,
}

#[shared(crate = crucial_object)]
impl Slow {
    /// Counts the call. Gives how many there were before.
    pub fn add(&mut self) -> u64 {
        let before = self.count;
        drop(Mutex::new(()).lock());
        self.count = before + 1;
        before
    }
}

fn type_name<T: Object>() -> &'static str {
    T::NAME
}

pub fn slow(key: &str) -> Named {
    Named::new(type_name::<Slow>(), key, &Slow::default())
}

/// Three clients make the same object and call it.
pub fn calls_of_one_object() {
    let shell = Shell::alone();
    let object = slow("one");
    let clients: Vec<_> = (1..=3)
        .map(|session| {
            let (shell, object) = (shell.clone(), object.clone());
            thread::spawn(move || {
                let mut thread = Thread::new(&shell, NOW);
                let mut client = Client::connect(&mut thread, session);
                client.send(&mut thread, object.open(OpenMode::FindOrCreate));
                client.send(&mut thread, object.call("add", &()));
                client.send(&mut thread, object.call("add", &()));
                client
            })
        })
        .collect();
    let clients: Vec<_> = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .collect();
    let mut values = Vec::new();
    let mut creators = 0;
    for client in &clients {
        let replies = client.replies();
        let [created, first, second] = [1, 2, 3].map(Sequence);
        creators += usize::from(client.result::<bool>(created).unwrap());
        let [first, second] = [first, second].map(|call| client.result::<u64>(call).unwrap());
        assert!(first < second, "a client's calls have changed their order");
        values.extend([first, second]);
        assert_eq!(replies.len(), 3);
    }
    values.sort_unstable();
    assert_eq!(values, [0, 1, 2, 3, 4, 5]);
    assert_eq!(creators, 1, "an object is made once");
    assert_eq!(shell.node.status().objects, 1);
    shell.check();
}

/// Clients call an object that another one deletes and makes again.
pub fn deletion_and_creation() {
    let shell = Shell::alone();
    let object = slow("volatile");
    let caller = |session, calls: u64| {
        let (shell, object) = (shell.clone(), object.clone());
        thread::spawn(move || {
            let mut thread = Thread::new(&shell, NOW);
            let mut client = Client::connect(&mut thread, session);
            client.send(&mut thread, object.open(OpenMode::FindOrCreate));
            for _ in 0..calls {
                client.send(&mut thread, object.call("add", &()));
            }
            client
        })
    };
    let callers = [caller(1, 1), caller(2, 1)];
    let deleter = {
        let (shell, object) = (shell.clone(), object.clone());
        thread::spawn(move || {
            let mut thread = Thread::new(&shell, NOW);
            let mut client = Client::connect(&mut thread, 3);
            client.send(&mut thread, object.delete());
            client.send(&mut thread, object.open(OpenMode::FindOrCreate));
            client.send(&mut thread, object.delete());
            client
        })
    };
    let callers = callers.map(|client| client.join().unwrap());
    let mut deleter = deleter.join().unwrap();
    let mut made = 0;
    let mut count = |client: &Client, sequence, change: i32| {
        let is_done: bool = client.result(Sequence(sequence)).unwrap();
        made += i32::from(is_done) * change;
    };
    for client in &callers {
        count(client, 1, 1);
        match client.result::<u64>(Sequence(2)) {
            Ok(count) => assert!(count < 2),
            Err(error) => assert!(is_gone(&error), "{error}"),
        }
    }
    for (sequence, change) in [(1, -1), (2, 1), (3, -1)] {
        count(&deleter, sequence, change);
    }
    // Behind all of them the table has what a client can find, and nothing else.
    let mut thread = Thread::new(&shell, NOW);
    let found: Result<bool> = deleter.ask(&mut thread, object.open(OpenMode::Find));
    assert_eq!(made, i32::from(found.is_ok()), "an object is lost");
    assert_eq!(shell.node.status().objects, usize::from(found.is_ok()));
    let is_left = deleter.ask::<bool>(&mut thread, object.delete()).unwrap();
    assert_eq!(is_left, found.is_ok());
    assert_eq!(
        shell.node.status().objects,
        0,
        "an entry is left of no object"
    );
    shell.check();
}

/// A request that two event loops have, since its client has repeated it on a new connection.
pub fn a_repeated_request() {
    let shell = Shell::alone();
    let mut thread = Thread::new(&shell, NOW);
    let object = slow("repeated");
    let mut client = Client::connect(&mut thread, 1);
    client
        .ask::<bool>(&mut thread, object.open(OpenMode::FindOrCreate))
        .unwrap();
    let other = client.reconnect(&mut thread);
    let repeat = |client: Client| {
        let (shell, object) = (shell.clone(), object.clone());
        thread::spawn(move || {
            let mut thread = Thread::new(&shell, NOW);
            client.repeat(&mut thread, 2, object.call("add", &()));
            client.repeat(&mut thread, 3, object.delete());
            client
        })
    };
    let copies = [repeat(client), repeat(other)].map(|copy| copy.join().unwrap());
    // The reply to a deletion goes to the newest connection, whichever copy was executed.
    let mut calls = Vec::new();
    let mut deletions = Vec::new();
    for response in copies.iter().flat_map(|copy| shell.sent(&copy.connection)) {
        match response {
            Response::Reply {
                sequence: Sequence(2),
                result,
            } => calls.push(result),
            Response::Reply {
                sequence: Sequence(3),
                result,
            } => deletions.push(result),
            _ => {}
        }
    }
    assert_eq!(
        (calls.len(), deletions.len()),
        (2, 2),
        "a copy has no reply"
    );
    for result in &deletions {
        let deleted: bool = crucial_object::decode(result.as_ref().unwrap()).unwrap();
        assert!(deleted, "it was deleted twice");
    }
    // A copy that comes behind the deletion finds that the call was executed, and that its result went with the object.
    calls.retain(|result| !result.as_ref().is_err_and(is_gone));
    assert!(!calls.is_empty());
    for result in &calls {
        let count: u64 = crucial_object::decode(result.as_ref().unwrap()).unwrap();
        assert_eq!(count, 0, "the call was executed twice");
    }
    assert_eq!(shell.node.status().objects, 0);
    shell.check();
}

/// What the last test of a run leaves behind is what it found.
pub fn memory_is_given_back() {
    let shell = Shell::alone();
    let before = shell.node.status();
    let session = |session| {
        let shell: Arc<Shell> = shell.clone();
        thread::spawn(move || {
            let mut thread = Thread::new(&shell, NOW);
            let object = slow(if session < 3 { "shared" } else { "own" });
            let mut client = Client::connect(&mut thread, session);
            client.send(&mut thread, object.open(OpenMode::FindOrCreate));
            client.send(&mut thread, object.call("add", &()));
            client.send(&mut thread, object.delete());
            client.send(&mut thread, crucial_proto::frame::Operation::Goodbye);
            thread.input(crucial_node::Input::Closed(client.connection.clone()));
        })
    };
    for client in [session(1), session(2), session(3)] {
        client.join().unwrap();
    }
    let mut thread = Thread::new(&shell, NOW + 20_000);
    thread.on_time();
    thread.serve();
    assert_eq!(shell.node.status(), before);
    shell.check();
}

#[test]
fn calls_of_one_object_have_an_order() {
    explore(1000, calls_of_one_object);
}

#[test]
fn deletion_and_creation_race_with_calls() {
    explore(1000, deletion_and_creation);
}

#[test]
fn a_request_that_comes_twice_is_executed_once() {
    explore(1000, a_repeated_request);
}

#[test]
fn all_memory_is_given_back() {
    explore(500, memory_is_given_back);
}
