//! Runs applications on a `crucial server` that was built without their types: the types are uploaded to the running
//! server.

mod programs;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use programs::{crucial, example, fails, kmeans, output};

struct Server {
    crucial: PathBuf,
    process: Child,
    address: String,
}

impl Server {
    fn start() -> Server {
        let crucial = crucial();
        let mut process = Command::new(&crucial)
            .args(["server", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let stdout = process.stdout.take().expect("standard output is piped");
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        read.expect("the server prints its address");
        let address = line.trim().rsplit(' ').next().unwrap_or_default();
        Server {
            crucial,
            process,
            address: address.to_owned(),
        }
    }

    /// Runs `crucial build` and `crucial push` as a user does, and returns the output of the latter.
    fn learn(&self, package: &str) -> String {
        let module = output(Command::new(&self.crucial).args(["build", "-p", package]));
        self.crucial(&["push", module.trim()])
    }

    fn crucial(&self, words: &[&str]) -> String {
        let mut command = Command::new(&self.crucial);
        output(command.args(words).env("CRUCIAL_CLUSTER", &self.address))
    }

    /// A program that uses this server instead of an embedded one.
    fn program(&self, name: &str, arguments: &[&str]) -> Command {
        let mut program = example(name);
        program
            .args(arguments)
            .env("CRUCIAL_CLUSTER", &self.address);
        program
    }

    fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The output of a program without measured times.
fn facts(said: &str) -> Vec<&str> {
    let facts = said.lines().map(|line| line.split("; ").next());
    facts.map(Option::unwrap_or_default).collect()
}

#[test]
fn applications_run_with_uploaded_types_as_with_their_own() {
    let mut server = Server::start();
    let kmeans_arguments = ["--threads", "3"];
    let santa_arguments = ["--millis", "2"];
    let programs: [(&str, &[&str]); 4] = [
        ("logistic", &["--threads", "3", "--iterations", "40"]),
        ("philosophers", &["--meal-us", "500"]),
        (
            "mapreduce",
            &["--points", "1000", "--variant", "auto-reduce"],
        ),
        ("inference", &["--requests", "500"]),
    ];
    // Without the types, each program says what to do.
    fails(
        &mut server.program("kmeans", &kmeans_arguments),
        "crucial push",
    );
    fails(
        &mut server.program("santa", &santa_arguments),
        "crucial push",
    );
    for (name, arguments) in programs {
        fails(&mut server.program(name, arguments), "crucial push");
    }
    let pushed = server.learn("crucial-example-types");
    for type_name in ["kmeans::GlobalCentroids", "logistic::Model", "santa::Lobby"] {
        let type_name = format!("crucial_example_types::{type_name}");
        assert!(pushed.contains(&type_name), "{pushed}");
    }

    // The results are equal to the last digit, since a sandbox adds as a processor does.
    let directory = tempfile::tempdir().expect("a directory");
    let mut embedded = example("kmeans");
    embedded.args(kmeans_arguments);
    let embedded = kmeans(embedded, directory.path());
    let uploaded = kmeans(
        server.program("kmeans", &kmeans_arguments),
        directory.path(),
    );
    assert!(!embedded.1.is_empty());
    assert_eq!(uploaded, embedded);
    for (name, arguments) in programs {
        let embedded = output(example(name).args(arguments));
        let uploaded = output(&mut server.program(name, arguments));
        assert!(!embedded.is_empty());
        assert_eq!(facts(&uploaded), facts(&embedded), "{name}");
    }
    // The order of events differs each time, but the rules hold.
    for variant in ["objects", "cloud"] {
        let mut santa = server.program("santa", &santa_arguments);
        let said = output(santa.args(["--variant", variant]));
        assert!(
            said.starts_with("15 deliveries with 9 reindeer each, "),
            "{variant}: {said}"
        );
    }
    assert!(server.is_running());
    // The programs' objects ended with their runs.
    let modules = server.crucial(&["modules"]);
    assert!(modules.contains(r#""objects":0"#), "{modules}");
}
