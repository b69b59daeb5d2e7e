//! H: what a shell expects of a command: signals, pipes, standard input, its environment and exit status.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crucial::sync::{AtomicI64, Mutex};
use crucial::{Error, Shared, cloud, thread};
use libtest_mimic::{Failed, Trial};
use rustix::process::{Pid, Signal, kill_process};

use crate::Outcome;
use crate::cli::{crucial, fails, output, says};
use crate::program::ROLE;
use crate::server::{self, SHORT_LEASE, SMALL_FRAMES, Server};
use crate::trials;
use crate::uploaded::COMMAND;

pub fn trials() -> Vec<Trial> {
    trials![
        h08_who_is_told_to_end_gives_its_place_up,
        h08_what_is_ignored_stays_ignored,
        h09_a_signal_is_passed_on_and_the_lock_stays,
        h09_the_exit_status_is_the_commands,
        h10_a_command_under_a_lock_knows_its_token_and_server,
        h10_a_command_that_cannot_be_run,
        h11_a_lock_that_was_lost_is_told,
        h11_a_command_outlives_its_killed_holder,
        h12_options_that_contradict_an_object,
        h13_standard_input_in_batches,
        h13_what_has_come_is_applied_at_once,
        h13_a_bad_line_is_named,
        h13_lines_of_all_kinds,
        h14_a_closed_pipe_is_no_error,
        h15_in_a_script_of_a_cloud_thread,
        h15_a_program_that_a_cloud_thread_starts,
    ]
}

/// Programs that look at the line of the lock; and one as any other.
pub fn program(name: &str) -> Option<crucial::Result<()>> {
    if name == "compute" {
        return Some(compute());
    }
    let least = match name {
        "wait-for-a-line" => 2,
        "look-at-the-line" => 0,
        _ => return None,
    };
    Some(look(least))
}

fn look(least: u64) -> crucial::Result<()> {
    let lock: Shared<Mutex<()>> = Shared::builder("lock").persistent().open()?;
    loop {
        let waiting = lock.waiting()?;
        if waiting >= least {
            println!("{waiting} wait");
            return Ok(());
        }
    }
}

/// The lease of a server is 10 s: what comes back sooner was given up.
const SOONER: Duration = Duration::from_secs(9);

/// Waits until the command says this.
fn until(server: &Server, words: &str, said: &str) -> Outcome {
    while String::from_utf8(output(server, words)?.stdout)?.trim_end() != said {}
    Ok(())
}

fn signal(process: &Child, signal: Signal) -> Outcome {
    Ok(kill_process(Pid::from_child(process), signal)?)
}

/// Whether whoever started the tests has them ignore a signal, as a shell has what it runs in the background.
fn is_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal.as_raw() - 1)) != 0)
}

fn heard(signals: impl IntoIterator<Item = Signal>) -> impl Iterator<Item = Signal> {
    signals.into_iter().filter(|signal| !is_ignored(*signal))
}

/// Starts a command with its pipes here. Like a job in the background, so that the terminal of whoever runs the
/// tests is not its own.
fn start(mut command: Command) -> Result<Child, Failed> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    Ok(command.spawn()?)
}

/// Starts a script under a lock.
fn under_lock(server: &Server, script: &str) -> Result<Child, Failed> {
    let mut command = crucial(server, "mutex lock run -- sh -c")?;
    command.arg(script);
    start(command)
}

