//! Tests of the workers' output.

use std::io::Write;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use crucial_platform::worker::FunctionError;
use crucial_platform::{Failure, LocalConfig, OutputSink, Platform, Stream};
use libtest_mimic::Trial;

use crate::invocations::{invocation, local, run, text};
use crate::trials;

/// Makes workers print a line when they start.
const GREET_VARIABLE: &str = "PLATFORM_TEST_GREET";

pub fn trials() -> Vec<Trial> {
    trials![
        lines_come_before_the_result,
        many_lines_come_in_order,
        long_lines_come_in_pieces,
        characters_are_not_cut,
        invalid_utf8_is_replaced,
        lines_before_the_first_event,
        a_failure_contains_the_last_lines,
        endless_output_does_not_block_invocations,
        lines_between_invocations,
    ]
}

/// Prints a line, if the variable is set.
pub fn greet() {
    if std::env::var_os(GREET_VARIABLE).is_some() {
        println!("good morning");
    }
}

/// The worker's side of the tests.
pub fn print(what: &str) -> Result<Vec<u8>, FunctionError> {
    match what {
        "both" => {
            println!("one");
            eprintln!("wrong one");
            println!("two\r");
            eprintln!("wrong two");
            print!("half");
        }
        "many" => (0..20_000).for_each(|number| println!("{number}")),
        "long" => {
            println!("{}", "a".repeat(64 << 10));
            println!("{}", "b".repeat((128 << 10) + 1));
            println!("short");
        }
        // 64 KiB end in the middle of a character.
        "wide" => println!("a{}", "\u{20ac}".repeat(30_000)),
        "no text" => {
            let mut stdout = std::io::stdout();
            stdout
                .write_all(b"\xff\xfe ok \x80\n\n\xc3")
                .expect("the platform reads the output");
        }
        "and die" => {
            (0..12).for_each(|number| println!("{number}"));
            eprint!("the end");
            std::process::abort();
        }
        "without end" => {
            // Writing is faster than the platform's reading, so that the pipe is never empty.
            std::thread::spawn(|| {
                let lines = [b'\n'; 64 << 10];
                while std::io::stdout().write_all(&lines).is_ok() {}
            });
        }
        _ => {}
    }
    Ok(Vec::new())
}

type Line = (Stream, String, String);

/// A sink that records all lines.
#[derive(Default)]
pub struct RecordingSink(Mutex<Vec<Line>>);

