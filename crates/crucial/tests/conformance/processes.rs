//! K10, K18 to K22, K24, K25: what a cloud thread has of its process and its machine, and what it leaves there.

#![allow(unsafe_code)]

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crucial::collections::List;
use crucial::sync::{AtomicI64, Barrier};
use crucial::{Config, Error, Result, Shared, cloud, thread};
use libtest_mimic::{Failed, Trial};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_bytes::ByteBuf;

use crate::Outcome;
use crate::program::{Program, read_command};
use crate::server;
use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        k10_arguments_and_results_have_any_size,
        k18_settings_of_a_program_hold_for_all_its_threads,
        k18_the_limit_of_threads_counts_those_that_threads_start,
        k19_a_thread_begins_with_the_programs_surroundings,
        k20_a_thread_has_the_memory_limit_that_it_was_given,
        k21_what_a_thread_starts_ends_with_the_program,
        k22_a_program_is_the_first_of_a_container,
        k22_a_thread_that_asks_the_terminal_is_not_stopped,
        k24_a_program_that_is_built_anew_goes_on,
        k25_few_open_files_mean_fewer_threads_at_once,
        k25_few_processes_mean_fewer_threads_at_once,
    ]
}

/// Programs of these tests.
pub fn program(name: &str) -> Option<Result<()>> {
    Some(match name {
        "limits" => limits(),
        "surroundings" => surroundings(),
        "own-child" => own_child(),
        "ask" => ask(),
        "two-threads" => two_threads(),
        "forty-threads" => forty_threads(),
        _ => return None,
    })
}

/// Megabytes, so that the test is not about the time that debug builds take for single elements.
#[cloud]
fn reversed(mut bytes: ByteBuf) -> ByteBuf {
    bytes.reverse();
    bytes
}

fn k10_arguments_and_results_have_any_size() -> Outcome {
    let bytes = |i: u32| i.wrapping_mul(2_654_435_761).to_le_bytes()[3];
    // Within a payload, at its limit, and far beyond it.
    for size in [10, 4 << 20, (4 << 20) + 1, 100_000_000] {
        let sent: Vec<u8> = (0..size).map(bytes).collect();
        let task = reversed(ByteBuf::from(sent.clone()));
        let got = thread::spawn(task).join()?;
        assert!(got.iter().eq(sent.iter().rev()), "{size} bytes");
    }
    // Also of an exactly-once thread, and through a thread that a thread starts.
    let sent: Vec<u8> = (0..10_000_000).map(bytes).collect();
    let task = reversed(ByteBuf::from(sent.clone()));
    let got = thread::Builder::new().exactly_once().spawn(task)?.join()?;
    assert!(got.iter().eq(sent.iter().rev()));
    let got = thread::spawn(reversed_by_another(ByteBuf::from(sent.clone()))).join()??;
    assert!(got.iter().eq(sent.iter().rev()));
    Ok(())
}

#[cloud]
fn reversed_by_another(bytes: ByteBuf) -> Result<ByteBuf> {
    thread::spawn(reversed(bytes)).join()
}

#[cloud]
fn allocate(megabytes: usize) -> usize {
    std::hint::black_box(vec![1_u8; megabytes << 20]).len()
}