/// The next line that it prints.
fn line(process: &mut Child) -> Result<String, Failed> {
    // A byte at a time, as nothing may be kept here.
    let stdout = process.stdout.as_mut().ok_or("no stdout")?;
    let mut line = String::new();
    BufReader::with_capacity(1, stdout).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

fn tell(process: &mut Child, text: &[u8]) -> Outcome {
    Ok(process.stdin.as_mut().ok_or("no stdin")?.write_all(text)?)
}

/// Runs a command on some input.
fn fed(server: &Server, words: &str, input: &[u8]) -> Result<Output, Failed> {
    let mut process = start(crucial(server, words)?)?;
    let mut stdin = process.stdin.take().ok_or("no stdin")?;
    // The command may end before it has read all.
    let _ = stdin.write_all(input);
    drop(stdin);
    Ok(process.wait_with_output()?)
}

/// Its exit status, and what it says of errors.
fn fed_and_fails(server: &Server, words: &str, input: &[u8]) -> Result<(i32, String), Failed> {
    let output = fed(server, words, input)?;
    let code = output.status.code().ok_or("it was killed")?;
    Ok((code, String::from_utf8(output.stderr)?))
}

fn is_locked(server: &Server) -> Result<bool, Failed> {
    Ok(output(server, "mutex lock is-locked")?.status.success())
}

fn h08_who_is_told_to_end_gives_its_place_up() -> Outcome {
    let server = Server::start(&[])?;
    let begin = Instant::now();
    for told in heard([Signal::TERM, Signal::INT, Signal::HUP]) {
        let waiting = start(crucial(&server, "barrier gate wait --parties 2")?)?;
        until(&server, "barrier gate waiting", "1")?;
        signal(&waiting, told)?;
        let output = waiting.wait_with_output()?;
        assert_eq!(output.status.signal(), Some(told.as_raw()));
        assert!(output.stdout.is_empty() && output.stderr.is_empty());
        assert_eq!(says(&server, "barrier gate waiting")?, "0");
    }
    // One in a line, behind who has the lock: the next gets it.
    let mut holder = under_lock(&server, "echo held; read line")?;
    assert_eq!(line(&mut holder)?, "held");
    let waiting = start(crucial(&server, "mutex lock run -- echo never")?)?;
    let next = start(crucial(&server, "mutex lock run -- echo next")?)?;
    assert_eq!(server.run("wait-for-a-line")?, "2 wait\n");
    signal(&waiting, Signal::TERM)?;
    assert!(waiting.wait_with_output()?.stdout.is_empty());
    assert_eq!(server.run("look-at-the-line")?, "1 wait\n");
    tell(&mut holder, b"\n")?;
    assert!(holder.wait()?.success());
    assert_eq!(next.wait_with_output()?.stdout, b"next\n");
    assert!(begin.elapsed() < SOONER);
    Ok(())
}

fn h08_what_is_ignored_stays_ignored() -> Outcome {
    let server = Server::start(&[])?;
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "trap '' HUP; exec \"$0\" crucial barrier gate wait --parties 2",
        ])
        .arg(std::env::current_exe()?)
        .envs(server.environment());
    let waiting = start(command)?;
    until(&server, "barrier gate waiting", "1")?;
    signal(&waiting, Signal::HUP)?;
    assert_eq!(says(&server, "barrier gate wait")?, "leader");
    assert_eq!(waiting.wait_with_output()?.stdout, b"through\n");
    Ok(())
}

fn h09_a_signal_is_passed_on_and_the_lock_stays() -> Outcome {
    let server = Server::start(&[])?;
    for told in heard([Signal::TERM, Signal::INT, Signal::HUP]) {
        let script = format!(
            "trap 'echo told; read line; exit 5' {}; echo ready; while :; do sleep 0.01; done",
            told.as_raw()
        );
        let mut running = under_lock(&server, &script)?;
        assert_eq!(line(&mut running)?, "ready");
        signal(&running, told)?;
        assert_eq!(line(&mut running)?, "told");
        assert!(is_locked(&server)?);
        tell(&mut running, b"end\n")?;
        assert_eq!(running.wait()?.code(), Some(5));
        assert!(!is_locked(&server)?);
    }
    Ok(())
}

fn h09_the_exit_status_is_the_commands() -> Outcome {
    let server = Server::start(&[])?;
    // One that does not care for a signal ends by it.
    let mut running = under_lock(&server, "echo ready; exec sleep 100")?;
    assert_eq!(line(&mut running)?, "ready");
    signal(&running, Signal::TERM)?;
    assert_eq!(running.wait()?.code(), Some(128 + Signal::TERM.as_raw()));
    for (script, code) in [("kill -9 $$", 137), ("exit 255", 255), ("exit 3", 3)] {
        let status = under_lock(&server, script)?.wait()?;
        assert_eq!(status.code(), Some(code));
    }
    assert!(!is_locked(&server)?);
    // All that is printed is the command's.
    assert_eq!(says(&server, "mutex lock run --json -- echo {}")?, "{}");
    Ok(())
}

