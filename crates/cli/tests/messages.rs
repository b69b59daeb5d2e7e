//! K40: what a user is told who has given a wrong setting, option, file or address. A message names the thing, says what is
//! expected, says so once, and not in the words of a library.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crucial_testing::{Executable, Server};

const CRUCIAL: &str = env!("CARGO_BIN_EXE_crucial");

/// Words of libraries, and of Rust's own formats, that say nothing to a user.
const STRANGE: [&str; 21] = [
    "(os error",
    "Hit the end of buffer",
    "out of range integral type",
    "SUN_LEN",
    "Resource temporarily unavailable",
    "invalid digit",
    "number too large to fit",
    "number too small to fit",
    "cannot parse integer",
    "expected value at line",
    "EOF while parsing",
    "stream did not contain valid UTF-8",
    "Os {",
    "Custom {",
    "Error(",
    "Err(",
    "Some(",
    "called `",
    "panicked",
    "postcard",
    "serde",
];

/// What is wrong with messages, all together: a table of many is mended at once.
#[derive(Default)]
struct Unclear(Vec<String>);

impl Unclear {
    /// A message that a user understands has all `parts`, no strange words, and says its kind once.
    fn check(&mut self, what: &str, message: &str, parts: &[&str]) {
        let missing = parts.iter().filter(|part| !message.contains(**part));
        let missing = missing.map(|part| format!("{part:?} is missing"));
        let strange = STRANGE.iter().filter(|words| message.contains(**words));
        let strange = strange.map(|words| format!("{words:?} is strange"));
        let wrong: Vec<String> = missing.chain(strange).chain(said_twice(message)).collect();
        if !wrong.is_empty() {
            let wrong = wrong.join(", ");
            self.0.push(format!("{what}: {wrong}: {message}"));
        }
    }
}

impl Drop for Unclear {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.0.is_empty(), "{}", self.0.join("\n\n"));
        }
    }
}

/// "Error: Config: configuration: ..": a kind behind a kind.
fn said_twice(message: &str) -> Option<String> {
    let line = message.strip_prefix("crucial: ").unwrap_or(message);
    let line = line.lines().next().unwrap_or_default().to_lowercase();
    let heads: Vec<&str> = line
        .split(": ")
        .filter_map(|head| head.split_whitespace().last())
        .collect();
    let (_, heads) = heads.split_last()?;
    let is_same = |pair: &&[&str]| {
        let (one, other) = (pair[0].trim_matches('"'), pair[1].trim_matches('"'));
        one == other || one.len() >= 5 && other.starts_with(one)
    };
    let twice = heads.windows(2).find(is_same)?;
    Some(format!("{} is said twice", twice[0]))
}

