//! All the shapes that the docs promise.
#![allow(
    missing_docs,
    reason = "a program, of which nobody reads the documentation"
)]

use std::collections::BTreeMap;
use std::task::Poll;

use crucial::{Result, Shared, Wake, cloud, shared};
use serde::{Deserialize, Serialize};

/// A type without a parameter, private, with methods of names that an expansion could use itself.
#[derive(Default, Serialize, Deserialize)]
struct Plain {
    values: BTreeMap<String, u64>,
}

impl Plain {
    fn helper(&mut self, f: impl FnOnce(&mut BTreeMap<String, u64>)) {
        f(&mut self.values);
    }

    fn leave(&mut self, place: u64) {
        self.values.remove(&place.to_string());
    }
}

#[shared(name = "tests::Plain")]
impl Plain {
    fn new() -> Plain {
        Plain::default()
    }

    /// Documented.
    #[must_use]
    #[deprecated(note = "for the test")]
    pub(crate) fn old(&self) -> u64 {
        self.values.len() as u64
    }

    fn nothing(&self) {}

    fn out(&mut self, out: u64, arguments: &str, index: &[u8], r#type: &(u8, u8)) -> Option<u64> {
        self.helper(|values| {
            values.insert(arguments.to_owned(), out);
        });
        Some(u64::from(index[0]) + u64::from(r#type.0))
    }

    fn dispatch(&self) -> Self {
        Plain::new()
    }

    fn wait(
        &mut self,
        ticket: u64,
        #[ticket(cancel = Self::leave)] memory: &mut Option<u64>,
    ) -> Poll<u64> {
        if memory.is_none() {
            *memory = Some(ticket);
            self.values.insert(ticket.to_string(), ticket);
            return Poll::Pending;
        }
        Poll::Ready(ticket)
    }

    #[wake]
    fn wake(&self) -> Wake {
        Wake::First
    }
}

/// A unit struct, and an enum.
#[derive(Serialize, Deserialize)]
pub struct Unit;

#[shared]
impl Unit {
    pub fn give(&self, other: Shared<Unit>) -> Shared<Unit> {
        other
    }
}

#[derive(Serialize, Deserialize)]
pub enum Door {
    Open,
    Closed,
}

#[shared]
impl Door {
    pub fn close(&mut self) -> bool {
        matches!(std::mem::replace(self, Door::Closed), Door::Open)
    }
}

mod one {
    #[crucial::cloud]
    pub fn same(text: &str, numbers: &[f64], pair: &(u8, char)) -> String {
        format!("{text} {numbers:?} {pair:?}")
    }
}

mod two {
    #[crucial::cloud]
    pub fn same(n: u64) -> u64 {
        n
    }
}

#[cloud]
fn unit() {}

#[cloud]
fn calls(plain: Shared<Plain>) -> Result<Option<u64>> {
    plain.nothing()?;
    plain.out(1, "a", &[2], &(3, 4))
}

fn main() {
    assert_eq!(
        one::same("t", &[0.5], &(1, 'x')).run_here().unwrap(),
        "t [0.5] (1, 'x')"
    );
    assert_eq!(two::same(7).run_here().unwrap(), 7);
    unit().run_here().unwrap();
    let plain = Shared::new(Plain::new()).unwrap();
    assert_eq!(calls(plain.clone()).run_here().unwrap(), Ok(Some(5)));
    assert_eq!(plain.dispatch().unwrap().values.len(), 0);
    let waiting = plain.deferred().wait(9);
    plain.nothing().unwrap();
    drop(waiting);
    let door = Shared::new(Door::Open).unwrap();
    assert!(door.close().unwrap() && !door.close().unwrap());
    let unit = Shared::new(Unit).unwrap();
    assert_eq!(unit.give(unit.clone()).unwrap(), unit);
}