/// Addresses of servers in the order of their names: any order will do.
fn sorted(addresses: &str) -> Vec<&str> {
    let mut addresses: Vec<_> = addresses.split(',').collect();
    addresses.sort_unstable();
    addresses
}

fn h10_a_command_under_a_lock_knows_its_token_and_server() -> Outcome {
    let server = Server::start(&[])?;
    for under in ["mutex lock run", "semaphore one --permits 1 run"] {
        let mut last = 0;
        for _ in 0..2 {
            let words = format!("--cluster {} {under} -- sh -c", server.address);
            let mut command = crucial(&server, &words)?;
            command
                .arg("echo $CRUCIAL_TOKEN $CRUCIAL_CLUSTER")
                .env_remove("CRUCIAL_CLUSTER");
            let said = String::from_utf8(command.output()?.stdout)?;
            let (token, address) = said.trim_end().split_once(' ').ok_or("not both")?;
            assert_eq!(sorted(address), sorted(&server.address));
            let token: u64 = token.parse()?;
            assert!(token > last, "{token} after {last}");
            last = token;
        }
    }
    Ok(())
}

fn h10_a_command_that_cannot_be_run() -> Outcome {
    let server = Server::start(&[])?;
    let (code, error) = fails(&server, "mutex lock run -- no-such-command")?;
    assert!(
        code == 127 && error.starts_with("crucial: no-such-command: "),
        "{error}"
    );
    let file = tempfile::NamedTempFile::new()?;
    let words = format!("semaphore one --permits 1 run -- {}", file.path().display());
    let (code, error) = fails(&server, &words)?;
    assert!(code == 126 && error.contains("denied"), "{error}");
    assert!(!is_locked(&server)?);
    assert_eq!(says(&server, "semaphore one available")?, "1");
    Ok(())
}

fn h11_a_lock_that_was_lost_is_told() -> Outcome {
    let server = Server::start(&SHORT_LEASE)?;
    for (ends, code) in [("exit 0", 1), ("exit 7", 7)] {
        let mut first = under_lock(&server, &format!("echo held; read line; {ends}"))?;
        assert_eq!(line(&mut first)?, "held");
        // The holder is silent for longer than its lease and taken for dead; its command runs on.
        signal(&first, Signal::STOP)?;
        while is_locked(&server)? {}
        let mut second = under_lock(&server, "echo held; read line")?;
        assert_eq!(line(&mut second)?, "held");
        signal(&first, Signal::CONT)?;
        tell(&mut first, b"\n")?;
        let output = first.wait_with_output()?;
        let error = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.contains("may have been lost"), "{error}");
        // The second has it still.
        assert!(is_locked(&server)?);
        tell(&mut second, b"\n")?;
        assert!(second.wait()?.success());
    }
    Ok(())
}

/// As `docs/cli.md` says of SIGKILL.
fn h11_a_command_outlives_its_killed_holder() -> Outcome {
    let server = Server::start(&SHORT_LEASE)?;
    let mut first = under_lock(&server, "echo held; read line; echo late $CRUCIAL_TOKEN")?;
    assert_eq!(line(&mut first)?, "held");
    first.kill()?;
    while is_locked(&server)? {}
    let second = under_lock(&server, "echo $CRUCIAL_TOKEN")?.wait_with_output()?;
    let second: u64 = String::from_utf8(second.stdout)?.trim_end().parse()?;
    tell(&mut first, b"\n")?;
    let late = line(&mut first)?;
    let late: u64 = late.strip_prefix("late ").ok_or("not late")?.parse()?;
    assert!(late < second);
    first.wait()?;
    Ok(())
}

