//! What the workers of these tests do: payloads are a word and its argument.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::str::from_utf8;
use std::time::SystemTime;

use crucial_platform::worker::{Context, FunctionError, Handler};

use crate::output;

pub struct Tester;

impl Handler for Tester {
    fn run(&self, context: &Context, payload: &[u8]) -> Result<Vec<u8>, FunctionError> {
        if let Some(rest) = payload.strip_prefix(b"echo ") {
            return Ok(rest.to_vec());
        }
        let text = from_utf8(payload).map_err(|error| failed(&error.to_string()))?;
        let (word, argument) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "pid" => Ok(std::process::id().to_string().into_bytes()),
            "variable" => Ok(told(argument).into_bytes()),
            "script" => Ok(Command::new("sh")
                .args(["-c", argument])
                .output()
                .expect("there is a shell")
                .stdout),
            "thread" => Ok(std::thread::current().name().unwrap_or_default().into()),
            "deadline" => Ok(seconds_left(context).to_string().into_bytes()),
            "error" => Err(FunctionError {
                error_type: "Refused".to_owned(),
                message: "it is \"closed\"\non Sundays".to_owned(),
                location: Some("shop.rs:7:9".to_owned()),
            }),
            "panic" => panic!("it broke"),
            "large" => Ok(vec![7; argument.parse().expect("a size")]),
            "exit" => std::process::exit(argument.parse().expect("a status")),
            "meet" => meet(context, argument),
            "print-and-meet" => {
                println!("a line");
                eprint!("and half a");
                meet(context, argument)
            }
            "hold" => {
                // Until this process ends.
                std::mem::forget(connect(context, argument));
                Ok(Vec::new())
            }
            "allocate" => {
                let megabytes: usize = argument.parse().expect("megabytes");
                Ok(vec![1_u8; megabytes << 20])
            }
            "touch-stack" => {
                let deep = touch_stack(argument.parse().expect("a depth"));
                std::thread::park();
                Ok(vec![deep])
            }
            "print" => output::print(argument),
            _ => Err(failed("an unknown word")),
        }
    }
}

fn failed(message: &str) -> FunctionError {
    FunctionError {
        error_type: "Tester".to_owned(),
        message: message.to_owned(),
        location: None,
    }
}

/// A variable that this process was started with.
fn told(name: &str) -> String {
    let all = std::fs::read_to_string("/proc/self/environ").expect("text");
    let mut variables = all.split('\0').filter_map(|one| one.split_once('='));
    let found = variables.find(|(its, _)| *its == name);
    found.map_or_else(String::new, |(_, value)| value.to_owned())
}

fn seconds_left(context: &Context) -> u64 {
    let deadline = context.deadline.expect("a deadline");
    deadline
        .duration_since(SystemTime::now())
        .map_or(0, |left| left.as_secs())
}

/// Comes to a meeting, and tells who this is.
fn connect(context: &Context, address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the meeting is open");
    let api = told("AWS_LAMBDA_RUNTIME_API");
    writeln!(
        stream,
        "{} {} {api}",
        std::process::id(),
        context.request_id
    )
    .expect("told");
    stream
}

/// Stays at a meeting until it is over.
fn meet(context: &Context, address: &str) -> Result<Vec<u8>, FunctionError> {
    let mut stream = connect(context, address);
    let mut word = [0];
    match stream.read(&mut word) {
        Ok(1) => Ok(word.to_vec()),
        other => Err(failed(&format!("the meeting was left: {other:?}"))),
    }
}

/// Makes so many pieces of 64 KiB of the stack resident.
#[inline(never)]
fn touch_stack(pieces: usize) -> u8 {
    let piece = std::hint::black_box([1_u8; 64 << 10]);
    let below = if pieces > 1 {
        touch_stack(pieces - 1)
    } else {
        0
    };
    std::hint::black_box(&piece)[pieces] | below
}
