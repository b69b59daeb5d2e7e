//! The `crucial` command: a server of it, and commands for that.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use crucial_client::{Client, Config};

const CRUCIAL: &str = env!("CARGO_BIN_EXE_crucial");

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

    pub fn client(&self) -> Arc<Client> {
        Client::connect(Config::new(self.address.parse().unwrap())).unwrap()
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
