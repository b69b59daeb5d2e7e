//! The limits of time and memory.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crucial_platform::worker::FunctionError;
use crucial_platform::{Failure, Invocation, LocalConfig};
use libtest_mimic::Trial;
use rustix::mm::{MapFlags, ProtFlags};

use crate::invocations::{Outcome, invocation, local, run, start, text};
use crate::output::DiscardingSink;
use crate::rendezvous::{Rendezvous, is_reaped};
use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        a_worker_over_its_time_limit_is_killed,
        an_allocation_over_the_limit_fails,
        resident_memory_over_the_limit_fails,
        a_limit_with_which_no_worker_begins_is_refused,
        memory_may_be_unlimited,
        a_mapped_file_is_not_the_tasks_memory,
        the_memory_of_children_counts,
        the_limit_of_open_files_leaves_room_for_fewer,
    ]
}

fn a_worker_over_its_time_limit_is_killed() {
    let limit = Duration::from_millis(200);
    let platform = local(LocalConfig {
        time_limit_default: limit,
        ..LocalConfig::default()
    });
    let rendezvous = Rendezvous::new();
    let late = start(&platform, invocation(rendezvous.payload("wait")));
    let participant = rendezvous.participant();
    assert_eq!(late.wait(), Err(Failure::TimeLimit { limit }));
    assert!(is_reaped(participant.pid));
}

fn with_memory(payload: &str, memory_mb: u32) -> Invocation {
    let mut sized = invocation(payload);
    sized.memory_mb = Some(memory_mb);
    sized
}

#[track_caller]
fn assert_memory_limit(outcome: Outcome, expected_mb: u32) {
    match outcome {
        Err(Failure::MemoryLimit { limit_mb, .. }) => assert_eq!(limit_mb, expected_mb),
        other => panic!("{other:?}"),
    }
}

fn an_allocation_over_the_limit_fails() {
    // With a backtrace, the message that the platform looks for is not the last line.
    for backtrace in ["0", "1"] {
        let platform = local(LocalConfig {
            env: vec![("RUST_BACKTRACE".into(), backtrace.into())],
            output: Arc::new(DiscardingSink),
            ..LocalConfig::default()
        });
        let outcome = start(&platform, with_memory("allocate 200", 100)).wait();
        assert_memory_limit(outcome, 100);
        let outcome = start(&platform, with_memory("allocate 20", 100)).wait();
        assert_eq!(text(outcome), (20_u64 << 20).to_string());
    }
}

/// The main thread's stack is not part of the data segment, so that the worker's own limit does not cover it.
fn resident_memory_over_the_limit_fails() {
    let platform = local(LocalConfig::default());
    assert_eq!(
        text(start(&platform, with_memory("echo small", 7)).wait()),
        "small"
    );
    let outcome = start(&platform, with_memory("touch-stack 110", 7)).wait();
    assert_memory_limit(outcome, 7);
}

fn a_limit_with_which_no_worker_begins_is_refused() {
    let platform = local(LocalConfig {
        memory_mb_min: 32,
        ..LocalConfig::default()
    });
    let refused = start(&platform, with_memory("echo small", 31)).wait();
    let Err(Failure::Start { reason }) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        reason.contains("31 MB") && reason.contains("32 MB"),
        "{reason}"
    );
    let enough = start(&platform, with_memory("echo small", 32)).wait();
    assert_eq!(text(enough), "small");
}

fn memory_may_be_unlimited() {
    let platform = local(LocalConfig {
        memory_mb_default: None,
        ..LocalConfig::default()
    });
    assert_eq!(
        text(run(&platform, "variable AWS_LAMBDA_FUNCTION_MEMORY_SIZE")),
        ""
    );
    let allocated = text(run(&platform, "allocate 30"));
    assert_eq!(allocated, (30_u64 << 20).to_string());
}