fn h12_options_that_contradict_an_object() -> Outcome {
    let server = Server::start(&[])?;
    let wait = "barrier gate wait --timeout 10ms --parties";
    assert_eq!(fails(&server, &format!("{wait} 4"))?.0, 124);
    let (code, error) = fails(&server, &format!("{wait} 5"))?;
    let said = "\"gate\" was created with --parties 4, not 5: leave --parties out";
    assert!(code == 1 && error.contains(said), "{error}");

    says(&server, "queue jobs --capacity 2 push one")?;
    says(&server, "queue jobs --capacity 2 push two")?;
    let (code, error) = fails(&server, "queue jobs --capacity 3 push three")?;
    let said = "\"jobs\" was created with --capacity 2, not 3";
    assert!(code == 1 && error.contains(said), "{error}");
    assert_eq!(
        fails(&server, "queue jobs push three --timeout 10ms")?.0,
        124
    );
    assert_eq!(says(&server, "queue jobs len")?, "2");
    says(&server, "queue endless push one")?;
    let (code, error) = fails(&server, "queue endless --capacity 3 len")?;
    let said = "\"endless\" was created without --capacity, not 3";
    assert!(code == 1 && error.contains(said), "{error}");

    assert_eq!(says(&server, "latch start --count 3 down")?, "2");
    assert_eq!(says(&server, "latch start --count 3 get")?, "2");
    let (code, error) = fails(&server, "latch start --count 1 down")?;
    let said = "\"start\" has the count 2, more than 1: leave --count out";
    assert!(code == 1 && error.contains(said), "{error}");
    assert_eq!(says(&server, "latch start get")?, "2");
    Ok(())
}

fn h13_standard_input_in_batches() -> Outcome {
    // Far less than a batch.
    let server = Server::start(&SMALL_FRAMES)?;
    let input: String = (0..30_000).map(|n| format!("key{} 1\n", n % 100)).collect();
    let output = fed(&server, "map counts merge -", input.as_bytes())?;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(says(&server, "map counts len")?, "100");
    assert_eq!(says(&server, "map counts get key99")?, "300");
    let input: String = (0..20_000).map(|n| format!("{n}\n")).collect();
    let output = fed(&server, "list numbers push -", input.as_bytes())?;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(says(&server, "list numbers range 19998 9")?, "19998\n19999");
    // One line that is too long by itself.
    let long = "x".repeat(40_001);
    let input = format!("one\ntwo\n{long}\nthree\n");
    let (code, error) = fed_and_fails(&server, "list words push -", input.as_bytes())?;
    assert!(
        code == 1 && error.contains("line 3 of standard input: over the limit frame_bytes_max"),
        "{error}"
    );
    assert_eq!(says(&server, "list words all")?, "one\ntwo");
    Ok(())
}

fn h13_what_has_come_is_applied_at_once() -> Outcome {
    let server = Server::start(&[])?;
    let mut process = start(crucial(&server, "list words push -")?)?;
    tell(&mut process, b"one\ntw")?;
    until(&server, "list words all", "one")?;
    tell(&mut process, b"o")?;
    drop(process.stdin.take());
    assert!(process.wait()?.success());
    assert_eq!(says(&server, "list words all")?, "one\ntwo");
    Ok(())
}

fn h13_a_bad_line_is_named() -> Outcome {
    let server = Server::start(&[])?;
    let merge = "map counts merge -";
    let (code, error) = fed_and_fails(&server, merge, b"a 1\n\nb 2\nc\nd 4\n")?;
    assert_eq!(
        (code, error.as_str()),
        (
            1,
            "crucial: line 4 of standard input: \"c\" is not a line \"KEY VALUE\" of two words: with blanks in them, put a tab between the two (the 3 lines before it are applied)\n"
        )
    );
    assert_eq!(says(&server, "map counts entries")?, "a\t1\nb\t2");
    let (code, error) = fed_and_fails(&server, merge, b"a many\n")?;
    assert!(
        code == 1 && error.contains("line 1 of standard input: \"many\" is not a whole number"),
        "{error}"
    );
    // Only the server knows what is wrong with it.
    let input = format!("c 1\nd 1\na {}\ne 1\n", i64::MAX);
    let (code, error) = fed_and_fails(&server, merge, input.as_bytes())?;
    assert!(
        code == 1
            && error.contains("line 3 of standard input")
            && error.contains("the 2 lines before it are applied"),
        "{error}"
    );
    assert_eq!(says(&server, "map counts keys")?, "a\nb\nc\nd");
    let push = "queue jobs --capacity 2 push - --timeout 20ms";
    let (code, error) = fed_and_fails(&server, push, b"one\ntwo\nthree\n")?;
    assert!(
        code == 124 && error.contains("line 3 of standard input"),
        "{error}"
    );
    Ok(())
}

