//! Channels.

use std::sync::Arc;

use crucial_std::sync::mpsc::{self, Receiver, Sender, SyncSender, TryRecvError};
use shuttle::thread;

use crate::schedules::{explore, join, spawn, travel};

const ITEMS: [u64; 3] = [1, 2, 3];

/// The items of one sender come in their order.
fn check(received: &[u64], senders: u64) {
    for sender in 0..senders {
        let of_it = received.iter().filter(|item| *item / 10 == sender);
        let of_it: Vec<u64> = of_it.map(|item| item % 10).collect();
        assert_eq!(of_it, ITEMS, "of sender {sender} in {received:?}");
    }
    assert_eq!(received.len() as u64, senders * ITEMS.len() as u64);
}

fn send_bounded(sender: &SyncSender<u64>, number: u64) {
    ITEMS.map(|item| sender.send(number * 10 + item).unwrap());
}

/// One sends here, one from another process; the other end is here.
fn senders_travel(bound: usize) {
    let (sender, receiver) = mpsc::sync_channel(bound);
    let sender = Arc::new(sender);
    let threads = [
        spawn(&sender, |sender| send_bounded(sender, 0)),
        spawn(&sender, |sender| send_bounded(&travel(sender), 1)),
    ];
    drop(sender);
    check(&receiver.iter().collect::<Vec<_>>(), 2);
    join(threads);
}

/// The receiver goes to another process, with items or senders that wait.
fn receiver_travels(bound: usize) {
    let (sender, receiver) = mpsc::sync_channel(bound);
    let sends = [0, 1].map(|number| {
        let sender = sender.clone();
        thread::spawn(move || send_bounded(&sender, number))
    });
    drop(sender);
    let receives = thread::spawn(move || {
        let mut received = vec![receiver.recv().unwrap()];
        let other = travel(&receiver);
        drop(receiver);
        received.extend(other.iter());
        received
    });
    check(&receives.join().unwrap(), 2);
    join(sends);
}

#[test]
fn senders_of_a_channel_without_room_travel() {
    explore(|| senders_travel(0));
}

#[test]
fn senders_of_a_channel_with_a_bound_travel() {
    explore(|| senders_travel(1));
}

#[test]
fn the_receiver_of_a_channel_without_room_travels() {
    explore(|| receiver_travels(0));
}

#[test]
fn the_receiver_of_a_channel_with_a_bound_travels() {
    explore(|| receiver_travels(1));
}

#[test]
fn both_ends_of_a_channel_without_a_bound_travel() {
    explore(|| {
        let (sender, receiver) = mpsc::channel();
        let send = |sender: &Sender<u64>, number: u64| {
            ITEMS.map(|item| sender.send(number * 10 + item).unwrap());
        };
        let here = {
            let sender = sender.clone();
            thread::spawn(move || send(&sender, 0))
        };
        let there = thread::spawn(move || {
            let other = travel(&sender);
            drop(sender);
            send(&other, 1);
        });
        let receives = thread::spawn(move || {
            let other: Receiver<u64> = travel(&receiver);
            drop(receiver);
            other.iter().collect::<Vec<_>>()
        });
        check(&receives.join().unwrap(), 2);
        join([here, there]);
    });
}

#[test]
fn whoever_waits_learns_that_the_other_end_is_gone() {
    explore(|| {
        let (sender, receiver) = mpsc::sync_channel::<u64>(0);
        let sender = Arc::new(sender);
        let threads = [
            spawn(&sender, |sender| sender.send(1).is_ok()),
            spawn(&sender, |sender| travel(sender).send(1).is_ok()),
        ];
        drop(sender);
        let sent = usize::from(receiver.recv().is_ok());
        drop(receiver);
        let ok = join(threads).into_iter().filter(|ok| *ok).count();
        assert_eq!((sent, ok), (1, 1));

        let (sender, receiver) = mpsc::channel::<u64>();
        let waits = thread::spawn(move || receiver.recv().is_err());
        let sender = Arc::new(sender);
        let travels = spawn(&sender, |sender| drop(travel(sender)));
        drop(sender);
        assert!(waits.join().unwrap());
        travels.join().unwrap();
    });
}

#[test]
fn what_is_only_tried_is_neither_lost_nor_doubled() {
    explore(|| {
        let (sender, receiver) = mpsc::sync_channel::<u64>(1);
        let sender = Arc::new(sender);
        let tries = |sender: &SyncSender<u64>| u64::from(sender.try_send(1).is_ok());
        let threads = [
            spawn(&sender, move |sender| tries(sender) + tries(sender)),
            spawn(&sender, move |sender| tries(&travel(sender))),
        ];
        drop(sender);
        let mut received = 0;
        loop {
            match receiver.try_recv() {
                Ok(item) => received += item,
                Err(TryRecvError::Empty) => thread::yield_now(),
                Err(TryRecvError::Disconnected) => break,
            }
        }
        assert_eq!(received, join(threads).into_iter().sum::<u64>());
    });
}
