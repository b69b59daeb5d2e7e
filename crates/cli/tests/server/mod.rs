//! The `crucial` command: a server of it, and commands for that.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crucial_client::{Client, Config};
use crucial_core::Endpoints;

const CRUCIAL: &str = env!("CARGO_BIN_EXE_crucial");

/// How long a cluster may take to be whole, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Server {
    process: Child,
    pub address: String,
}

#[allow(dead_code, reason = "each test uses some")]
impl Server {
    pub fn start(options: &[&str]) -> Server {
        let mut process = Command::new(CRUCIAL)
            .args(["server", "--listen", "127.0.0.1:0"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = process.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap().to_owned();
        Server { process, address }
    }

    /// Servers that are a cluster, with their data in a directory; each knows the address of all.
    pub fn cluster(count: usize, directory: &Path) -> Vec<Server> {
        let mut servers: Vec<Server> = Vec::new();
        for index in 0..count {
            let data = directory.join(index.to_string());
            let mut options = vec!["--data", text(&data)];
            if let Some(first) = servers.first() {
                options.extend(["--join", &first.address]);
            }
            let server = Server::start(&options);
            servers.push(server);
        }
        let addresses: Vec<_> = servers
            .iter()
            .map(|server| server.address.clone())
            .collect();
        for server in &mut servers {
            server.address = addresses.join(",");
        }
        servers
    }

    /// Waits until all objects are where they are to be.
    pub fn wait_whole(&self) {
        let started = Instant::now();
        let is_whole = |status: Result<String, String>| status.is_ok_and(|s| s.contains("whole"));
        while !is_whole(self.crucial(&["cluster", "status"])) {
            assert!(started.elapsed() < PATIENCE, "the cluster is not whole");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn client(&self) -> Arc<Client> {
        let endpoints: Endpoints = self.address.parse().unwrap();
        let config = Config {
            seeds: endpoints.others().to_vec(),
            // Where there are more servers than one.
            replicas: 2,
            ..Config::new(endpoints.first().clone())
        };
        Client::connect(config).unwrap()
    }

    /// What a command prints, or its error.
    pub fn crucial(&self, words: &[&str]) -> Result<String, String> {
        let output = Command::new(CRUCIAL)
            .args(words)
            .env("CRUCIAL_CLUSTER", &self.address)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A path as a word of a command.
#[allow(dead_code, reason = "each test uses some")]
pub fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}
