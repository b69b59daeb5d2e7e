//! Runs applications on a cluster of three servers, one of which is killed meanwhile: each must end with the right
//! result and without an error.

mod programs;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use programs::{crucial, example, kmeans, output};

/// Time limit for servers to be ready and a cluster to be complete, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Cluster {
    crucial: PathBuf,
    servers: Vec<Child>,
    ports: Vec<u16>,
    directory: tempfile::TempDir,
}

impl Cluster {
    fn start() -> Cluster {
        // Ports below the ephemeral range: otherwise a connection could take a server's port while the server is down.
        let first = 10_000 + (std::process::id() % 2000) as u16 * 10;
        let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        let ports = (first..).filter(is_free).take(3);
        let mut cluster = Cluster {
            crucial: crucial(),
            servers: Vec::new(),
            ports: ports.collect(),
            directory: tempfile::tempdir().expect("a directory"),
        };
        let mut starting: Vec<_> = (0..3).map(|index| cluster.launch(index)).collect();
        starting.iter_mut().for_each(await_ready);
        cluster.servers = starting;
        cluster.wait_whole();
        cluster
    }

    fn launch(&self, index: usize) -> Child {
        let listen = format!("127.0.0.1:{}", self.ports[index]);
        let mut server = Command::new(&self.crucial);
        server
            .args(["server", "--listen", &listen, "--join", &self.addresses()])
            .arg("--data")
            .arg(self.directory.path().join(index.to_string()))
            .stdout(Stdio::piped());
        server.spawn().expect("the server starts")
    }

    fn addresses(&self) -> String {
        let addresses = self.ports.iter().map(|port| format!("127.0.0.1:{port}"));
        addresses.collect::<Vec<_>>().join(",")
    }

    fn crucial(&self, words: &[&str]) -> String {
        let mut command = Command::new(&self.crucial);
        output(command.args(words).env("CRUCIAL_CLUSTER", self.addresses()))
    }

    fn wait_whole(&self) {
        let started = Instant::now();
        while !self.crucial(&["cluster", "status"]).contains("whole") {
            assert!(started.elapsed() < PATIENCE, "the cluster is not whole");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A program on this cluster, with two replicas of each object.
    fn program(&self, name: &str, arguments: &[&str]) -> Command {
        let mut program = example(name);
        program
            .args(arguments)
            .env("CRUCIAL_CLUSTER", self.addresses())
            .env("CRUCIAL_REPLICAS", "2");
        program
    }

    /// Kills a server as soon as a program uses it, and restarts it when the program has ended.
    fn kill_while<R: Send>(&mut self, victim: usize, program: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|scope| {
            let running = scope.spawn(program);
            let started = Instant::now();
            while !self.crucial(&["cluster", "objects"]).contains("run/") {
                assert!(
                    !running.is_finished(),
                    "the program ended before a server could be killed"
                );
                assert!(
                    started.elapsed() < PATIENCE,
                    "the program creates no objects"
                );
            }
            self.servers[victim].kill().expect("the server runs");
            self.servers[victim].wait().expect("the server was killed");
            let done = running.join().expect("the program");
            let mut again = self.launch(victim);
            await_ready(&mut again);
            self.servers[victim] = again;
            self.wait_whole();
            done
        })
    }
}

fn await_ready(server: &mut Child) {
    let stdout = server.stdout.take().expect("standard output is piped");
    let mut line = String::new();
    let read = BufReader::new(stdout).read_line(&mut line);
    read.expect("the server prints its address");
    assert!(line.contains("ready at"), "{line}");
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

#[test]
fn applications_end_right_though_a_server_is_killed() {
    let mut cluster = Cluster::start();
    let module = cluster.crucial(&["build", "-p", "crucial-example-types"]);
    cluster.crucial(&["push", module.trim()]);

    let arguments = ["--generate", "20000", "--dimensions", "50", "-k", "20"];
    let arguments = [&arguments[..], &["--iterations", "60", "--tolerance", "0"]].concat();
    let directory = tempfile::tempdir().expect("a directory");
    let mut embedded = example("kmeans");
    embedded.args(&arguments);
    let embedded = kmeans(embedded, directory.path());
    let program = cluster.program("kmeans", &arguments);
    let shared = cluster.kill_while(0, || kmeans(program, directory.path()));
    assert!(!embedded.1.is_empty());
    assert_eq!(shared.1, embedded.1, "the centroids");

    let mut program = cluster.program("santa", &["--millis", "40", "--variant", "cloud"]);
    let said = cluster.kill_while(1, || output(&mut program));
    assert!(
        said.starts_with("15 deliveries with 9 reindeer each, "),
        "{said}"
    );

    let arguments = ["--requests", "20000", "--variant", "remote"];
    let embedded = output(example("inference").args(arguments));
    let mut program = cluster.program("inference", &arguments);
    let shared = cluster.kill_while(2, || output(&mut program));
    let hits = |said: &str| said.split(" right").next().map(str::to_owned);
    assert_eq!(hits(&shared), hits(&embedded), "{shared}");
}
