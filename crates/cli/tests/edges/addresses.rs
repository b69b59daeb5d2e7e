//! K26 to K28, K31, K32: where servers are, and whether they answer.

use super::*;

/// Starts a server, and gives the first line that it prints: none if it does not start.
fn start_at(address: &str) -> (Child, String) {
    let mut server = with_signals()
        .args(["server", "--listen", address])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(server.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    (server, line)
}

/// Starts a server that is ready.
fn start(address: &str) -> Child {
    let (server, line) = start_at(address);
    assert!(line.contains("ready"), "{line}");
    server
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
fn k28_where_no_server_can_be_nobody_waits() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    for address in [
        &format!("unix:{}", file.display()),
        &format!("unix:{}", directory.path().display()),
        "127.0.0.1:0",
        "http://127.0.0.1:7171",
    ] {
        let begun = Instant::now();
        let (status, error) = said(&get(address, "600").output().unwrap());
        assert_eq!(status, 1, "{error}");
        assert!(
            error.contains(address) && error.lines().count() == 1,
            "{error}"
        );
        assert!(begun.elapsed() < PATIENCE, "{error}");
    }
}

#[test]
fn k28_the_end_of_patience_is_said_in_other_words() {
    let address = free_address();
    let output = get(&address, "3").output().unwrap();
    let error = text(&output.stderr);
    let lines: Vec<_> = error.lines().collect();
    let [first, last] = lines[..] else {
        panic!("{error}");
    };
    assert!(first.contains("calls wait 3 s at most"), "{error}");
    assert!(last.ends_with("given up after 3 s"), "{error}");
    assert!(!error.contains("os error"), "{error}");
}

#[test]
fn k31_a_command_with_too_few_files_does_not_wait_for_a_server() {
    let server = server();
    for files in ["4", "6", "8"] {
        let script = format!("ulimit -n {files}; exec {CRUCIAL} counter c get");
        let begun = Instant::now();
        let mut command = Command::new("sh");
        command.env("CRUCIAL_CLUSTER", &server.address);
        let output = command.args(["-c", &script]).output().unwrap();
        let (status, said) = said(&output);
        assert!(
            said.contains("`ulimit -n`") || status == 0,
            "{files}: {said}"
        );
        assert!(begun.elapsed() < PATIENCE, "{said}");
    }
}

#[test]
fn servers_of_up_say_their_address() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = with_signals()
        .args(["up", "-n", "1", "--port", &port.to_string()])
        .output()
        .unwrap();
    let error = text(&output.stderr);
    let line = format!("[127.0.0.1:{port}] crucial: cannot listen on 127.0.0.1:{port}: ");
    assert!(error.starts_with(&line), "{error}");
    assert!(
        error.contains("did not start; its own message is above"),
        "{error}"
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
    let start = || start_at(&listen);
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
