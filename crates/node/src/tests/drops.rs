//! The end of an object is the user's code: no lock is held, and a panic of it does no harm.

use std::cell::RefCell;
use std::rc::Rc;

use crucial_object::{SharedType, shared};
use crucial_proto::frame::{OpenMode, OpenRequest, Operation};
use serde::{Deserialize, Serialize};

use super::server::Server;

thread_local! {
    static AT_DROP: RefCell<Option<Box<dyn Fn()>>> = const { RefCell::new(None) };
}

#[derive(Default, Serialize, Deserialize)]
struct Fragile {
    number: u64,
}

#[shared(crate = crucial_object)]
impl Fragile {
    fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        AT_DROP.with_borrow(|act| {
            if let Some(act) = act {
                act();
            }
        });
    }
}

fn open(persistent: bool, mode: OpenMode) -> OpenRequest {
    OpenRequest {
        type_name: <Fragile as SharedType>::NAME.to_owned(),
        key: "a".to_owned(),
        persistent,
        mode,
        replicas: 1,
        state: vec![0],
    }
}

/// Lets an object end; how often its `Drop` began while no lock was held.
fn drops(persistent: bool, end: Operation) -> usize {
    let mut server = Server::new();
    let (client, other) = (server.client(1), server.client(2));
    server.open_as(&client, 1, open(persistent, OpenMode::FindOrCreate));
    assert!(matches!(&server.replies(&client)[..], [(1, Ok(_))]));
    let (node, count) = (server.node.clone(), Rc::new(RefCell::new(0)));
    let counted = count.clone();
    let at_drop = move || {
        *counted.borrow_mut() += usize::from(!node.partitions.is_locked());
        panic!("boom in drop");
    };
    AT_DROP.set(Some(Box::new(at_drop)));
    server.request(&client, 2, end);
    AT_DROP.set(None);
    // The client has its answer, and others are served.
    assert!(matches!(&server.replies(&client)[..], [(2, Ok(_))]));
    server.counter(&other, "b");
    assert!(matches!(&server.replies(&other)[..], [(1, Ok(_))]));
    *count.borrow()
}

#[test]
fn an_object_that_is_deleted_ends_behind_the_lock() {
    let object = open(true, OpenMode::Find).object(&super::server::hello(1).run, "tests");
    assert_eq!(drops(true, Operation::Delete(object)), 1);
}

#[test]
fn an_object_in_whose_place_another_is_made_ends_behind_the_lock() {
    let again = Operation::Open(open(true, OpenMode::Recreate));
    assert_eq!(drops(true, again), 1);
}

#[test]
fn an_object_that_goes_with_its_run_ends_behind_the_lock() {
    assert_eq!(drops(false, Operation::Goodbye), 1);
}
