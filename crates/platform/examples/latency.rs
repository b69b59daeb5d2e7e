//! Measures cold and warm invocations, and the start of many workers at once:
//! `cargo run --release -p crucial-platform --example latency`.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use crucial_platform::worker::{self, Context, FunctionError, Handler};
use crucial_platform::{Invocation, InvocationId, LocalConfig, LocalPlatform, Platform};

const COLD: u32 = 50;
const WARM: usize = 2000;

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
    invoke(&platform, 1, b"first");

    // A worker runs only invocations with its own memory limit, so that each of these needs a new worker.
    let memory_mb = 1000;
    let cold =
        (0..COLD).map(|index| time(|| invoke_with(&platform, 1, b"cold", Some(memory_mb + index))));
    report("cold (starts a worker)", cold.collect());

    for size in [16, 64 << 10, 1 << 20] {
        let payload = vec![7; size];
        let count = if size > 1000 { WARM / 20 } else { WARM };
        let warm = (0..count).map(|_| time(|| invoke(&platform, 1, &payload)));
        report(&format!("warm, {size} bytes"), warm.collect());
    }

    for count in [100, 800] {
        let taken = time(|| invoke(&platform, count, b"slow"));
        println!("{count} concurrent invocations that sleep for 5 s: {taken:?}");
    }
    let taken = time(|| invoke(&platform, 20_000, b"short"));
    println!("20000 short invocations: {taken:?}");
    let taken = time(|| platform.shutdown());
    println!("shutdown: {taken:?}");
    Ok(())
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("{what}: p50 {p50:?}, p99 {p99:?} of {}", times.len());
}

/// Runs a payload `count` times concurrently, and waits for all results.
fn invoke(platform: &dyn Platform, count: usize, payload: &[u8]) {
    invoke_with(platform, count, payload, None);
}

fn invoke_with(platform: &dyn Platform, count: usize, payload: &[u8], memory_mb: Option<u32>) {
    let (sender, results) = mpsc::channel();
    for _ in 0..count {
        let sender = sender.clone();
        let invocation = Invocation {
            id: InvocationId::next(),
            name: "latency".to_owned(),
            payload: payload.to_vec(),
            memory_mb,
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