impl RecordingSink {
    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl OutputSink for RecordingSink {
    fn line(&self, stream: Stream, thread: &str, line: &str) {
        let line = (stream, thread.to_owned(), line.to_owned());
        self.0.lock().unwrap().push(line);
    }
}

/// The lines that arrived before the result.
fn lines_of(config: LocalConfig, payload: &str) -> Vec<Line> {
    let sink = Arc::new(RecordingSink::default());
    let platform = local(LocalConfig {
        output: sink.clone(),
        ..config
    });
    let (sender, lines) = mpsc::channel();
    let mut named = invocation(payload);
    named.name = "printer".to_owned();
    let done = move |result: Result<_, _>| {
        result.unwrap();
        sender.send(sink.0.lock().unwrap().clone()).unwrap();
    };
    platform.invoke(named, Box::new(done));
    lines.recv().unwrap()
}

fn lines_of_stream(lines: &[Line], wanted: Stream) -> Vec<&str> {
    let of_stream = lines.iter().filter(|(stream, ..)| *stream == wanted);
    of_stream.map(|(_, _, line)| line.as_str()).collect()
}

fn lines_come_before_the_result() {
    let lines = lines_of(LocalConfig::default(), "print both");
    assert_eq!(
        lines_of_stream(&lines, Stream::Stdout),
        ["one", "two\r", "half"]
    );
    assert_eq!(
        lines_of_stream(&lines, Stream::Stderr),
        ["wrong one", "wrong two"]
    );
    assert!(
        lines.iter().all(|(_, name, _)| name == "printer"),
        "{lines:?}"
    );
}

fn many_lines_come_in_order() {
    let lines = lines_of(LocalConfig::default(), "print many");
    let expected: Vec<String> = (0..20_000).map(|number| number.to_string()).collect();
    assert_eq!(lines_of_stream(&lines, Stream::Stdout), expected);
}

fn long_lines_come_in_pieces() {
    let lines = lines_of(LocalConfig::default(), "print long");
    let lengths: Vec<usize> = lines.iter().map(|(_, _, line)| line.len()).collect();
    assert_eq!(lengths, [64 << 10, 64 << 10, 64 << 10, 1, 5]);
}

fn characters_are_not_cut() {
    let lines = lines_of(LocalConfig::default(), "print wide");
    let pieces = lines_of_stream(&lines, Stream::Stdout);
    assert_eq!(pieces.len(), 2);
    assert!(pieces.concat() == format!("a{}", "\u{20ac}".repeat(30_000)));
}

fn invalid_utf8_is_replaced() {
    let lines = lines_of(LocalConfig::default(), "print no text");
    let replaced = ["\u{fffd}\u{fffd} ok \u{fffd}", "", "\u{fffd}"];
    assert_eq!(lines_of_stream(&lines, Stream::Stdout), replaced);
}

fn lines_before_the_first_event() {
    let config = LocalConfig {
        env: vec![(GREET_VARIABLE.into(), "1".into())],
        ..LocalConfig::default()
    };
    let lines = lines_of(config, "print both");
    let (stream, name, line) = &lines[0];
    assert_eq!((*stream, line.as_str()), (Stream::Stdout, "good morning"));
    let pid: Option<u32> = name
        .strip_prefix("worker ")
        .and_then(|pid| pid.parse().ok());
    assert!(pid.is_some(), "{name}");
    assert!(
        lines[1..].iter().all(|(_, name, _)| name == "printer"),
        "{lines:?}"
    );
}

fn a_failure_contains_the_last_lines() {
    let platform = local(LocalConfig {
        output: Arc::new(RecordingSink::default()),
        ..LocalConfig::default()
    });
    let failure = run(&platform, "print and die").unwrap_err();
    let Failure::WorkerDied { reason, output } = &failure else {
        panic!("{failure:?}");
    };
    assert_eq!(reason, "signal 6 (SIGABRT)");
    assert_eq!(output.len(), 10);
    assert_eq!(output.last().map(String::as_str), Some("the end"));
    assert!(failure.to_string().contains("\n  the end"), "{failure}");
}

/// A sink that discards all lines.
pub struct DiscardingSink;

impl OutputSink for DiscardingSink {
    fn line(&self, _: Stream, _: &str, _: &str) {}
}

fn endless_output_does_not_block_invocations() {
    let platform = local(LocalConfig {
        output: Arc::new(DiscardingSink),
        ..LocalConfig::default()
    });
    run(&platform, "print without end").unwrap();
    for _ in 0..10 {
        assert_eq!(text(run(&platform, "echo heard")), "heard");
    }
}

/// A sink that forwards the prefix of each line.
struct NameSink(Mutex<mpsc::Sender<String>>);

impl OutputSink for NameSink {
    fn line(&self, _: Stream, name: &str, _: &str) {
        // Sending fails once the test has ended.
        let _ = self.0.lock().unwrap().send(name.to_owned());
    }
}

fn lines_between_invocations() {
    let (sender, names) = mpsc::channel();
    let platform = local(LocalConfig {
        output: Arc::new(NameSink(Mutex::new(sender))),
        ..LocalConfig::default()
    });
    run(&platform, "print without end").unwrap();
    let next = || {
        names
            .recv_timeout(Duration::from_secs(60))
            .expect("the worker continues to print")
    };
    while !next().starts_with("worker ") {}
}
