//! Shared types of the tests' own.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::task::Poll;
use std::time::Duration;

use crucial::collections::List;
use crucial::{Element, Error, SessionId, Shared, Wake, shared};
use serde::{Deserialize, Serialize};

/// Says where and how its methods run.
#[derive(Default, Serialize, Deserialize)]
pub struct Probe {
    bytes: Vec<u8>,
    value: i64,
}

#[shared]
impl Probe {
    /// The process; none in a sandbox.
    pub fn process(&self) -> Option<u32> {
        (!cfg!(target_family = "wasm")).then(std::process::id)
    }

    pub fn grow(&mut self, count: u64) {
        let count = usize::try_from(count).expect("bytes are counted");
        self.bytes.resize(count, 7);
    }

    pub fn sum(&self) -> u64 {
        self.bytes.iter().map(|byte| u64::from(*byte)).sum()
    }

    pub fn add(&mut self, value: i64) -> i64 {
        self.value += value;
        self.value
    }

    pub fn divide(&mut self, by: i64) -> Result<i64, String> {
        if by == 0 {
            return Err("division by zero".to_owned());
        }
        self.value /= by;
        Ok(self.value)
    }

    pub fn explode(&mut self, after: i64) -> i64 {
        self.value += after;
        panic!("exploded at {}", self.value)
    }

    pub fn explode_reading(&self) {
        panic!("only reading")
    }

    /// Takes some time; about as much in a sandbox, which has no clock.
    pub fn sleep(&mut self, time: Duration) {
        if cfg!(target_family = "wasm") {
            for step in 0..time.as_micros() as u64 * 500 {
                black_box(step);
            }
        } else {
            std::thread::sleep(time);
        }
    }

    pub fn at_least(&self, value: i64) -> Poll<i64> {
        if self.value >= value {
            Poll::Ready(self.value)
        } else {
            Poll::Pending
        }
    }

    /// Tries what methods cannot do yet.
    pub fn make_another(&self) -> Result<(), crucial::Error> {
        Shared::new(Probe::default()).map(drop)
    }

    /// Tries to call another object, which methods cannot do yet.
    pub fn call_other(&mut self, other: Shared<Probe>) -> Result<i64, crucial::Error> {
        other.add(1)
    }
}

/// Sends back what it is given.
#[derive(Default, Serialize, Deserialize)]
pub struct Echo;

#[shared]
impl Echo {
    pub fn unit(&self, value: ()) {
        value
    }

    pub fn option(&self, value: Option<Option<u32>>) -> Option<Option<u32>> {
        value
    }

    pub fn result(&self, value: Result<String, (i8, char)>) -> Result<String, (i8, char)> {
        value
    }

    pub fn bytes(&self, value: Vec<u8>) -> Vec<u8> {
        value
    }

    pub fn borrowed(&self, text: &str, numbers: &[f64], pair: &(u8, String)) -> String {
        format!("{text} {numbers:?} {pair:?}")
    }

    #[allow(clippy::too_many_arguments)]
    pub fn many(&self, a: u8, b: i128, c: f64, d: char, e: BTreeMap<String, Vec<bool>>) -> String {
        format!("{a} {b} {c} {d} {e:?}")
    }
}

/// An object with a handle to another.
#[derive(Default, Serialize, Deserialize)]
pub struct Node {
    next: Option<Shared<Node>>,
    pub label: String,
}

impl Node {
    pub fn new(label: &str) -> Node {
        Node {
            next: None,
            label: label.to_owned(),
        }
    }
}

#[shared]
impl Node {
    pub fn link(&mut self, next: Shared<Node>) {
        self.next = Some(next);
    }

    pub fn next(&self) -> Option<Shared<Node>> {
        self.next.clone()
    }

    pub fn label(&self) -> String {
        self.label.clone()
    }
}

/// A monitor of the paper's Santa Claus problem: lets members in until the group is full, then lets
/// them all go at once when it is opened.
#[derive(Serialize, Deserialize)]
pub struct Group {
    size: u64,
    inside: u64,
    round: u64,
}

impl Group {
    pub fn new(size: u64) -> Group {
        Group {
            size,
            inside: 0,
            round: 0,
        }
    }

    fn leave(&mut self, round: u64) {
        if round == self.round {
            self.inside -= 1;
        }
    }
}

#[shared]
impl Group {
    /// A member joins, and waits until the group is opened. Gives the round.
    pub fn join(&mut self, #[ticket(cancel = Self::leave)] joined: &mut Option<u64>) -> Poll<u64> {
        match *joined {
            None if self.inside == self.size => Poll::Pending,
            None => {
                self.inside += 1;
                *joined = Some(self.round);
                Poll::Pending
            }
            Some(round) if round == self.round => Poll::Pending,
            Some(round) => Poll::Ready(round),
        }
    }

    /// Waits until the group is full.
    pub fn full(&self) -> Poll<u64> {
        if self.inside == self.size {
            Poll::Ready(self.round)
        } else {
            Poll::Pending
        }
    }

    /// Lets its members go.
    pub fn open(&mut self) {
        assert_eq!(self.inside, self.size, "opened before it was full");
        self.inside = 0;
        self.round += 1;
    }
}

/// A lock of the user's own: who holds it, and how often it changed hands.
#[derive(Default, Serialize, Deserialize)]
pub struct Desk {
    holder: Option<SessionId>,
    changes: u64,
}

#[shared]
impl Desk {
    /// Waits until it is free, and takes it.
    pub fn sit(&mut self, #[caller] who: SessionId) -> Poll<u64> {
        if self.holder.is_some() {
            return Poll::Pending;
        }
        self.holder = Some(who);
        self.changes += 1;
        Poll::Ready(self.changes)
    }

    /// Leaves it to the next.
    #[fallible]
    pub fn stand_up(&mut self, #[caller] who: SessionId) -> crucial::Result<()> {
        if self.holder != Some(who) {
            return Err(Error::from("somebody else sits here"));
        }
        self.holder = None;
        Ok(())
    }

    pub fn is_mine(&self, #[caller] who: SessionId) -> bool {
        self.holder == Some(who)
    }

    #[departed]
    fn departed(&mut self, session: SessionId) {
        self.holder = self.holder.filter(|holder| *holder != session);
    }

    /// One of those who wait can sit down.
    #[wake]
    fn wake(&self) -> Wake {
        match self.holder {
            None => Wake::First,
            Some(_) => Wake::None,
        }
    }
}

/// A stack of what the server does not know.
#[derive(Serialize, Deserialize)]
#[serde(bound = "T: Element")]
pub struct Stack<T> {
    items: List<T>,
}

impl<T> Default for Stack<T> {
    fn default() -> Self {
        Stack { items: List::new() }
    }
}

#[shared]
impl<T: Clone + PartialEq> Stack<T> {
    pub fn push(&mut self, item: T) {
        self.items.push(item);
    }

    /// Waits until there is one.
    pub fn pop(&mut self) -> Poll<T> {
        self.items.pop().map_or(Poll::Pending, Poll::Ready)
    }
}
