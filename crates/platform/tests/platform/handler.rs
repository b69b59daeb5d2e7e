//! The handler of the tests' workers. A payload is a command and its argument.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::str::from_utf8;
use std::time::SystemTime;

use crucial_platform::worker::{Context, FunctionError, Handler};

use crate::{limits, nested, output};

pub struct Tester;

impl Handler for Tester {
    fn run(&self, context: &Context, payload: &[u8]) -> Result<Vec<u8>, FunctionError> {
        if let Some(rest) = payload.strip_prefix(b"echo ") {
            return Ok(rest.to_vec());
        }
        let text = from_utf8(payload).map_err(|error| failed(&error.to_string()))?;
        let (command, argument) = text.split_once(' ').unwrap_or((text, ""));
        match command {
            "pid" => Ok(std::process::id().to_string().into_bytes()),
            "variable" => Ok(initial_variable(argument).into_bytes()),
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
            "wait" => wait_for_release(context, argument),
            "print-and-wait" => {
                println!("a line");
                eprint!("and half a");
                wait_for_release(context, argument)
            }
            "connect" => {
                // The connection stays open until this process ends.
                std::mem::forget(connect(context, argument));
                Ok(Vec::new())
            }
            "allocate" => {
                let megabytes: usize = argument.parse().expect("megabytes");
                let bytes = std::hint::black_box(vec![1_u8; megabytes << 20]);
                Ok(bytes.len().to_string().into_bytes())
            }
            "touch-stack" => {
                let deep = touch_stack(argument.parse().expect("a depth"));
                std::thread::park();
                Ok(vec![deep])
            }
            "print" => output::print(argument),
            "invoke" => nested::invoke(argument),
            "invoke-and-cancel" => nested::invoke_and_cancel(argument),
            "connect-and-invoke" => {
                let (address, payload) = argument.split_once(' ').expect("an address");
                std::mem::forget(connect(context, address));
                nested::invoke(&format!("1 {payload}"))
            }
            "start-and-wait" => start_and_wait(context, argument),
            "map-and-wait" => {
                let (address, file) = argument.split_once(' ').expect("an address");
                let bytes = limits::map(file);
                wait_for_release(context, address)?;
                Ok(bytes.to_string().into_bytes())
            }
            "hold" => limits::hold_in_children(argument),
            _ => Err(failed("unknown command")),
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

/// The value that an environment variable had when this process was started.
fn initial_variable(name: &str) -> String {
    let environment = std::fs::read_to_string("/proc/self/environ").expect("text");
    let mut variables = environment
        .split('\0')
        .filter_map(|entry| entry.split_once('='));
    let found = variables.find(|(variable, _)| *variable == name);
    found.map_or_else(String::new, |(_, value)| value.to_owned())
}

fn seconds_left(context: &Context) -> u64 {
    let deadline = context.deadline.expect("a deadline");
    deadline
        .duration_since(SystemTime::now())
        .map_or(0, |left| left.as_secs())
}

/// Connects to a rendezvous and sends this worker's process id, request id and API address.
fn connect(context: &Context, address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the rendezvous listens");
    let api = initial_variable("AWS_LAMBDA_RUNTIME_API");
    writeln!(
        stream,
        "{} {} {api}",
        std::process::id(),
        context.request_id
    )
    .expect("the rendezvous reads");
    stream
}

/// Connects to a rendezvous and waits until the test releases this worker.
fn wait_for_release(context: &Context, address: &str) -> Result<Vec<u8>, FunctionError> {
    let mut stream = connect(context, address);
    let mut word = [0];
    match stream.read(&mut word) {
        Ok(1) => Ok(word.to_vec()),
        other => Err(failed(&format!("the rendezvous was closed: {other:?}"))),
    }
}

/// Starts a process that does nothing, says which at the rendezvous, and waits there.
fn start_and_wait(context: &Context, address: &str) -> Result<Vec<u8>, FunctionError> {
    let child = Command::new("sleep").arg("1000").spawn();
    let child = child.map_err(|error| failed(&error.to_string()))?;
    let mut stream = connect(context, address);
    writeln!(stream, "{}", child.id()).expect("the rendezvous reads");
    let mut word = [0];
    let read = stream.read(&mut word);
    read.map_err(|error| failed(&error.to_string()))?;
    Ok(word.to_vec())
}

/// Makes `pieces` times 64 KiB of the stack resident.
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
