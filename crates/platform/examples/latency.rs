//! What a warm invocation takes, and what many at once take to start:
//! `cargo run --release -p crucial-platform --example latency`.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use crucial_platform::worker::{self, Context, FunctionError, Handler};
use crucial_platform::{Invocation, LocalConfig, LocalPlatform, Platform};

const WARM: usize = 5000;

struct Echo;

impl Handler for Echo {
    fn run(&self, _: &Context, payload: &[u8]) -> Result<Vec<u8>, FunctionError> {
        if payload == b"slow" {
            std::thread::sleep(Duration::from_secs(5));
        }
        Ok(payload.to_vec())
    }
}

fn main() -> std::io::Result<()> {
    if worker::is_worker() {
        worker::run(&Echo);
    }
    let platform = LocalPlatform::start(LocalConfig::default())?;
    let cold = Instant::now();
    invoke(&platform, 1, b"first");
    println!(
        "first invocation, with the start of its worker: {:?}",
        cold.elapsed()
    );

    for size in [16, 64 << 10, 1 << 20] {
        let payload = vec![7; size];
        let count = if size > 1000 { WARM / 20 } else { WARM };
        let mut times: Vec<Duration> = (0..count)
            .map(|_| {
                let start = Instant::now();
                invoke(&platform, 1, &payload);
                start.elapsed()
            })
            .collect();
        times.sort();
        println!(
            "warm, {size} bytes: p50 {:?}, p99 {:?}",
            times[times.len() / 2],
            times[times.len() * 99 / 100]
        );
    }

    for count in [100, 800] {
        let start = Instant::now();
        invoke(&platform, count, b"slow");
        println!("{count} at once that sleep for 5 s: {:?}", start.elapsed());
    }
    let start = Instant::now();
    invoke(&platform, 20_000, b"short");
    println!("20000 short ones: {:?}", start.elapsed());
    let start = Instant::now();
    platform.shutdown();
    println!("shutdown: {:?}", start.elapsed());
    Ok(())
}

/// Runs a payload so many times at once, and waits for all.
fn invoke(platform: &dyn Platform, count: usize, payload: &[u8]) {
    let (sender, results) = mpsc::channel();
    for _ in 0..count {
        let sender = sender.clone();
        let invocation = Invocation {
            name: "latency".to_owned(),
            payload: payload.to_vec(),
            memory_mb: None,
            time_limit: None,
        };
        platform.invoke(
            invocation,
            Box::new(move |result| drop(sender.send(result))),
        );
    }
    for _ in 0..count {
        let result = results.recv().expect("each invocation completes");
        assert_eq!(result.expect("an echo"), payload);
    }
}
