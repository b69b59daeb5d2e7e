//! Channels, whose ends travel.

use crucial::std;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use crucial::cloud;
use serde::{Deserialize, Serialize};

use crate::Outcome;

#[cloud]
pub fn send_all(from: u32, sender: Sender<u32>) {
    for n in from..from + 10 {
        sender.send(n).unwrap();
    }
}

#[cloud]
fn send_one_and_die(sender: Sender<u32>) {
    sender.send(1000).unwrap();
    std::process::abort();
}

/// Drops its end early, and then waits for what the receiver says.
#[cloud]
fn send_and_wait(sender: Sender<u32>, answer: Receiver<u32>) -> u32 {
    sender.send(7).unwrap();
    drop(sender);
    answer.recv().unwrap()
}

pub fn j03_a_channel_ends_with_its_threads() -> Outcome {
    let (sender, receiver) = mpsc::channel();
    let mut threads = Vec::new();
    for from in [0, 10, 20] {
        let sender = sender.clone();
        threads.push(thread::spawn(move || send_all(from, sender)));
    }
    drop(sender);
    let mut items: Vec<u32> = receiver.iter().collect();
    items.sort_unstable();
    assert!(items.into_iter().eq(0..30));
    for thread in threads {
        thread.join().unwrap();
    }

    let (sender, receiver) = mpsc::channel();
    let dies = thread::spawn(move || send_one_and_die(sender));
    assert!(receiver.into_iter().eq([1000]));
    assert!(dies.join().is_err());

    let (sender, receiver) = mpsc::channel();
    let (say, answer) = mpsc::channel();
    let waits = thread::spawn(move || send_and_wait(sender, answer));
    say.send(receiver.iter().sum()).unwrap();
    assert_eq!(waits.join().unwrap(), 7);
    Ok(())
}

#[cloud]
fn receive(count: usize, receiver: Receiver<u32>) -> u32 {
    receiver.iter().take(count).sum()
}

#[cloud]
fn receive_in_two_attempts(receiver: Receiver<u32>, attempts: Arc<AtomicUsize>) -> u32 {
    let first = receiver.recv().unwrap();
    assert!(attempts.fetch_add(1, SeqCst) > 0, "after the first item");
    first + receiver.iter().take(2).sum::<u32>()
}

#[cloud]
fn receive_and_die(receiver: Receiver<u32>) {
    receiver.recv().unwrap();
    std::process::abort();
}

pub fn j03_a_channel_ends_when_its_receiver_is_gone() -> Outcome {
    for bound in [0, 1, 5] {
        let (sender, receiver) = mpsc::sync_channel(bound);
        let thread = thread::spawn(move || receive(3, receiver));
        let sent = (1..).take_while(|n| sender.send(*n).is_ok()).count();
        assert!((3..=3 + bound).contains(&sent), "{sent} of {bound}");
        assert_eq!(thread.join().unwrap(), 6);

        let (sender, receiver) = mpsc::sync_channel(bound);
        let thread = thread::spawn(move || receive_and_die(receiver));
        let sent = (1..).take_while(|n| sender.send(*n).is_ok()).count();
        assert!((1..=1 + bound).contains(&sent), "{sent} of {bound}");
        assert!(thread.join().is_err());
    }
    // The end of an attempt that panics is the next one's.
    let (sender, receiver) = mpsc::channel();
    let attempts = Arc::new(AtomicUsize::new(0));
    let thread = {
        let attempts = attempts.clone();
        let builder = thread::Builder::new().retries(1);
        builder.spawn(move || receive_in_two_attempts(receiver, attempts))
    };
    (1..=4).for_each(|n| sender.send(n).unwrap());
    assert_eq!(thread.unwrap().join().unwrap(), 9);
    // A task that is dropped gives its ends back.
    let (sender, receiver) = mpsc::channel::<u32>();
    drop(send_all(0, sender));
    assert_eq!(
        receiver.recv_timeout(Duration::from_secs(60)),
        Err(RecvTimeoutError::Disconnected)
    );
    Ok(())
}

/// A question, and where its answer goes.
#[derive(Serialize, Deserialize)]
struct Question {
    n: u32,
    answer: Sender<u32>,
}

#[cloud]
fn answer(questions: Receiver<Question>) {
    for Question { n, answer } in questions {
        answer.send(2 * n).unwrap();
    }
}

pub fn j03_channels_travel_through_channels() -> Outcome {
    let (ask, questions) = mpsc::channel();
    let thread = thread::spawn(move || answer(questions));
    for n in 0..10 {
        let (answer, answers) = mpsc::channel();
        ask.send(Question { n, answer }).unwrap();
        assert!(answers.into_iter().eq([2 * n]));
    }
    drop(ask);
    thread.join().unwrap();
    Ok(())
}