fn h13_lines_of_all_kinds() -> Outcome {
    let server = Server::start(&[])?;
    let printed = |words: &str, input: &[u8]| -> Result<String, Failed> {
        let output = fed(&server, words, input)?;
        assert!(output.status.success(), "{words}: {output:?}");
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    };
    assert_eq!(printed("set colours add -", b"red\ngreen\nred\n")?, "2");
    assert_eq!(printed("set colours remove -", b"red\nblue")?, "1");
    assert_eq!(printed("queue jobs push -", b"one\ntwo\n")?, "");
    assert_eq!(says(&server, "queue jobs pop")?, "one");
    assert_eq!(
        printed("log events write -", b"it starts\n\nit ends\n")?,
        ""
    );
    let lines = says(&server, "log events lines")?;
    let texts: Vec<_> = lines
        .lines()
        .map(|line| line.splitn(3, ' ').nth(2))
        .collect();
    assert_eq!(texts, [Some("it starts"), Some(""), Some("it ends")]);
    // A dash among others is one.
    assert_eq!(printed("list words push a -", b"never\n")?, "");
    assert_eq!(says(&server, "list words all")?, "a\n-");
    assert_eq!(printed("list words push -", b"")?, "");
    assert_eq!(says(&server, "list words len")?, "2");
    Ok(())
}

fn h14_a_closed_pipe_is_no_error() -> Outcome {
    let server = Server::start(&[])?;
    says(&server, "list words push one two three")?;
    says(&server, "log events write it works")?;
    for words in [
        "list words all",
        "list words all --json",
        "log events follow",
        "set colours contains red",
    ] {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let output = crucial(&server, words)?
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()?
            .wait_with_output()?;
        let error = String::from_utf8(output.stderr)?;
        let code = if words.contains("contains") { 3 } else { 0 };
        assert_eq!(
            (output.status.code(), error.as_str()),
            (Some(code), ""),
            "{words}"
        );
    }
    // A closed pipe for errors is no error of the command either.
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let mut command = crucial(&server, "list words remove 9")?;
    assert_eq!(command.stderr(writer).status()?.code(), Some(1));
    Ok(())
}

/// Variables of a process.
type Environment = Vec<(String, String)>;

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// What a script says.
#[cloud]
fn script(script: String, environment: Environment) -> crucial::Result<String> {
    let output = Command::new("sh")
        .args(["-c", &script])
        .envs(environment)
        .output()?;
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8(text).map_err(Error::other)
}

/// A script does not see the variables of the worker that runs it. Run with the `crucial` command too, where there is one.
fn h15_in_a_script_of_a_cloud_thread() -> Outcome {
    let server = Server::start(&[])?;
    let crucial = match *COMMAND {
        Some(command) => format!("'{command}'"),
        None => format!("'{}' crucial", std::env::current_exe()?.display()),
    };
    let words = format!(
        "test -z \"$AWS_LAMBDA_RUNTIME_API\" && {crucial} counter hits add 5 && \
         {crucial} mutex lock run -- {crucial} counter hits add 2"
    );
    let environment = server.environment().map(owned).into();
    let said = thread::spawn(script(words, environment)).join()??;
    assert_eq!(said, "5\n7\n");
    assert_eq!(says(&server, "counter hits get")?, "7");
    Ok(())
}

#[cloud]
fn double(number: u64) -> u64 {
    2 * number
}

/// A program with an object and a cloud thread of its own.
fn compute() -> crucial::Result<()> {
    let sum = Shared::new(AtomicI64::new(1))?;
    let doubled = thread::spawn(double(20)).join()?;
    println!("{}", sum.fetch_add(1)? + doubled as i64);
    Ok(())
}

/// What this executable says when a cloud thread runs it as a program.
#[cloud]
fn start_compute(environment: Environment) -> crucial::Result<String> {
    let output = Command::new(std::env::current_exe()?)
        .envs(environment)
        .env(ROLE, "compute")
        .output()?;
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8(text).map_err(Error::other)
}

fn h15_a_program_that_a_cloud_thread_starts() -> Outcome {
    let environment = match server::is_cluster() {
        true => Server::start(&[])?.environment().map(owned).into(),
        false => Environment::new(),
    };
    for _ in 0..2 {
        let said = thread::spawn(start_compute(environment.clone())).join()??;
        assert_eq!(said, "41\n");
    }
    Ok(())
}
