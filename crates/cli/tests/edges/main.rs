//! K21, K26 to K28, K31 to K39: addresses, signals, exit statuses, values and standard input, by the command itself.

mod addresses;
mod signals;
mod values;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crucial_object::collections::{List, Map, Queue, Set};
use crucial_object::sync::{AtomicCell, Mutex, Promise};
use crucial_object::{Error, Shared, SharedType, caller};
use crucial_testing::{Executable, Server};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde::{Deserialize, Serialize};

const CRUCIAL: &str = env!("CARGO_BIN_EXE_crucial");

/// For what takes moments.
const PATIENCE: Duration = Duration::from_secs(20);

fn server() -> Server {
    Server::start(&Executable::crucial(CRUCIAL), &[]).unwrap()
}

/// The command, with all signals, whatever this process was started to ignore.
fn with_signals() -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP,INT,QUIT,USR1,USR2,ALRM,TERM", CRUCIAL]);
    command
}

fn command(server: &Server, words: &[&str]) -> Command {
    let mut command = with_signals();
    command.args(["--cluster", &server.address]).args(words);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

/// The exit status, and what was printed.
fn run(server: &Server, words: &[&str]) -> (i32, String) {
    let output = command(server, words).output().unwrap();
    said(&output)
}

fn said(output: &Output) -> (i32, String) {
    let status = output.status.code().unwrap_or(-1);
    let said = match output.stdout.is_empty() {
        true => text(&output.stderr),
        false => text(&output.stdout),
    };
    (status, said)
}

fn with_input(mut command: Command, input: &[u8]) -> (i32, String) {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // A command that fails reads no more.
        scope.spawn(move || drop(stdin.write_all(input)));
        said(&child.wait_with_output().unwrap())
    })
}

/// Waits until a process has ended, which need not be a child of this one.
fn await_end(process: Pid) {
    let Ok(process) = pidfd_open(process, PidfdFlags::empty()) else {
        // The process has ended, and its parent knows.
        return;
    };
    let patience = Timespec::try_from(PATIENCE).unwrap();
    let mut ended = [PollFd::new(&process, PollFlags::IN)];
    let count = poll(&mut ended, Some(&patience)).unwrap();
    assert_eq!(count, 1, "the process does not end");
}

fn wait(child: &mut Child) -> std::process::ExitStatus {
    await_end(Pid::from_child(child));
    child.wait().unwrap()
}
