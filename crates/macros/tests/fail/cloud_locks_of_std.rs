use std::cell::RefCell;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};

use crucial::cloud;

#[cloud]
fn count(hits: &AtomicU64, words: Arc<Mutex<Vec<String>>>) {
    let _ = (hits, words);
}

#[cloud]
fn inside(list: Vec<Option<(u8, RwLock<u64>)>>, array: [RefCell<u8>; 2], slice: &[Mutex<i64>]) {
    let _ = (list, array, slice);
}

#[cloud]
fn result() -> Result<Mutex<u8>, String> {
    Ok(Mutex::new(1))
}

fn main() {}

// Errors: 6