/// Maps a file, reads all of it, and leaves it mapped. Returns its length, in bytes.
#[allow(unsafe_code)]
pub fn map(file: &str) -> usize {
    let file = File::open(file).expect("the file is there");
    let length = file.metadata().expect("it is open").len() as usize;
    // SAFETY: a new mapping, of a file that nothing changes.
    let bytes = unsafe {
        let start = rustix::mm::mmap(
            std::ptr::null_mut(),
            length,
            ProtFlags::READ,
            MapFlags::PRIVATE,
            &file,
            0,
        );
        std::slice::from_raw_parts(start.expect("it can be mapped").cast::<u8>(), length)
    };
    assert!(bytes.iter().step_by(4096).all(|byte| *byte == 0));
    length
}

fn a_mapped_file_is_not_the_tasks_memory() {
    let platform = local(LocalConfig::default());
    let path = std::env::temp_dir().join(format!("crucial-mapped-{}", std::process::id()));
    File::create(&path).unwrap().set_len(300 << 20).unwrap();
    let rendezvous = Rendezvous::new();
    let payload = format!("map-and-wait {} {}", rendezvous.address(), path.display());
    let mapper = start(&platform, with_memory(&payload, 100));
    let participant = rendezvous.participant();
    // Another that is over its limit is killed by a later look at both.
    assert_memory_limit(
        start(&platform, with_memory("touch-stack 110", 7)).wait(),
        7,
    );
    participant.release();
    assert_eq!(text(mapper.wait()), (300_u64 << 20).to_string());
    std::fs::remove_file(path).unwrap();
}

const HOLD_VARIABLE: &str = "CRUCIAL_TEST_HOLD_MB";

/// Holds some memory until this process is killed, if a variable says so.
pub fn hold_if_asked() {
    let Ok(megabytes) = std::env::var(HOLD_VARIABLE) else {
        return;
    };
    let megabytes: usize = megabytes.parse().expect("megabytes");
    let held = std::hint::black_box(vec![1_u8; megabytes << 20]);
    println!("{}", held.len());
    loop {
        std::thread::park();
    }
}

/// Starts processes that hold some memory each (`COUNT MEGABYTES`), and waits for ever when they have it.
pub fn hold_in_children(argument: &str) -> Result<Vec<u8>, FunctionError> {
    let (count, megabytes) = argument.split_once(' ').expect("a count and a size");
    let count: usize = count.parse().expect("a count");
    let children: Vec<_> = (0..count)
        .map(|_| {
            let mut child = Command::new("/proc/self/exe");
            child.env(HOLD_VARIABLE, megabytes).stdout(Stdio::piped());
            child.spawn().expect("it starts")
        })
        .collect();
    for mut child in children {
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
    }
    loop {
        std::thread::park();
    }
}

fn the_memory_of_children_counts() {
    let platform = local(LocalConfig::default());
    let outcome = start(&platform, with_memory("hold 3 60", 100)).wait();
    assert_memory_limit(outcome, 100);
}

/// In a process of its own, since the limit is the process's.
fn the_limit_of_open_files_leaves_room_for_fewer() {
    let limited = |files: u32, what: &str| {
        let own = std::env::current_exe().unwrap();
        let script = format!("ulimit -n {files} && exec \"$0\"");
        let output = Command::new("sh")
            .args(["-c", &script])
            .arg(own)
            .env(FILES_VARIABLE, what)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    // Room for three or four at once; the rest waits.
    assert_eq!(limited(70, "60"), "60 ran\n");
    let refused = limited(20, "1");
    assert!(
        refused.contains("may have 20 open files here (`ulimit -n`), and at least 64 are needed"),
        "{refused}"
    );
}

const FILES_VARIABLE: &str = "CRUCIAL_TEST_FILES";

/// Runs a number of invocations and prints how many ran, if a variable says so.
pub fn run_many_if_asked() {
    let Ok(count) = std::env::var(FILES_VARIABLE) else {
        return;
    };
    let platform = match crucial_platform::LocalPlatform::start(LocalConfig::default()) {
        Ok(platform) => platform,
        Err(error) => {
            println!("{error}");
            std::process::exit(0);
        }
    };
    let count: usize = count.parse().expect("a count");
    let all: Vec<_> = (0..count)
        .map(|_| start(&platform, invocation("script sleep 0.1")))
        .collect();
    let ran = all.into_iter().map(|started| started.wait());
    println!("{} ran", ran.filter(Result::is_ok).count());
    std::process::exit(0);
}