/// `None` if the program's limit of memory ends the thread that this one starts.
#[cloud]
fn allocate_in_another(megabytes: usize) -> Result<Option<usize>> {
    match thread::spawn(allocate(megabytes)).join() {
        Ok(length) => Ok(Some(length)),
        Err(Error::MemoryLimit { limit_mb: 77, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn limits() -> Result<()> {
    let mut config = Config::from_env()?;
    config.memory_mb = 77;
    crucial::init(config)?;
    let own = thread::spawn(allocate(200)).join();
    let nested = thread::spawn(allocate_in_another(200)).join()??;
    let small = thread::spawn(allocate_in_another(2)).join()??;
    println!("{} {nested:?} {small:?}", own.is_err());
    Ok(())
}

fn output(mut command: Command) -> std::result::Result<(String, String), Failed> {
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8(output.stderr)?;
    Ok((String::from_utf8(output.stdout)?, said))
}

fn k18_settings_of_a_program_hold_for_all_its_threads() -> Outcome {
    let (printed, said) = output(Program::command("limits")?)?;
    assert_eq!(printed, "true None Some(2097152)\n", "{said}");
    Ok(())
}

#[cloud]
fn be_there(now: Shared<AtomicI64>, most: Shared<AtomicI64>) -> Result<()> {
    most.fetch_max(now.fetch_add(1)? + 1)?;
    // The work of this thread, long enough that all that may run at once do.
    std::thread::sleep(std::time::Duration::from_millis(100));
    now.fetch_sub(1)?;
    Ok(())
}

#[cloud]
fn start_four(now: Shared<AtomicI64>, most: Shared<AtomicI64>) -> Result<()> {
    now.fetch_add(1)?;
    let threads = (0..4).map(|_| thread::spawn(be_there(now.clone(), most.clone())));
    thread::join_all(threads.collect::<Vec<_>>())?;
    now.fetch_sub(1)?;
    Ok(())
}

fn k18_the_limit_of_threads_counts_those_that_threads_start() -> Outcome {
    let mut command = Program::command("forty-threads")?;
    command.env("CRUCIAL_CONCURRENCY", "5");
    let (printed, said) = output(command)?;
    assert_eq!(printed, "40 threads, 5 at once\n", "{said}");
    Ok(())
}

/// Two threads that start four each, five times.
fn forty_threads() -> Result<()> {
    let now = Shared::new(AtomicI64::new(0))?;
    let most = Shared::new(AtomicI64::new(0))?;
    for _ in 0..5 {
        let threads = (0..2).map(|_| thread::spawn(start_four(now.clone(), most.clone())));
        thread::join_all(threads.collect::<Vec<_>>())?;
    }
    println!("40 threads, {} at once", most.load()?);
    Ok(())
}

/// Working directory, umask and two variables.
type Seen = (String, u32, Option<String>, Option<String>);

const VARIABLES: [&str; 2] = ["CRUCIAL_TEST_ONE", "CRUCIAL_TEST_TWO"];

fn see() -> Seen {
    let mask = rustix::process::umask(Mode::empty());
    rustix::process::umask(mask);
    let directory =
        std::env::current_dir().map_or_else(|e| e.to_string(), |d| d.display().to_string());
    let [one, two] = VARIABLES.map(|name| std::env::var(name).ok());
    (directory, mask.as_raw_mode(), one, two)
}

#[cloud]
fn look() -> Seen {
    see()
}

#[cloud]
fn look_by_another() -> Result<Seen> {
    thread::spawn(look()).join()
}

#[cloud]
fn spoil() -> Result<u32> {
    change("/", 0o077, Some("spoilt"), None);
    Ok(std::process::id())
}

/// Changes this process's surroundings.
fn change(directory: &str, mask: u32, one: Option<&str>, two: Option<&str>) {
    std::env::set_current_dir(directory).expect("it is there");
    rustix::process::umask(Mode::from_raw_mode(mask));
    for (name, value) in VARIABLES.into_iter().zip([one, two]) {
        // SAFETY: no other thread of this process reads the environment but by the standard library.
        match value {
            Some(value) => unsafe { std::env::set_var(name, value) },
            None => unsafe { std::env::remove_var(name) },
        }
    }
}

fn surroundings() -> Result<()> {
    let directory = tempfile::tempdir().map_err(Error::other)?;
    let directory = directory.path().canonicalize().map_err(Error::other)?;
    let directory = directory.to_str().expect("it is text");
    // One thread spoils its worker, which is the next one's.
    thread::spawn(spoil()).join()??;
    assert_eq!(thread::spawn(look()).join()?, see());
    // The program changes what it has.
    change(directory, 0o027, None, Some("two"));
    assert_eq!(thread::spawn(look()).join()?, see());
    assert_eq!(see().1, 0o027);
    thread::spawn(spoil()).join()??;
    let named = thread::Builder::new().env(VARIABLES[0], "named");
    let seen = named.clone().spawn(look())?.join()?;
    let expected = (
        directory.to_owned(),
        0o027,
        Some("named".to_owned()),
        Some("two".to_owned()),
    );
    assert_eq!(seen, expected);
    // A thread that a thread starts has what that one has.
    assert_eq!(named.spawn(look_by_another())?.join()??, expected);
    assert_eq!(thread::spawn(look()).join()?, see());
    assert_eq!(thread::map(0..3, |_| look())?, vec![see(); 3]);
    change("/", 0o022, Some("one"), None);
    assert_eq!(thread::spawn(look()).join()?, see());
    let refused = thread::Builder::new().env("A=B", "").spawn(look());
    assert!(matches!(refused, Err(Error::Config { .. })));
    println!("as they are");
    Ok(())
}

fn k19_a_thread_begins_with_the_programs_surroundings() -> Outcome {
    let mut command = Program::command("surroundings")?;
    command
        .env(VARIABLES[0], "from the start")
        .env("CRUCIAL_CONCURRENCY", "2");
    let (printed, said) = output(command)?;
    assert_eq!(printed, "as they are\n", "{said}");
    Ok(())
}

#[cloud]
fn allocate_more_in_another(megabytes: usize) -> Result<usize> {
    let larger = thread::Builder::new().memory_mb(1000);
    larger.spawn(allocate(megabytes))?.join()
}

fn k20_a_thread_has_the_memory_limit_that_it_was_given() -> Outcome {
    // The thread that it is started by may use less.
    let small = thread::Builder::new().memory_mb(100);
    let allocated = small.spawn(allocate_more_in_another(300))?.join()??;
    assert_eq!(allocated, 300 << 20);
    Ok(())
}

#[cloud]
fn start_a_child(pids: Shared<List<u32>>, barrier: Shared<Barrier>) -> Result<()> {
    // Its output is closed, so that who reads this program's output does not wait for it.
    let child = Command::new("sleep")
        .arg("1000")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    pids.push(child.map_err(Error::other)?.id())?;
    barrier.wait()?;
    barrier.wait()?;
    Ok(())
}

/// Prints the process that a thread has started, and ends when it is told.
fn own_child() -> Result<()> {
    let pids = Shared::new(List::new())?;
    let barrier = Shared::new(Barrier::new(2))?;
    let _thread = thread::spawn(start_a_child(pids.clone(), barrier.clone()));
    barrier.wait()?;
    println!("{}", pids.get(0)?.unwrap_or_default());
    read_command();
    Ok(())
}

/// Waits until a process, which need not be a child of this one, has ended.
fn has_ended(pid: Pid) -> bool {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return true;
    };
    let limit = Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    let process = process.as_fd();
    poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)) == Ok(1)
}

fn k21_what_a_thread_starts_ends_with_the_program() -> Outcome {
    for signal in [Signal::KILL, Signal::INT, Signal::TERM, Signal::HUP] {
        let own = Program::command("own-child")?;
        let mut program = Program::start_command(by(&WITH_SIGNALS, &own))?;
        let child = program.line()?.parse().ok().and_then(Pid::from_raw);
        let child = child.ok_or("no process")?;
        program.signal(signal)?;
        program.wait()?;
        assert!(has_ended(child), "{signal:?}");
    }
    // Also if the program was started with all signals blocked.
    let own = Program::command("own-child")?;
    let mut program = Program::start_command(by(&["env", "--block-signal"], &own))?;
    let child = program.line()?.parse().ok().and_then(Pid::from_raw);
    program.kill()?;
    assert!(child.is_some_and(has_ended));
    let mut program = Program::start("own-child", None)?;
    let child = program.line()?.parse().ok().and_then(Pid::from_raw);
    program.tell("end")?;
    assert_eq!(program.wait()?, Some(0));
    assert!(child.is_some_and(has_ended));
    Ok(())
}

/// With all signals, whatever this process was started to ignore.
const WITH_SIGNALS: [&str; 2] = ["env", "--default-signal=HUP,INT,TERM"];

/// As the first process of a namespace, as a container has one.
const FIRST: [&str; 7] = [
    "env",
    "--default-signal=HUP,INT,TERM",
    "unshare",
    "--pid",
    "--fork",
    "--mount-proc",
    "--kill-child",
];

/// The same program, by way of another one.
fn by(way: &[&str], program: &Command) -> Command {
    let mut command = Command::new(way[0]);
    command.args(&way[1..]).arg(program.get_program());
    set_variables(&mut command, program);
    command
}

/// The same program as a copy of its file.
fn at(copy: &Path, program: &Command) -> Command {
    let mut command = Command::new(copy);
    set_variables(&mut command, program);
    command
}

fn set_variables(command: &mut Command, program: &Command) {
    let variables = program.get_envs();
    command.envs(variables.filter_map(|(name, value)| Some((name, value?))));
}

/// Whether this process may do what another program does for it.
fn is_possible(way: &[&str]) -> bool {
    let mut command = by(way, &Command::new("true"));
    command.status().is_ok_and(|status| status.success())
}

/// The children of a process.
fn children(parent: Pid) -> Vec<Pid> {
    let path = format!("/proc/{0}/task/{0}/children", parent.as_raw_nonzero());
    let children = std::fs::read_to_string(path).unwrap_or_default();
    let children = children.split_ascii_whitespace().map(str::parse);
    children.flatten().filter_map(Pid::from_raw).collect()
}

fn k22_a_program_is_the_first_of_a_container() -> Outcome {
    if !is_possible(&FIRST) {
        eprintln!("k22: no namespaces here, so that no program is the first of one");
        return Ok(());
    }
    let own = Program::command("own-child")?;
    for (signal, expected) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut program = Program::start_command(by(&FIRST, &own))?;
        assert!(program.line()?.parse::<u32>().is_ok());
        // Its number is another one here.
        let unshare = Pid::from_raw(program.id().cast_signed()).ok_or("no process")?;
        let first = *children(unshare).first().ok_or("no first process")?;
        kill_process(first, signal)?;
        assert!(has_ended(first), "{signal:?}");
        assert_eq!(program.wait()?, Some(expected));
    }
    // A program that ends by itself.
    let mut program = Program::start_command(by(&FIRST, &own))?;
    program.line()?;
    program.tell("end")?;
    assert_eq!(program.wait()?, Some(0));
    Ok(())
}

