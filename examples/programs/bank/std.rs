//! A bank: clerks transfer money between accounts, while an auditor sums up.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;

const ACCOUNTS: usize = 8;
const CLERKS: usize = 4;
const TRANSFERS: usize = 50;
const START: i64 = 1_000;

type Bank = Arc<RwLock<Vec<Mutex<i64>>>>;

static DONE: AtomicUsize = AtomicUsize::new(0);

/// A pseudo-random number of xorshift.
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 33) as usize
}

fn clerk(number: usize, bank: Bank) -> i64 {
    let mut state = number as u64 * 7919 + 1;
    let mut moved = 0;
    for _ in 0..TRANSFERS {
        let (from, to) = (next(&mut state) % ACCOUNTS, next(&mut state) % ACCOUNTS);
        if from == to {
            continue;
        }
        let amount = (next(&mut state) % 100) as i64;
        let accounts = bank.read().unwrap();
        // Both in the order of their numbers, so that no two clerks wait for each other.
        let mut first = accounts[from.min(to)].lock().unwrap();
        let mut second = accounts[from.max(to)].lock().unwrap();
        let sign = if from < to { -1 } else { 1 };
        *first += sign * amount;
        *second -= sign * amount;
        moved += amount;
    }
    DONE.fetch_add(1, Ordering::SeqCst);
    moved
}

fn audit(bank: Bank) -> i64 {
    // Alone in the bank.
    let accounts = bank.write().unwrap();
    accounts
        .iter()
        .map(|account| *account.lock().unwrap())
        .sum()
}

fn main() {
    let accounts = (0..ACCOUNTS).map(|_| Mutex::new(START)).collect();
    let bank: Bank = Arc::new(RwLock::new(accounts));
    let mut clerks = Vec::new();
    for number in 0..CLERKS {
        let bank = Arc::clone(&bank);
        clerks.push(thread::spawn(move || clerk(number, bank)));
    }
    let auditor = {
        let bank = bank.clone();
        thread::Builder::new()
            .name("auditor".to_string())
            .spawn(move || audit(bank))
            .unwrap()
    };
    assert_eq!(auditor.thread().name(), Some("auditor"));
    let seen = auditor.join().unwrap();
    let moved: i64 = clerks.into_iter().map(|clerk| clerk.join().unwrap()).sum();
    let bank = Arc::try_unwrap(bank).expect("all threads have ended");
    let accounts = bank.into_inner().unwrap();
    let balances: Vec<i64> = accounts
        .into_iter()
        .map(|a| a.into_inner().unwrap())
        .collect();
    println!(
        "the auditor saw {seen}, {moved} moved, {} clerks done",
        DONE.load(Ordering::SeqCst)
    );
    println!("{balances:?} are {}", balances.iter().sum::<i64>());
}
