//! Uploaded types for the tests, with methods of all kinds, and some that misbehave.

use std::collections::{BTreeMap, HashMap};
use std::task::Poll;

use crucial::{Error, Result, SessionId, shared};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
pub struct Account {
    cents: i64,
    holder: Option<SessionId>,
    heap: Vec<u64>,
    #[cfg(feature = "wider")]
    owner: String,
}

/// The state of the version without an owner.
#[cfg(feature = "upgraded")]
#[derive(Deserialize)]
struct Narrow {
    cents: i64,
    holder: Option<SessionId>,
    heap: Vec<u64>,
}

#[cfg(feature = "upgraded")]
impl From<Narrow> for Account {
    fn from(narrow: Narrow) -> Account {
        Account {
            // A change that a test can observe.
            cents: 100 * narrow.cents,
            holder: narrow.holder,
            heap: narrow.heap,
            owner: String::new(),
        }
    }
}

#[cfg_attr(
    feature = "upgraded",
    shared(name = "guest::Account", previous = Narrow)
)]
#[cfg_attr(not(feature = "upgraded"), shared(name = "guest::Account"))]
impl Account {
    pub fn deposit(&mut self, cents: i64) -> i64 {
        // The second version pays a premium.
        self.cents += if cfg!(feature = "second") {
            2 * cents
        } else {
            cents
        };
        self.cents
    }

    pub fn cents(&self) -> i64 {
        self.cents
    }

    /// Waits until the account has this amount. Returns the amount that the account had at first.
    pub fn withdraw(&mut self, cents: i64, #[ticket] initial: &mut Option<i64>) -> Poll<i64> {
        initial.get_or_insert(self.cents);
        if self.cents < cents {
            return Poll::Pending;
        }
        self.cents -= cents;
        Poll::Ready(initial.unwrap_or_default())
    }

    #[fallible]
    pub fn take(&mut self, cents: i64) -> Result<i64> {
        if self.cents < cents {
            return Err(Error::from("insufficient funds"));
        }
        Ok(self.deposit(-cents))
    }

    pub fn hold(&mut self, #[caller] caller: SessionId) {
        self.holder = Some(caller);
    }

    pub fn is_held(&self) -> bool {
        self.holder.is_some()
    }

    #[departed]
    fn departed(&mut self, session: SessionId) {
        self.holder = self.holder.filter(|holder| *holder != session);
    }

    pub fn explode(&mut self, cents: i64) {
        self.cents = cents;
        panic!("exploded at {cents}");
    }

    pub fn loop_for_ever(&mut self) {
        while std::hint::black_box(true) {}
    }

    pub fn allocate_for_ever(&mut self) {
        loop {
            let more = vec![1; 1 << 20];
            self.heap.extend(more);
        }
    }

    pub fn recurse(&mut self, depth: u64) -> u64 {
        if depth == u64::MAX {
            return 0;
        }
        1 + std::hint::black_box(self.recurse(std::hint::black_box(depth + 1)))
    }

    pub fn product(&mut self, factor: f64, times: u64) -> f64 {
        (0..times).fold(1.0, |product, _| product * factor)
    }
}

/// An object whose saving never ends.
#[derive(Deserialize)]
pub struct Stuck {
    #[allow(dead_code)]
    cents: i64,
}

impl Serialize for Stuck {
    fn serialize<S: serde::Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
        loop {
            std::hint::black_box(self);
        }
    }
}

#[shared(name = "guest::Stuck")]
impl Stuck {
    pub fn touch(&mut self) {}
}

/// A vector of numbers.
#[derive(Serialize, Deserialize)]
pub struct Vector {
    values: Vec<f64>,
}

#[shared(name = "guest::Vector")]
impl Vector {
    pub fn add(&mut self, other: Vec<f64>) {
        for (value, other) in self.values.iter_mut().zip(other) {
            *value += other;
        }
    }

    /// The sum of all numbers.
    pub fn sum(&self) -> f64 {
        self.values.iter().sum()
    }
}

/// An object whose state does not depend on its history.
#[derive(Default, Serialize, Deserialize)]
pub struct Ordered {
    counts: BTreeMap<u64, u64>,
}

#[shared(name = "guest::Ordered")]
impl Ordered {
    pub fn count(&mut self, key: u64) -> u64 {
        let count = self.counts.entry(key).or_default();
        *count += 1;
        *count
    }

    pub fn remove(&mut self, key: u64) -> Option<u64> {
        self.counts.remove(&key)
    }

    pub fn keys(&self) -> Vec<u64> {
        self.counts.keys().copied().collect()
    }
}

/// An object whose iteration order depends on its history, against the advice of docs/modules.md.
#[derive(Serialize, Deserialize)]
pub struct Hashed {
    counts: HashMap<u64, u64>,
}

#[shared(name = "guest::Hashed")]
impl Hashed {
    pub fn count(&mut self, key: u64) -> u64 {
        let count = self.counts.entry(key).or_default();
        *count += 1;
        *count
    }

    pub fn remove(&mut self, key: u64) -> Option<u64> {
        self.counts.remove(&key)
    }

    pub fn keys(&self) -> Vec<u64> {
        self.counts.keys().copied().collect()
    }
}

/// Numbers of the size of the machine, against the advice of docs/modules.md.
#[derive(Default, Serialize, Deserialize)]
pub struct Sizes {
    pub count: u64,
    pub largest: usize,
}

#[shared(name = "guest::Sizes")]
#[allow(deprecated)]
impl Sizes {
    pub fn multiply(&self, one: usize, other: usize) -> usize {
        one * other
    }

    pub fn narrow(&mut self, number: u64) -> u32 {
        self.largest += number as usize;
        u32::try_from(number).unwrap_or(u32::MAX) + 1
    }
}
