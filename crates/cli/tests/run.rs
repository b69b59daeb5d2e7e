//! `crucial run`: a program with types of its own, against a server that was built without them.

use std::process::Command;

use crucial_testing::{Executable, Server};

fn run(server: Option<&Server>, more: &[&str]) -> (String, String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crucial"));
    if let Some(server) = server {
        command.args(["--cluster", &server.address]);
    }
    let output = command
        .arg("run")
        .args(more)
        .args(["--", "-p", "crucial-test-program", "--", "here"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("CRUCIAL_CLUSTER")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    (
        text(&output.stdout),
        text(&output.stderr),
        output.status.code(),
    )
}

#[test]
fn a_program_is_built_with_its_types_and_runs_where_it_is_told() {
    let expected = "here: 4 parts, the largest 9";
    // Without a server it brings its own.
    let (out, error, code) = run(None, &[]);
    assert_eq!((out.as_str(), code), (expected, Some(0)), "{error}");

    let crucial = Executable::crucial(env!("CARGO_BIN_EXE_crucial"));
    let server = Server::start(&crucial, &[]).unwrap();
    let (out, error, code) = run(Some(&server), &[]);
    assert_eq!((out.as_str(), code), (expected, Some(0)), "{error}");
    let modules = server.crucial(&["modules"]).unwrap();
    assert!(modules.contains("crucial_test_program::Tally"), "{modules}");
    // What is there already is as good.
    let (out, error, code) = run(Some(&server), &["--types", "crucial-test-program"]);
    assert_eq!((out.as_str(), code), (expected, Some(0)), "{error}");
    assert_eq!(server.crucial(&["modules"]).unwrap(), modules);
}
