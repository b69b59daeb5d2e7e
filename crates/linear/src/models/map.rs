//! One entry of a map.

use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;

use crate::{Model, matching};

/// One entry of a map, initially empty. The entries of a map are independent: the object of an operation is the key
/// (with the map's name, if there are several maps), and each entry is checked separately. Operations on the whole
/// map, such as its length, are not covered.
#[derive(Clone, Copy, Debug)]
pub struct Entry<V>(PhantomData<V>);

impl<V> Default for Entry<V> {
    fn default() -> Self {
        Entry(PhantomData)
    }
}

/// A method of [`Entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryInput<V> {
    /// Reads the value.
    Get,
    /// Sets the value, and reads the previous value.
    Insert(V),
    /// Removes the value, and reads the previous value.
    Remove,
    /// Sets the value to `new` if it is `current`.
    CompareAndSet {
        /// The expected value.
        current: Option<V>,
        /// The new value.
        new: V,
    },
}

/// A result of [`Entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryOutput<V> {
    /// The result of `Get`, `Insert` and `Remove`: the previous value.
    Value(Option<V>),
    /// The result of `CompareAndSet`: whether the value was set.
    Set(bool),
}

impl<V: Clone + Eq + Hash + Debug> Model for Entry<V> {
    type State = Option<V>;
    type Input = EntryInput<V>;
    type Output = EntryOutput<V>;

    fn init(&self) -> Option<V> {
        None
    }

    fn step(
        &self,
        value: &Option<V>,
        input: &EntryInput<V>,
        output: Option<&EntryOutput<V>>,
    ) -> Option<Option<V>> {
        use EntryOutput::{Set, Value};

        let next = match input {
            EntryInput::Get => (value.clone(), Value(value.clone())),
            EntryInput::Insert(new) => (Some(new.clone()), Value(value.clone())),
            EntryInput::Remove => (None, Value(value.clone())),
            EntryInput::CompareAndSet { current, new } if value == current => {
                (Some(new.clone()), Set(true))
            }
            EntryInput::CompareAndSet { .. } => (value.clone(), Set(false)),
        };
        matching(next, output)
    }
}
