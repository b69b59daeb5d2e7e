//! The applications as processes.
#![allow(dead_code, reason = "not every test needs all of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The executable of an example, which cargo builds before it runs tests.
pub fn example(name: &str) -> Command {
    let test = std::env::current_exe().expect("a test is an executable");
    let target = test
        .parent()
        .and_then(Path::parent)
        .expect("it is in target/PROFILE/deps");
    // Who hangs is killed, and fails the test.
    let mut command = Command::new("timeout");
    command.arg("120").arg(target.join("examples").join(name));
    command
}

/// What a program prints, if it ends well.
pub fn output(command: &mut Command) -> String {
    let output = command.output().expect("the example runs");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(output.status.success(), "{command:?}\n{stdout}\n{stderr}");
    stdout
}

/// The program fails, and says so.
pub fn refuses(name: &str, arguments: &[&str], expected: &str) {
    fails(example(name).args(arguments), expected);
}

/// The same, for a program with an environment.
pub fn fails(command: &mut Command, expected: &str) {
    let failed = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&failed.stderr);
    assert!(!failed.status.success(), "{command:?}");
    assert!(said.contains(expected), "{command:?}: {said}");
}

/// The `crucial` command, which is of another package than this test: so cargo may have to build it first.
pub fn crucial() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    // All of the workspace, so that dependencies have the features with which they are there already.
    build.args(["build", "--workspace", "--bin", "crucial"]);
    build.args(["--message-format", "json-render-diagnostics"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let output = build.stderr(Stdio::inherit()).output().expect("cargo runs");
    assert!(output.status.success(), "{build:?}");
    let messages = String::from_utf8_lossy(&output.stdout);
    let (_, file) = messages
        .rsplit_once(r#""executable":""#)
        .expect("cargo says where it is");
    PathBuf::from(file.split('"').next().unwrap_or_default())
}

/// The centroids that k-means writes, and what the program says.
pub fn kmeans(mut program: Command, directory: &Path) -> (String, String) {
    let path = directory.join("centroids.csv");
    let said = output(program.arg("--out").arg(&path));
    let centroids = std::fs::read_to_string(&path).expect("the program wrote it");
    std::fs::remove_file(&path).expect("the next one writes it again");
    (said, centroids)
}