#[cloud]
fn read_terminal() -> Result<bool> {
    let script = "read line </dev/tty";
    let mut shell = Command::new("sh");
    let status = shell.args(["-c", script]).stderr(Stdio::null()).status();
    Ok(status.map_err(Error::other)?.success())
}

fn ask() -> Result<()> {
    let answered = thread::spawn(read_terminal()).join()??;
    println!("answered: {answered}");
    Ok(())
}

/// On a terminal of its own, which script(1) makes.
fn k22_a_thread_that_asks_the_terminal_is_not_stopped() -> Outcome {
    let own = Program::command("ask")?;
    let program = Path::new(own.get_program()).display().to_string();
    let mut command = Command::new("timeout");
    command.args(["60", "script", "--quiet", "--return", "--command", &program]);
    command.arg("/dev/null");
    set_variables(&mut command, &own);
    let (printed, said) = output(command)?;
    assert_eq!(printed.trim_end(), "answered: false", "{said}");
    Ok(())
}

/// Starts a thread, and when it is told another, in another worker.
fn two_threads() -> Result<()> {
    let barrier = Shared::new(Barrier::new(2))?;
    let first = thread::spawn(meet(barrier.clone()));
    println!("started");
    read_command();
    let second = thread::spawn(meet(barrier));
    first.join()??;
    second.join()??;
    println!("met");
    Ok(())
}

