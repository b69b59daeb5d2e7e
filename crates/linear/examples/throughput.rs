//! Measures the check of 5000 operations by 8 clients on one register, some of them unanswered: once as recorded, and
//! once with a wrong output. `cargo run --release -p crucial-linear --example throughput`.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crucial_linear::models::{Register, RegisterInput as Input, RegisterOutput as Output};
use crucial_linear::{History, Recorder, check};

const CLIENTS: u64 = 8;
const OPERATIONS: u64 = 5000;

type Log = History<(), Input, Output>;

fn main() {
    let history = record();
    report("as recorded", &history);
    let mut operations = history.operations().to_vec();
    let last = operations
        .iter_mut()
        .rev()
        .find_map(|operation| match &mut operation.answer {
            Some((Output::Value(value), _)) => Some(value),
            _ => None,
        });
    if let Some(value) = last {
        *value += 1000;
    }
    report("with a wrong output", &operations.into());
}

fn record() -> Log {
    let number = AtomicI64::new(0);
    let recorder = Recorder::new();
    std::thread::scope(|scope| {
        for process in 0..CLIENTS {
            let (number, recorder) = (&number, &recorder);
            scope.spawn(move || {
                for round in 0..OPERATIONS / CLIENTS {
                    client(process, round, number, recorder);
                }
            });
        }
    });
    recorder.into_history()
}

fn client(process: u64, round: u64, number: &AtomicI64, recorder: &Recorder<(), Input, Output>) {
    let input = match (process + round) % 3 {
        0 => Input::Load,
        1 => Input::FetchAdd(1),
        _ => Input::Store(round as i64),
    };
    // The result is not needed: an `Err` is an operation without an answer.
    let _ = recorder.record(process, (), input, || {
        // The sleeps simulate a network, so that the calls overlap.
        std::thread::sleep(Duration::from_micros(50));
        let output = match input {
            Input::FetchAdd(more) => Output::Value(number.fetch_add(more, Ordering::SeqCst)),
            Input::Store(value) => {
                number.store(value, Ordering::SeqCst);
                Output::Done
            }
            _ => Output::Value(number.load(Ordering::SeqCst)),
        };
        std::thread::sleep(Duration::from_micros(50));
        if process == 0 && round % 100 == 99 {
            Err(())
        } else {
            Ok(output)
        }
    });
}

fn report(name: &str, history: &Log) {
    let start = Instant::now();
    let verdict = check(history, &Register::default());
    println!(
        "{} operations {name}: {:?}",
        history.operations().len(),
        start.elapsed()
    );
    if let Err(failure) = verdict {
        println!("{failure}");
    }
}
