//! K28 to K39: addresses, signals, exit statuses, values and standard input, by the command itself.

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

#[test]
fn k33_every_signal_that_ends_a_process_lets_a_server_leave() {
    for signal in [
        Signal::HUP,
        Signal::USR1,
        Signal::QUIT,
        Signal::ALARM,
        Signal::TERM,
    ] {
        let mut server = with_signals()
            .args(["server", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().contains("ready"));
        kill_process(Pid::from_child(&server), signal).unwrap();
        assert_eq!(wait(&mut server).code(), Some(0), "{signal:?}");
    }
}

#[test]
fn k21_no_server_outlives_crucial_up_however_that_ends() {
    for signal in [Signal::KILL, Signal::HUP, Signal::TERM] {
        let mut up = with_signals()
            .args(["up", "-n", "2", "--port", "7411"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(up.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().contains("ready"));
        let id = Pid::from_child(&up);
        let children = format!("/proc/{0}/task/{0}/children", id.as_raw_nonzero());
        let children = std::fs::read_to_string(children).unwrap();
        let children: Vec<Pid> = children
            .split_whitespace()
            .filter_map(|id| Pid::from_raw(id.parse().unwrap()))
            .collect();
        assert_eq!(children.len(), 2);
        kill_process(id, signal).unwrap();
        wait(&mut up);
        for child in children {
            await_end(child);
        }
    }
}

#[test]
fn k34_run_passes_every_signal_on_that_ends_a_process() {
    let server = server();
    for signal in [
        Signal::ABORT,
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::HUP,
        Signal::TERM,
    ] {
        let script =
            "trap 'exit 7' ABRT USR1 USR2 ALRM HUP TERM; echo runs; while :; do sleep 0.05; done";
        let mut holder = command(&server, &["mutex", "m", "run", "--", "sh", "-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "runs");
        kill_process(Pid::from_child(&holder), signal).unwrap();
        assert_eq!(wait(&mut holder).code(), Some(7), "{signal:?}");
        assert_eq!(run(&server, &["mutex", "m", "is-locked"]).1, "false");
        // A command that makes a call ends by the signal itself.
        let mut waiting = command(&server, &["queue", "q", "pop"]).spawn().unwrap();
        while run(&server, &["--json", "cluster", "objects"]).1.is_empty() {}
        kill_process(Pid::from_child(&waiting), signal).unwrap();
        assert_eq!(wait(&mut waiting).signal(), Some(signal.as_raw()));
    }
}

#[test]
fn k35_a_parent_that_ignores_its_children_changes_nothing() {
    let server = server();
    let output = Command::new("env")
        .args([
            "--ignore-signal=CHLD",
            CRUCIAL,
            "--cluster",
            &server.address,
        ])
        .args(["mutex", "m", "run", "--", "sh", "-c", "sh -c 'exit 7'"])
        .output()
        .unwrap();
    assert_eq!(said(&output), (7, String::new()));
}

#[test]
fn k36_numbers_that_json_does_not_have_are_printed() {
    let server = server();
    for number in ["inf", "-inf", "NaN"] {
        let put = ["map", "m", "--values", "float", "put", "k", number];
        assert_eq!(run(&server, &put).0, 0);
        let get = ["map", "m", "--values", "float", "get", "k"];
        assert_eq!(run(&server, &get), (0, number.to_owned()));
        let entries = ["--json", "map", "m", "--values", "float", "entries"];
        assert_eq!(
            run(&server, &entries),
            (0, format!("[[\"k\",\"{number}\"]]"))
        );
    }
    for number in ["1e400", "-1e999"] {
        let put = ["map", "m", "--values", "float", "put", "k"];
        let (status, error) = run(&server, &[&put[..], &["--", number]].concat());
        assert!(status != 0 && error.contains(number), "{error}");
    }
}

#[test]
fn k36_values_of_another_type_are_refused_with_both() {
    let server = server();
    for (values, value, kind) in [
        ("int", "5", "i64"),
        ("float", "2.5", "f64"),
        // As long as a number.
        ("text", "seventy", "String"),
    ] {
        let with = |words: &[&str]| {
            let map = ["map", values, "--values"];
            run(&server, &[&map[..], words].concat())
        };
        assert_eq!(with(&[values, "put", "k", value]).0, 0);
        for (other, other_kind) in [("int", "i64"), ("float", "f64"), ("text", "String")] {
            if other == values {
                continue;
            }
            for operation in [
                &["get", "k"][..],
                &["put", "k", "1"],
                &["remove", "k"],
                &["merge", "k", "1", "--how", "max"],
                &["entries"],
                &["top", "1"],
            ] {
                let (status, error) = with(&[&[other], operation].concat());
                assert_eq!(status, 1, "{values} as {other}, {operation:?}: {error}");
                for part in [
                    format!("{values:?} is a crucial::Map<String, {kind}> "),
                    format!("as a crucial::Map<String, {other_kind}>:"),
                ] {
                    assert!(error.contains(&part), "{operation:?}: {error}");
                }
            }
            // Keys and their number are those of any map.
            assert_eq!(with(&[other, "keys"]), (0, "k".to_owned()));
            assert_eq!(with(&[other, "len"]), (0, "1".to_owned()));
        }
        assert_eq!(with(&[values, "get", "k"]), (0, value.to_owned()));
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Job {
    number: u64,
}

#[test]
fn k36_objects_of_programs_are_not_read_as_others() {
    let server = server();
    fn make<T: SharedType + Serialize>(key: &str, init: T) -> Shared<T> {
        Shared::builder(key).persistent().create(init).unwrap()
    }
    caller::with(server.client().unwrap(), || {
        make("a-keys", Map::<u64, i64>::from_iter([(1, 2)]));
        make("a-values", Map::<String, Job>::new());
        make("a-list", List::from(vec![1u64]));
        make("a-set", Set::from_iter([1u8]));
        make("a-queue", Queue::<Job>::new(3));
        make("a-cell", AtomicCell::new(2.5f64));
        make("a-promise", Promise::<Option<i64>>::new());
        make("a-mutex", Mutex::new(5i64));
        // A name for a number is a number; a program may say less than it knows, or more than another does.
        #[derive(Clone, Serialize, Deserialize)]
        struct Count(i64);
        make("counts", Map::<String, i64>::new());
        let counts = Shared::<Map<String, Count>>::builder("counts").persistent();
        counts
            .open()
            .unwrap()
            .insert("k".to_owned(), Count(7))
            .unwrap();
        // The program itself is refused as well.
        let other = Shared::<List<String>>::open("a-list").unwrap_err();
        assert!(matches!(other, Error::Refused { .. }), "{other}");
        let other = Shared::builder("a-list")
            .persistent()
            .create(List::<i64>::new());
        assert!(matches!(other, Err(Error::Refused { .. })));
        let again = Shared::builder("a-list").persistent().recreate();
        again.create(List::from(vec![1u64, 2])).unwrap();
    });
    for (words, theirs, ours) in [
        (
            &["map", "a-keys", "get", "1"][..],
            "crucial::Map<u64, i64>",
            "crucial::Map<String, i64>",
        ),
        (
            &["map", "a-keys", "keys"],
            "crucial::Map<u64, i64>",
            "crucial::Map<String, _>",
        ),
        (
            &["map", "a-values", "entries"],
            "crucial::Map<String, Job>",
            "crucial::Map<String, i64>",
        ),
        (
            &["list", "a-list", "all"],
            "crucial::List<u64>",
            "crucial::List<String>",
        ),
        (
            &["list", "a-list", "push", "x"],
            "crucial::List<u64>",
            "crucial::List<String>",
        ),
        (
            &["set", "a-set", "add", "x"],
            "crucial::Set<u8>",
            "crucial::Set<String>",
        ),
        (
            &["queue", "a-queue", "push", "x"],
            "crucial::Queue<Job>",
            "crucial::Queue<String>",
        ),
        (
            &["queue", "a-queue", "pop"],
            "crucial::Queue<Job>",
            "crucial::Queue<String>",
        ),
        (
            &["cell", "a-cell", "get"],
            "crucial::AtomicCell<f64>",
            "crucial::AtomicCell<String>",
        ),
        (
            &["cell", "a-cell", "cas", "a", "b"],
            "crucial::AtomicCell<f64>",
            "crucial::AtomicCell<String>",
        ),
        (
            &["promise", "a-promise", "set", "x"],
            "crucial::Promise<Option<i64>>",
            "crucial::Promise<String>",
        ),
        (
            &["mutex", "a-mutex", "run", "--", "true"],
            "crucial::Mutex<i64>",
            "crucial::Mutex<()>",
        ),
    ] {
        let (status, error) = run(&server, words);
        assert_eq!(status, 1, "{words:?}: {error}");
        assert!(
            error.contains(&format!("is a {theirs} ")) && error.contains(&format!("as a {ours}:")),
            "{words:?}: {error}"
        );
    }
    for (words, expected) in [
        (&["map", "a-values", "len"][..], (0, "0")),
        (&["map", "counts", "get", "k"], (0, "7")),
        (&["list", "a-list", "len"], (0, "2")),
        (&["set", "a-set", "len"], (0, "1")),
        (&["queue", "a-queue", "len"], (0, "0")),
        (&["mutex", "a-mutex", "is-locked"], (3, "false")),
        (&["delete", "map", "a-keys"], (0, "true")),
        (&["delete", "cell", "a-cell"], (0, "true")),
        (&["cell", "a-cell", "set", "text"], (0, "")),
    ] {
        let (status, said) = run(&server, words);
        assert_eq!((status, said.as_str()), expected, "{words:?}");
    }
}

#[test]
fn k37_a_variable_that_is_no_text_is_an_error() {
    let server = server();
    assert_eq!(
        run(&server, &["counter", "c", "add", "5"]),
        (0, "5".to_owned())
    );
    for name in ["CRUCIAL_NAMESPACE", "CRUCIAL_REPLICAS", "CRUCIAL_RUN"] {
        let mut clear = command(&server, &["clear"]);
        let output = clear
            .env(name, OsStr::from_bytes(b"caf\xe9"))
            .output()
            .unwrap();
        let (status, error) = said(&output);
        assert!(status == 1 && error.contains(name), "{error}");
    }
    assert_eq!(run(&server, &["counter", "c", "get"]), (0, "5".to_owned()));
}

#[test]
fn k38_a_line_of_a_merge_is_two_words() {
    let server = server();
    let merge = |values: &str, line: &str| {
        let how = if values == "text" { "append" } else { "max" };
        let words = [
            "map", values, "--values", values, "merge", "--how", how, "-",
        ];
        with_input(command(&server, &words), line.as_bytes())
    };
    assert_eq!(merge("text", "alice hello\n"), (0, String::new()));
    let get = ["map", "text", "--values", "text", "get", "alice"];
    assert_eq!(run(&server, &get), (0, "hello".to_owned()));
    for (values, line) in [
        ("text", "alice hello world"),
        ("int", "new york 5"),
        ("int", "alice"),
    ] {
        let (status, error) = merge(values, &format!("ok 1\n{line}\n"));
        assert_eq!(status, 1);
        assert!(error.contains("line 2") && error.contains(line), "{error}");
    }
    let keys = ["--json", "map", "text", "--values", "text", "keys"];
    let keys = run(&server, &keys).1;
    assert!(
        keys == r#"["alice","ok"]"# || keys == r#"["ok","alice"]"#,
        "{keys}"
    );
}

#[test]
fn k39_much_is_read_in_pages() {
    let server = server();
    // More than fits into a reply.
    let line = |index: u32| format!("{index}{}\n", "x".repeat(9_000_000));
    let lines: String = (0..8).map(line).collect();
    for (words, all) in [
        (["list", "l", "push", "-"], ["list", "l", "all"]),
        (["set", "s", "add", "-"], ["set", "s", "all"]),
        (["log", "l", "write", "-"], ["log", "l", "lines"]),
    ] {
        assert_eq!(with_input(command(&server, &words), lines.as_bytes()).0, 0);
        let output = command(&server, &all).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(
            output.stdout.iter().filter(|byte| **byte == b'\n').count(),
            8
        );
    }
    let entries: String = (0..8)
        .map(|index| format!("{index} {}", line(index)))
        .collect();
    let merge = [
        "map", "m", "--values", "text", "merge", "--how", "append", "-",
    ];
    assert_eq!(
        with_input(command(&server, &merge), entries.as_bytes()).0,
        0
    );
    for operation in ["entries", "keys"] {
        let words = ["map", "m", "--values", "text", operation];
        let output = command(&server, &words).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(
            output.stdout.iter().filter(|byte| **byte == b'\n').count(),
            8
        );
    }
}

#[test]
fn k39_exit_statuses_are_the_documented_ones() {
    let server = server();
    assert_eq!(
        run(&server, &["cell", "none", "cas", "a", "b"]),
        (3, "false".to_owned())
    );
    assert_eq!(run(&server, &["queue", "q", "push", "a"]).0, 0);
    assert_eq!(run(&server, &["queue", "q", "close"]).0, 0);
    let (status, error) = run(&server, &["queue", "q", "push", "b"]);
    assert!(status == 3 && error.contains("closed"), "{error}");
    let (status, error) = with_input(command(&server, &["queue", "q", "push", "-"]), b"b\n");
    assert!(status == 3 && error.contains("closed"), "{error}");
    for flag in ["--version", "-V"] {
        let (status, version) = run(&server, &[flag]);
        assert_eq!(
            (status, version.as_str()),
            (0, concat!("crucial ", env!("CARGO_PKG_VERSION")))
        );
    }
}

#[test]
fn k39_values_may_begin_with_a_hyphen() {
    let server = server();
    for words in [
        &["log", "l", "write", "-hello", "--world"][..],
        &["list", "l", "push", "-x", "--help"],
        &["set", "s", "add", "-x"],
        &["queue", "q", "push", "--timeout", "5s", "--", "-x"],
        &["cell", "c", "set", "-x"],
        &["promise", "p", "set", "-x"],
        &["map", "m", "--values", "text", "put", "k", "-x"],
    ] {
        let (status, said) = run(&server, words);
        assert_eq!(status, 0, "{words:?}: {said}");
    }
    assert!(
        run(&server, &["log", "l", "lines"])
            .1
            .contains("-hello --world")
    );
    assert_eq!(run(&server, &["list", "l", "all"]).1, "-x\n--help");
    assert_eq!(run(&server, &["queue", "q", "len"]).1, "1");
    assert_eq!(run(&server, &["cell", "c", "get"]).1, "-x");
    assert_eq!(
        run(&server, &["map", "m", "--values", "text", "get", "k"]).1,
        "-x"
    );
}

/// A port that is free just now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn get(address: &str, patience_s: &str) -> Command {
    let mut command = Command::new(CRUCIAL);
    command.args(["--cluster", address, "counter", "c", "get"]);
    command.env("CRUCIAL_PATIENCE_S", patience_s);
    command
}

#[test]
fn k28_a_client_waits_for_a_server_that_is_about_to_start() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let early = get(&address, "20").stdout(Stdio::piped()).spawn().unwrap();
    // The client has come, and is too early.
    drop(listener.accept().unwrap());
    drop(listener);
    let mut server = Command::new(CRUCIAL)
        .args(["server", "--listen", &address])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(
        said(&early.wait_with_output().unwrap()),
        (0, "0".to_owned())
    );
    server.kill().unwrap();
    server.wait().unwrap();
    let begun = Instant::now();
    let (status, error) = said(&get(&address, "1").output().unwrap());
    assert!(status == 1 && error.contains(&address), "{error}");
    assert!(
        (1..10).contains(&begun.elapsed().as_secs()),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn k28_what_is_no_server_is_said_to_be_none() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (_, error) = said(&get(&address, "1").output().unwrap());
    assert!(error.contains("may not be a Crucial server"), "{error}");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream
                .unwrap()
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let begun = Instant::now();
    let (_, error) = said(&get(&address, "20").output().unwrap());
    assert!(error.contains("does not speak this protocol"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// A server behind limits of open files, as a shell sets them.
fn limited(limits: &str) -> (Child, String) {
    let script = format!("{limits}; exec {CRUCIAL} server --listen 127.0.0.1:0");
    let mut server = Command::new("sh")
        .args(["-c", &script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    let address = line.rsplit(' ').next().unwrap().to_owned();
    (server, address)
}

#[test]
fn k31_a_server_uses_all_files_that_it_may_and_recovers_from_too_few() {
    let connect = |address: &str| TcpStream::connect(address).unwrap();
    let (mut server, address) = limited("ulimit -Sn 64");
    let many: Vec<_> = (0..100).map(|_| connect(&address)).collect();
    assert_eq!(
        said(&get(&address, "10").output().unwrap()),
        (0, "0".to_owned())
    );
    drop(many);
    server.kill().unwrap();
    server.wait().unwrap();

    let (mut server, address) = limited("ulimit -n 40");
    let many: Vec<_> = (0..80).map(|_| connect(&address)).collect();
    let (status, error) = said(&get(&address, "1").output().unwrap());
    assert_eq!(status, 1, "{error}");
    drop(many);
    assert_eq!(
        said(&get(&address, "20").output().unwrap()),
        (0, "0".to_owned())
    );
    server.kill().unwrap();
    let complaints = text(&server.wait_with_output().unwrap().stderr);
    assert_eq!(
        complaints
            .matches("no connection can be accepted now")
            .count(),
        1,
        "{complaints}"
    );
}

#[test]
fn k32_servers_of_a_cluster_may_have_several_names() {
    let ports = [free_port(), free_port(), free_port()];
    let join = ports.map(|port| format!("localhost:{port}")).join(",");
    let mut servers: Vec<_> = ports
        .iter()
        .map(|port| {
            Command::new(CRUCIAL)
                .args([
                    "server",
                    "--listen",
                    &format!("127.0.0.1:{port}"),
                    "--join",
                    &join,
                ])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for server in &mut servers {
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let line = lines
            .next()
            .expect("the server says that it is ready")
            .unwrap();
        assert!(line.contains("ready at 127.0.0.1:"), "{line}");
    }
    for server in &mut servers {
        server.kill().unwrap();
        server.wait().unwrap();
    }
}

#[test]
fn k32_a_server_listens_on_all_addresses_of_a_name_and_says_which() {
    let mut server = Command::new(CRUCIAL)
        .args(["server", "--listen", "localhost:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(server.stdout.take().unwrap());
    let mut addresses: BTreeSet<_> = ("localhost", 0)
        .to_socket_addrs()
        .unwrap()
        .map(|one| one.ip())
        .collect();
    // Not all machines have all addresses that they know.
    addresses.retain(|address| TcpListener::bind((*address, 0)).is_ok());
    for (_, line) in (0..addresses.len()).zip(output.lines()) {
        let line = line.unwrap();
        let address: SocketAddr = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(addresses.remove(&address.ip()), "{line}");
        assert_eq!(
            said(&get(&address.to_string(), "5").output().unwrap()),
            (0, "0".to_owned())
        );
    }
    assert!(addresses.is_empty(), "{addresses:?}");
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn k26_a_server_never_deletes_what_is_no_socket() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("text");
    std::fs::write(&text, "mine").unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&text, &link).unwrap();
    let pipe = directory.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    for file in [&text, &link, &pipe, &directory.path().to_path_buf()] {
        let listen = format!("unix:{}", file.display());
        let output = with_signals()
            .args(["server", "--listen", &listen])
            .output()
            .unwrap();
        let (status, said) = said(&output);
        assert_ne!(status, 0, "{said}");
        assert!(said.contains(&listen), "{said}");
        assert!(file.symlink_metadata().is_ok());
    }
    assert_eq!(std::fs::read_to_string(&text).unwrap(), "mine");
    // A living server's socket is not taken either, and a dead one's is.
    let socket = directory.path().join("socket");
    let listen = format!("unix:{}", socket.display());
    let start = || {
        let mut server = with_signals()
            .args(["server", "--listen", &listen])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(server.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        (server, line)
    };
    let (mut first, line) = start();
    assert!(line.contains("ready"), "{line}");
    let (mut second, line) = start();
    assert_eq!(line, "");
    assert_ne!(wait(&mut second).code(), Some(0));
    first.kill().unwrap();
    wait(&mut first);
    let (mut third, line) = start();
    assert!(line.contains("ready"), "{line}");
    third.kill().unwrap();
    wait(&mut third);
}

#[test]
fn k27_whoever_is_at_the_address_answers() {
    let start = |address: &str| {
        let mut server = with_signals()
            .args(["server", "--listen", address])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(server.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        assert!(line.contains("ready"), "{line}");
        server
    };
    // Two servers on one port, at two addresses of this machine.
    let addresses = ["127.0.0.2:7551", "127.0.0.1:7551"];
    let mut servers = addresses.map(start);
    let counter = |address: &str, words: &[&str]| {
        let mut command = with_signals();
        command
            .args(["--cluster", address, "counter", "x"])
            .args(words);
        said(&command.output().unwrap())
    };
    for (address, times) in addresses.into_iter().zip(1..) {
        for _ in 0..times {
            assert_eq!(counter(address, &["add", "1"]).0, 0);
        }
    }
    for (address, times) in addresses.into_iter().zip(1..) {
        assert_eq!(counter(address, &["get"]), (0, times.to_string()));
    }
    for server in &mut servers {
        server.kill().unwrap();
        wait(server);
    }
}

/// Silence would look like a program that hangs.
#[test]
fn a_server_that_does_not_answer_is_said_before_patience_ends() {
    let start = |address: &str| {
        let mut server = with_signals()
            .args(["server", "--listen", address])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(server.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        assert!(line.contains("ready"), "{line}");
        server
    };
    let address = free_address();
    let mut server = start(&address);
    let wait_there = || {
        let mut command = with_signals();
        command
            .args(["--cluster", &address, "barrier", "b", "wait"])
            .args(["--parties", "2"])
            .env("CRUCIAL_PATIENCE_S", "60")
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let mut waiting = wait_there();
    let mut lines = BufReader::new(waiting.stderr.take().unwrap()).lines();
    let waits = || {
        let mut command = with_signals();
        command.args(["--cluster", &address, "barrier", "b", "waiting"]);
        said(&command.output().unwrap()).1
    };
    while waits() != "1" {}
    server.kill().unwrap();
    wait(&mut server);
    let begun = Instant::now();
    let line = lines.next().unwrap().unwrap();
    assert!(
        line.starts_with("crucial: ") && line.contains(&address) && line.contains("60 s at most"),
        "{line}"
    );
    assert!((2..10).contains(&begun.elapsed().as_secs()), "{line}");
    // One that comes too early is told as well, and when the server is there.
    let mut early = wait_there();
    let mut its_lines = BufReader::new(early.stderr.take().unwrap()).lines();
    let line = its_lines.next().unwrap().unwrap();
    assert!(line.contains(&address), "{line}");
    let mut server = start(&address);
    let line = its_lines.next().unwrap().unwrap();
    assert!(line.contains("answers, after"), "{line}");
    for mut command in [waiting, early] {
        command.kill().unwrap();
        wait(&mut command);
    }
    server.kill().unwrap();
    wait(&mut server);
}

/// An address of this machine at which nothing listens.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}
