//! A pipeline: numbers go through stages, each a thread, on channels.

use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread;

fn produce(limit: u64, out: SyncSender<u64>) {
    for n in 1..=limit {
        out.send(n).expect("the next stage is there");
    }
}

fn square(from: Receiver<u64>, out: SyncSender<(u64, u64)>) {
    for n in from {
        if out.send((n, n * n)).is_err() {
            break;
        }
    }
}

fn keep_odd(from: Receiver<(u64, u64)>, out: Sender<String>) -> usize {
    let mut dropped = 0;
    while let Ok((n, square)) = from.recv() {
        if square % 2 == 1 {
            out.send(format!("{n}^2 = {square}")).unwrap();
        } else {
            dropped += 1;
        }
    }
    dropped
}

fn main() {
    let (numbers, from_numbers) = mpsc::sync_channel(4);
    let (squares, from_squares) = mpsc::sync_channel(0);
    let (lines, from_lines) = mpsc::channel();
    let mut stages = vec![
        thread::spawn(move || produce(20, numbers)),
        thread::spawn(move || square(from_numbers, squares)),
    ];
    let last = thread::spawn(move || keep_odd(from_squares, lines));
    let mut count = 0;
    for line in &from_lines {
        println!("{line}");
        count += 1;
    }
    stages.drain(..).for_each(|stage| stage.join().unwrap());
    println!("{count} kept, {} dropped", last.join().unwrap());
    assert!(from_lines.recv().is_err());
}
