//! Names that an expansion could use itself, raw identifiers, and helpers that bodies call.
#![deny(warnings)]
#![allow(clippy::new_ret_no_self, reason = "the user's own name")]
#![allow(
    missing_docs,
    reason = "a program, of which nobody reads the documentation"
)]

use crucial::{Shared, cloud, shared, thread};
use serde::{Deserialize, Serialize};

const NAME: &str = "the user's";

fn run() -> u64 {
    1
}

fn function(n: u64) -> u64 {
    n + 1
}

fn program() -> &'static str {
    NAME
}

/// A cloud function whose body calls the user's own functions.
#[cloud]
fn helpers() -> (u64, String) {
    (run() + function(1), NAME.to_owned())
}

#[cloud]
fn arguments(function: u64, run: u64, arguments: &str, task: &[u8]) -> u64 {
    function + run + arguments.len() as u64 + task.len() as u64
}

#[cloud]
fn r#match(r#type: u64, mut count: u64) -> u64 {
    count += r#type;
    count
}

#[derive(Serialize, Deserialize)]
pub struct Names {
    value: u64,
}

#[shared]
impl Names {
    pub fn r#type(&self, r#fn: u64) -> u64 {
        self.value + r#fn
    }

    pub fn out(&mut self) {
        self.value += 1;
    }

    pub fn ticket(&self, ticket: u64) -> u64 {
        ticket
    }

    pub fn arguments(
        &self,
        arguments: u64,
        out: u64,
        ticket: u64,
        memory: u64,
        result: u64,
    ) -> u64 {
        arguments + out + ticket + memory + result
    }

    pub fn index(&self, index: u64, target: u64, values: u64) -> u64 {
        index + target + values
    }

    pub fn target(&self) -> u64 {
        self.value
    }

    pub fn call(&self) -> u64 {
        self.value
    }

    pub fn new(&self) -> u64 {
        self.value
    }

    pub fn cancel(&mut self) {}

    pub fn wake(&mut self) {}
}

#[crucial::main]
fn main() {
    assert_eq!(program(), "the user's");
    assert_eq!(helpers().run_here().unwrap(), (3, NAME.to_owned()));
    assert_eq!(arguments(1, 2, "abc", &[4]).run_here().unwrap(), 7);
    assert_eq!(r#match(1, 2).run_here().unwrap(), 3);
    let named = Shared::new(Names { value: 1 }).unwrap();
    named.out().unwrap();
    assert_eq!(named.r#type(1).unwrap(), 3);
    assert_eq!(named.deferred().r#type(1).wait().unwrap(), 3);
    assert_eq!(named.ticket(4).unwrap(), 4);
    assert_eq!(named.arguments(1, 2, 3, 4, 5).unwrap(), 15);
    assert_eq!(
        named.deferred().arguments(1, 2, 3, 4, 5).wait().unwrap(),
        15
    );
    assert_eq!(named.index(1, 2, 3).unwrap(), 6);
    assert_eq!(named.deferred().index(1, 2, 3).wait().unwrap(), 6);
    assert_eq!(named.target().unwrap(), 2);
    assert_eq!(named.call().unwrap(), 2);
    assert_eq!(named.new().unwrap(), 2);
    named.cancel().unwrap();
    named.wake().unwrap();
    let _ = thread::current();
}
