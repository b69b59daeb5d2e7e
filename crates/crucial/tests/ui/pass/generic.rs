//! Generic types: bounds, where clauses, parameters in arguments, results and tickets.
#![deny(warnings)]

use std::collections::BTreeMap;
use std::task::Poll;

use crucial::{Shared, shared};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Index<K: Ord, V> {
    values: BTreeMap<K, Vec<V>>,
}

#[shared]
impl<K, V> Index<K, V>
where
    K: Clone + Ord,
    V: Clone + Eq,
{
    fn new() -> Self {
        Index {
            values: BTreeMap::new(),
        }
    }

    fn add(&mut self, key: K, value: &V) -> usize {
        let values = self.values.entry(key).or_default();
        values.push(value.clone());
        values.len()
    }

    fn add_all(&mut self, keys: &[K], value: V) {
        for key in keys {
            self.add(key.clone(), &value);
        }
    }

    fn first(&self) -> Option<(K, V)> {
        let (key, values) = self.values.first_key_value()?;
        Some((key.clone(), values.first()?.clone()))
    }

    fn wait_for(&mut self, key: K, #[ticket] turn: &mut Option<K>) -> Poll<Vec<V>> {
        match self.values.get(&key) {
            Some(values) => Poll::Ready(values.clone()),
            None => {
                *turn = Some(key);
                Poll::Pending
            }
        }
    }
}

fn main() {
    let index = Shared::new(Index::<String, (u8, i64)>::new()).unwrap();
    let waiting = index.deferred().wait_for("b".to_owned());
    assert_eq!(index.add("a".to_owned(), &(1, 5)).unwrap(), 1);
    assert_eq!(index.first().unwrap(), Some(("a".to_owned(), (1, 5))));
    index
        .add_all(&["a".to_owned(), "b".to_owned()], (2, 15))
        .unwrap();
    assert_eq!(waiting.wait().unwrap(), vec![(2, 15)]);
}
