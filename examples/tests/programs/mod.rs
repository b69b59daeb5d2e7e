//! Helpers that run the applications as processes.
#![allow(dead_code, reason = "each test uses a part of the module")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The applications; each has a version with std threads as well.
pub const ALL: [&str; 10] = [
    "montecarlo",
    "logistic",
    "kmeans",
    "santa",
    "mandelbrot",
    "wordcount",
    "philosophers",
    "forest",
    "mapreduce",
    "inference",
];

/// The command of an example, which cargo builds before it runs tests.
pub fn example(name: &str) -> Command {
    let test = std::env::current_exe().expect("a test is an executable");
    let target = test
        .parent()
        .and_then(Path::parent)
        .expect("the test is in target/PROFILE/deps");
    // A program that hangs is killed, and fails the test.
    let mut command = Command::new("timeout");
    command.arg("120").arg(target.join("examples").join(name));
    command
}

/// Runs a program that must succeed, and returns its output.
pub fn output(command: &mut Command) -> String {
    let output = command.output().expect("the example runs");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(output.status.success(), "{command:?}\n{stdout}\n{stderr}");
    stdout
}

/// Runs an example that must fail with this message.
pub fn refuses(name: &str, arguments: &[&str], expected: &str) {
    fails(example(name).args(arguments), expected);
}

/// Runs a command that must fail with this message.
pub fn fails(command: &mut Command, expected: &str) {
    let failed = command.output().expect("the program runs");
    let said = String::from_utf8_lossy(&failed.stderr);
    assert!(!failed.status.success(), "{command:?}");
    assert!(said.contains(expected), "{command:?}: {said}");
}

/// The `crucial` command. It is part of another package than this test, so that cargo may have to build it first.
pub fn crucial() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    // As the tests of the whole workspace are built, so that nothing is built anew where they are: a program is built with
    // the tests of its package, of which one is enough.
    build.args(["test", "--no-run", "--workspace", "--test", "run"]);
    build.args(["--message-format", "json-render-diagnostics"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let output = build.stderr(Stdio::inherit()).output().expect("cargo runs");
    assert!(output.status.success(), "{build:?}");
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut programs = messages
        .split(r#""executable":""#)
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .map(PathBuf::from);
    let crucial = programs.find(|path| path.file_name().is_some_and(|name| name == "crucial"));
    crucial.expect("cargo prints the path")
}

/// Runs k-means, and returns the centroids and the output.
pub fn kmeans(mut program: Command, directory: &Path) -> (String, String) {
    let path = directory.join("centroids.csv");
    let said = output(program.arg("--out").arg(&path));
    let centroids = std::fs::read_to_string(&path).expect("the program wrote it");
    std::fs::remove_file(&path).expect("the file can be removed");
    (said, centroids)
}

/// Files in a directory that is removed.
pub struct Files(pub tempfile::TempDir);

impl Files {
    pub fn new() -> Files {
        Files(tempfile::tempdir().expect("a directory"))
    }

    pub fn write(&self, name: impl AsRef<OsStr>, bytes: impl AsRef<[u8]>) -> String {
        let path = self.0.path().join(name.as_ref());
        std::fs::write(&path, bytes).expect("written");
        path.to_string_lossy().into_owned()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// Runs a program, and returns what it said on standard error, too.
pub fn run(command: &mut Command) -> (Output, String) {
    let output = command.output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}