#[cloud]
fn meet(barrier: Shared<Barrier>) -> Result<()> {
    barrier.wait().map(drop)
}

fn k24_a_program_that_is_built_anew_goes_on() -> Outcome {
    let directory = tempfile::tempdir()?;
    let copy = directory.path().join("program");
    std::fs::copy(std::env::current_exe()?, &copy)?;
    let own = Program::command("two-threads")?;
    let mut program = Program::start_command(at(&copy, &own))?;
    assert_eq!(program.line()?, "started");
    let built = directory.path().join("built");
    std::fs::write(&built, "#!/bin/sh\nexit 7\n")?;
    std::fs::set_permissions(&built, std::fs::Permissions::from_mode(0o755))?;
    std::fs::rename(&built, &copy)?;
    program.tell("go on")?;
    assert_eq!(program.line()?, "met");
    Ok(())
}

fn k25_few_open_files_mean_fewer_threads_at_once() -> Outcome {
    let own = Program::command("forty-threads")?;
    let (printed, said) = output(by(&["prlimit", "--nofile=120"], &own))?;
    assert!(printed.starts_with("40 threads"), "{printed}{said}");
    // Too few for any: said at once, each time with the same words.
    for limit in ["8", "10", "12", "14", "16", "40"] {
        let begun = Instant::now();
        let files = format!("--nofile={limit}");
        let (printed, said) = output(by(&["prlimit", &files], &own))?;
        let all = printed + &said;
        let expected =
            format!("may have {limit} open files here (`ulimit -n`), and at least 64 are needed");
        assert!(all.contains(&expected), "{limit}: {all}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{limit}: {all}");
    }
    Ok(())
}

/// With a limit, and as a user whom the limit of processes holds for, unlike the administrator.
fn as_nobody(limit: &str) -> [&str; 6] {
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    ["prlimit", limit, "setpriv", nobody[0], nobody[1], nobody[2]]
}

fn k25_few_processes_mean_fewer_threads_at_once() -> Outcome {
    if !is_possible(&as_nobody("--nproc=80")) {
        eprintln!("k25: no other user here, and the limit of processes does not hold for this one");
        return Ok(());
    }
    // Where that user can reach it.
    let directory = tempfile::tempdir()?;
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))?;
    let copy = directory.path().join("program");
    std::fs::copy(std::env::current_exe()?, &copy)?;
    let own = Program::command("forty-threads")?;
    let mut there = at(&copy, &own);
    there.env("TMPDIR", "/tmp").env("XDG_RUNTIME_DIR", "");
    let (printed, said) = output(by(&as_nobody("--nproc=80"), &there))?;
    assert!(printed.starts_with("40 threads"), "{printed}{said}");
    // With servers elsewhere there is room for a worker sooner, which then tries to get a thread to connect with for as long as
    // its patience lasts.
    let most = if server::is_cluster() { 5 } else { 16 };
    for limit in 1..=most {
        let (printed, said) = output(by(&as_nobody(&format!("--nproc={limit}")), &there))?;
        let all = printed + &said;
        assert!(!all.contains("temporarily unavailable"), "{limit}: {all}");
        assert!(
            all.contains("ulimit -u") || all.contains("40 threads"),
            "{limit}: {all}"
        );
        if limit <= 8 {
            let expected = format!("may have {limit}, and a program with a worker needs");
            assert!(all.contains(&expected), "{all}");
        }
    }
    Ok(())
}