#[test]
fn a_kind_that_is_said_twice_is_noticed() {
    for message in [
        "Error: Config: configuration: x",
        "crucial: Refused: refused: no",
        "Error: error: x",
    ] {
        assert!(said_twice(message).is_some(), "{message}");
    }
    assert_eq!(
        said_twice("crucial: CRUCIAL_RUN: \"7\" is not a run id: 32 digits are expected"),
        None
    );
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

/// Runs a command that must fail, and returns its message.
#[track_caller]
fn fails(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = stderr(&output);
    let status = output.status.code();
    assert!(
        matches!(status, Some(1 | 2)),
        "{command:?}: {status:?} {said}"
    );
    said
}

fn crucial(words: &[&str]) -> Command {
    let mut command = Command::new(CRUCIAL);
    command.args(words).env("CRUCIAL_PATIENCE_S", "0");
    command
}

#[test]
fn k40_settings_are_refused_by_name_value_and_range() {
    let mut unclear = Unclear::default();
    let long = format!("unix:/tmp/{}", "x".repeat(200));
    for (name, value, parts) in [
        (
            "CRUCIAL_CLUSTER",
            "nowhere",
            &["port is missing", "HOST:PORT or unix:PATH"][..],
        ),
        ("CRUCIAL_CLUSTER", "host:99999", &["below 65536"]),
        ("CRUCIAL_CLUSTER", ":7171", &["host is missing"]),
        ("CRUCIAL_CLUSTER", "a:1,,b:2", &["HOST:PORT"]),
        ("CRUCIAL_CLUSTER", "::1:7171", &["brackets"]),
        ("CRUCIAL_CLUSTER", "unix:", &["path is missing"]),
        ("CRUCIAL_CLUSTER", &long, &["bytes", "107"]),
        ("CRUCIAL_REPLICAS", "9", &["from 1 to 3"]),
        ("CRUCIAL_REPLICAS", "0", &["from 1 to 3"]),
        ("CRUCIAL_REPLICAS", "two", &["from 1 to 3"]),
        ("CRUCIAL_RUN", "7", &["32 hexadecimal digits"]),
        (
            "CRUCIAL_RUN",
            "g00102030405060708090a0b0c0d0e0f",
            &["32 hexadecimal digits"],
        ),
        ("CRUCIAL_PLATFORM", "moon", &["local", "in-process"]),
        ("CRUCIAL_CONCURRENCY", "0", &["from 1 to 1000000"]),
        (
            "CRUCIAL_CONCURRENCY",
            "99999999999999999999",
            &["from 1 to 1000000"],
        ),
        ("CRUCIAL_MEMORY_MB", "-5", &["from 32 to"]),
        ("CRUCIAL_MEMORY_MB", "31", &["from 32 to"]),
        ("CRUCIAL_CLUSTER", "http://h:1", &["perhaps h:1"]),
        ("CRUCIAL_CLUSTER", "h:0", &["port 0 is for --listen"]),
        ("CRUCIAL_CLUSTER", "a b:1", &["' '"]),
        ("CRUCIAL_MEMORY_MB", "4294967296", &["to 4294967295"]),
        ("CRUCIAL_TIME_LIMIT_S", "0", &["from 1 to"]),
        (
            "CRUCIAL_TIME_LIMIT_S",
            "18446744073709551615",
            &["to 3153600000"],
        ),
        ("CRUCIAL_LEASE_MS", "1", &["from 100 to"]),
        ("CRUCIAL_LEASE_MS", "18446744073709551615", &["to 86400000"]),
        ("CRUCIAL_PATIENCE_S", "1.5", &["whole number", "from 0 to"]),
        (
            "CRUCIAL_PATIENCE_S",
            "18446744073709551615",
            &["to 3153600000"],
        ),
        ("CRUCIAL_SPIN_US", "fast", &["from 0 to 1000000"]),
    ] {
        let mut command = crucial(&["counter", "c", "get"]);
        let said = fails(
            command
                .env("CRUCIAL_CLUSTER", "127.0.0.1:1")
                .env(name, value),
        );
        let what = format!("{name}={value}");
        unclear.check(&what, &said, &[&[name], parts].concat());
        // A list of servers is named by the one that is wrong.
        if !value.contains(",,") {
            unclear.check(&what, &said, &[value]);
        }
    }
    let said = fails(&mut crucial(&["counter", "c", "get"]));
    unclear.check(
        "no server",
        &said,
        &["crucial server", "--cluster", "CRUCIAL_CLUSTER"],
    );
}

#[test]
fn k40_a_server_says_what_it_cannot_start_with() {
    let mut unclear = Unclear::default();
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let file = at("file");
    std::fs::write(&file, "mine").unwrap();
    let damaged = at("damaged");
    std::fs::create_dir(&damaged).unwrap();
    for entry in ["identity", "journal"] {
        std::fs::write(Path::new(&damaged).join(entry), "no such format").unwrap();
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let listening = at("listening");
    let _listener = UnixListener::bind(&listening).unwrap();
    let unix = |path: &str| format!("unix:{path}");
    let (unix_file, unix_missing) = (unix(&file), unix(&at("no/directory")));
    let (unix_taken, unix_long) = (unix(&listening), unix(&at(&"x".repeat(200))));
    let data = |path| vec!["--listen", "127.0.0.1:0", "--data", path];
    let in_file = format!("{file}/inside");
    for (words, parts) in [
        (
            vec!["--listen", "nonsense"],
            &["--listen", "nonsense", "HOST:PORT"][..],
        ),
        (vec!["--listen", &unix_file], &[&file, "another file"]),
        (vec!["--listen", &unix_taken], &[&listening, "listens"]),
        (vec!["--listen", &unix_missing], &["no/directory"]),
        (vec!["--listen", &unix_long], &["bytes", "107"]),
        (
            vec!["--listen", "203.0.113.77:7171"],
            &["203.0.113.77:7171"],
        ),
        (
            vec!["--listen", "no-such-host.invalid:7171"],
            &["no-such-host.invalid"],
        ),
        (
            vec!["--listen", "127.0.0.1:0", "--threads", "x"],
            &["--threads", "x", "from 0 to 10000"],
        ),
        (
            vec![
                "--listen",
                "127.0.0.1:0",
                "--threads",
                "18446744073709551616",
            ],
            &["--threads", "from 0 to"],
        ),
        (
            vec!["--listen", "127.0.0.1:0", "--lease-ms", "1"],
            &["--lease-ms", "from 100 to"],
        ),
        (
            vec!["--listen", "127.0.0.1:0", "--min-replicas", "9"],
            &["--min-replicas", "9", "from 1 to 3"],
        ),
        (
            vec!["--listen", "127.0.0.1:0", "--min-replicas", "2"],
            &["min_replicas", "2", "alone", "--join"],
        ),
        (
            vec!["--listen", "127.0.0.1:0", "--frame-bytes-max", "0"],
            &["--frame-bytes-max", "from 1024 to"],
        ),
        (
            vec!["--listen", "127.0.0.1:0", "--peer-frame-bytes-max", "2000"],
            &["peer_frame_bytes_max", "2000", "at least"],
        ),
        (
            vec!["--listen", "127.0.0.1:0", "--objects-max", "-1"],
            &["--objects-max", "from 1 to"],
        ),
        (
            vec!["--listen", "127.0.0.1:0", "--instances-max", "0"],
            &["--instances-max", "from 1 to"],
        ),
        (
            vec!["--listen", "127.0.0.1:0", "--join", "nowhere"],
            &["--join", "nowhere", "port is missing"],
        ),
        (
            vec!["--listen", "127.0.0.1:0", "--join", &unix_file],
            &["--join", "HOST:PORT"],
        ),
        (
            vec!["--listen", "127.0.0.1:0", "--join", "127.0.0.1:0"],
            &["--join", "127.0.0.1:0", "port 0"],
        ),
        (
            vec![
                "--listen",
                "127.0.0.1:0",
                "--join",
                "127.0.0.1:1",
                "--advertise",
                "me",
            ],
            &["--advertise", "me", "port is missing"],
        ),
        (
            vec![
                "--listen",
                "127.0.0.1:0",
                "--join",
                "127.0.0.1:1",
                "--server-lease-ms",
                "1",
            ],
            &["--server-lease-ms", "from 200 to"],
        ),
        (
            vec!["--listen", "0.0.0.0:0", "--join", "127.0.0.1:1"],
            &["other servers cannot reach", "--advertise HOST:PORT"],
        ),
        (
            vec!["--listen", &unix_long[..5], "--join", "127.0.0.1:1"],
            &["path is missing"],
        ),
        (data(&file), &[&file]),
        (data(&in_file), &[&in_file]),
        (data("/proc/nowhere"), &["/proc/nowhere"]),
        (data(&damaged), &[&damaged]),
    ] {
        let mut command = crucial(&["server"]);
        let mut timed = Command::new("timeout");
        timed
            .args(["20", command.get_program().to_str().unwrap(), "server"])
            .args(&words);
        command = timed;
        let said = fails(&mut command);
        unclear.check(&words.join(" "), &said, parts);
    }
    let said = fails(&mut crucial(&["server", "--listen", &taken]));
    unclear.check("a port that is taken", &said, &[&taken]);
    for (words, parts) in [
        (&["up", "-n", "0"][..], &["--servers", "from 1 to 16"][..]),
        (&["up", "-n", "many"], &["--servers", "from 1 to 16"]),
        (&["up", "--port", "70000"], &["--port", "from 1 to"]),
        (&["up", "-n", "-1"], &["-1", "from 1 to 16"]),
        (
            &["up", "--", "--listen", "127.0.0.1:1"],
            &["--listen", "--port"],
        ),
        (&["up", "--", "--join=a:1"], &["--join", "chooses"]),
    ] {
        unclear.check(&words.join(" "), &fails(&mut crucial(words)), parts);
    }
}

#[test]
fn k40_a_command_says_what_is_wrong_with_its_words() {
    let mut unclear = Unclear::default();
    let server = Server::start(&Executable::crucial(CRUCIAL), &[]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (missing, empty, text) = (at("missing.wasm"), at("empty.wasm"), at("text.wasm"));
    std::fs::write(&empty, "").unwrap();
    std::fs::write(&text, "not a module").unwrap();
    let folder = at("");
    for words in [
        &["queue", "bounded", "--capacity", "2", "push", "a"][..],
        &["map", "m", "--values", "text", "put", "k", "v"],
        &["counter", "full", "add", "9223372036854775807"],
    ] {
        let output = crucial(&[&["--cluster", &server.address], words].concat())
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?}: {}", stderr(&output));
    }
    for (words, parts) in [
        (
            &["counter", "c", "add", "many"][..],
            &["many", "a whole number from"][..],
        ),
        (
            &["counter", "c", "add", "9223372036854775808"],
            &["9223372036854775808", "from -9223372036854775808"],
        ),
        (
            &["map", "n", "put", "k", "x"],
            &["\"x\"", "whole number", "--values"],
        ),
        (
            &["map", "f", "--values", "float", "put", "k", "x"],
            &["\"x\"", "a number", "--values text"],
        ),
        (
            &["map", "n", "--values", "list", "len"],
            &["--values", "int, float, text"],
        ),
        (&["map", "n", "merge", "k"], &["value is needed", "k"]),
        (
            &["map", "m", "merge", "k", "1"],
            &["crucial::Map<String, String>", "crucial::Map<String, i64>"],
        ),
        (
            &[
                "map", "m", "--values", "text", "merge", "k", "1", "--how", "sum",
            ],
            &["texts are merged by append", "not by sum"],
        ),
        (
            &["map", "n", "merge", "k", "1", "--how", "append"],
            &["numbers are merged by sum, max or min", "not by append"],
        ),
        (
            &[
                "map", "f", "--values", "float", "merge", "k", "1", "--how", "append",
            ],
            &["numbers are merged by sum, max or min"],
        ),
        (
            &["counter", "full", "add", "1"],
            &["a counter", "9223372036854775807 and 1", "64 bits"],
        ),
        (&["map", "n", "top", "-1"], &["-1", "from 0 to"]),
        (&["list", "l", "get", "-1"], &["-1", "from 0 to"]),
        (
            &["barrier", "b", "wait", "--parties", "-2"],
            &["-2", "from 1 to"],
        ),
        (&["list", "l", "set", "5", "x"], &["index 5", "length is 0"]),
        (
            &["list", "l", "get", "first"],
            &["first", "a whole number from 0 to"],
        ),
        (
            &["list", "l", "range", "0", "all"],
            &["all", "a whole number from 0 to"],
        ),
        (
            &["queue", "bounded", "--capacity", "3", "len"],
            &["\"bounded\"", "--capacity 2", "3"],
        ),
        (
            &["queue", "q", "--capacity", "0", "len"],
            &["--capacity", "from 1 to"],
        ),
        (&["barrier", "none", "wait"], &["\"none\"", "--parties"]),
        (
            &["barrier", "none", "wait", "--parties", "0"],
            &["--parties", "from 1 to"],
        ),
        (&["barrier", "none", "waiting"], &["none"]),
        (&["latch", "none", "get"], &["\"none\"", "--count"]),
        (
            &["semaphore", "none", "available"],
            &["\"none\"", "--permits"],
        ),
        (
            &["semaphore", "s", "--permits", "x", "available"],
            &["--permits", "x", "from 0 to"],
        ),
        (
            &["promise", "p", "wait", "--timeout", "soon"],
            &["soon", "10s, 500ms or 2m"],
        ),
        (
            &["promise", "p", "wait", "--timeout", "-1s"],
            &["-1s", "a duration"],
        ),
        (
            &["delete", "table", "t"],
            &["\"table\"", "crucial delete --help"],
        ),
        (
            &["cluster", "objects", "--max", "0"],
            &["--max", "from 1 to 10000"],
        ),
        (
            &["cluster", "objects", "--after", "x"],
            &["\"x\"", "32 hexadecimal digits"],
        ),
        (&["cluster", "rescue", "nowhere"], &["nowhere", "HOST:PORT"]),
        (&["push", &missing], &[&missing, "No such file"]),
        (&["push", &empty], &["module has no bytes"]),
        (&["push", &text], &["not a WebAssembly module"]),
        (&["push", &folder], &[&folder, "directory"]),
        (&["types", "Nothing"], &["Nothing", "crucial types"]),
        (&["build", "--manifest-path", &missing], &[&missing]),
    ] {
        let mut command = crucial(&[&["--cluster", &server.address], words].concat());
        let said = fails(&mut command);
        unclear.check(&words.join(" "), &said, parts);
    }
    // Lines of standard input.
    for (input, parts) in [
        (&b"ok\ncaf\xe9\n"[..], &["line 2", "not UTF-8"][..]),
        (b"a 1\nb\n", &["line 2", "KEY VALUE", "\"b\""]),
        (b"a 1\nb x\n", &["line 2", "\"x\"", "whole number"]),
        (
            b"a 1\nb 9223372036854775807\nb 1\n",
            &["line 3", "does not fit"],
        ),
    ] {
        let words: &[&str] = match input.starts_with(b"ok") {
            true => &["list", "l", "push", "-"],
            false => &["map", "lines", "merge", "-"],
        };
        let file = at("input");
        std::fs::write(&file, input).unwrap();
        let mut command = crucial(&[&["--cluster", &server.address], words].concat());
        let output = command
            .stdin(std::fs::File::open(&file).unwrap())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        unclear.check(&String::from_utf8_lossy(input), &stderr(&output), parts);
    }
    // Places where no server is.
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let missing = format!("unix:{}", at("socket"));
    let (regular, directory_of) = (format!("unix:{text}"), format!("unix:{}", at("")));
    for (address, parts) in [
        (
            closed.as_str(),
            &["no connection to the server at", &closed][..],
        ),
        (
            missing.as_str(),
            &["no connection to the server at", &missing],
        ),
        ("no-such-host.invalid:7171", &["no-such-host.invalid:7171"]),
        (&regular, &[&regular, "no socket"]),
        (
            &directory_of,
            &[&directory_of, "a directory, and no socket"],
        ),
        ("localhost:0", &["port 0 is for --listen"]),
        ("https://localhost:7171/", &["perhaps localhost:7171"]),
    ] {
        let mut command = crucial(&["--cluster", address, "counter", "c", "get"]);
        unclear.check(address, &fails(&mut command), parts);
    }
}
