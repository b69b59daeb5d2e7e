//! A generic type of the user's: its parameters are in a library collection, which seals them.
#![deny(warnings)]
#![allow(
    missing_docs,
    reason = "a program, of which nobody reads the documentation"
)]

use std::task::Poll;

use crucial::collections::Map;
use crucial::{Element, Shared, shared};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(bound(
    serialize = "K: Element, V: Element",
    deserialize = "K: Element + Ord, V: Element"
))]
struct Newest<K, V> {
    values: Map<K, V>,
    puts: u64,
}

#[shared]
impl<K, V> Newest<K, V>
where
    K: Clone + Ord,
    V: Clone + PartialEq,
{
    fn new() -> Self {
        Newest {
            values: Map::new(),
            puts: 0,
        }
    }

    fn put(&mut self, key: K, value: &V) -> Option<V> {
        self.puts += 1;
        self.values.insert(key, value.clone())
    }

    fn put_all(&mut self, keys: &[K], value: V) {
        for key in keys {
            self.put(key.clone(), &value);
        }
    }

    fn pair(&self, key: K) -> Option<(K, V)> {
        let value = self.values.get(&key)?;
        Some((key, value))
    }

    fn wait_for(&mut self, key: &K, #[ticket] since: &mut Option<u64>) -> Poll<V> {
        since.get_or_insert(self.puts);
        match self.values.get(key) {
            Some(value) => Poll::Ready(value),
            None => Poll::Pending,
        }
    }
}

fn main() {
    let newest = Shared::new(Newest::<String, (u8, f64)>::new()).unwrap();
    let waiting = newest.deferred().wait_for(&"b".to_owned());
    assert_eq!(newest.put("a".to_owned(), &(1, 0.5)).unwrap(), None);
    let pair = newest.pair("a".to_owned()).unwrap();
    assert_eq!(pair, Some(("a".to_owned(), (1, 0.5))));
    newest
        .put_all(&["a".to_owned(), "b".to_owned()], (2, 1.5))
        .unwrap();
    assert_eq!(waiting.wait().unwrap(), (2, 1.5));
}
