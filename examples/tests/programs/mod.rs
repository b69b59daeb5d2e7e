//! The applications as processes.
#![allow(dead_code, reason = "not every test needs all of it")]

use std::path::Path;
use std::process::Command;

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
