//! `crucial new`: the program that it makes, and what it refuses.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// The root of this checkout.
const CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn new(directory: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_crucial"))
        .arg("new")
        .args(words)
        .current_dir(directory)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// What is in a folder and below, without the folders themselves.
fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path.display().to_string()),
        }
    }
    found
}

/// Runs cargo in a program, with what this workspace was built with, and returns what it printed.
fn cargo(program: &Path, words: &[&str]) -> String {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let output = command
        .args(words)
        // What is built once is not built again by the next run of this test.
        .env(
            "CARGO_TARGET_DIR",
            concat!(env!("CARGO_TARGET_TMPDIR"), "/new"),
        )
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_NET_OFFLINE", "true")
        .env_remove("CRUCIAL_CLUSTER")
        .current_dir(program)
        .output()
        .unwrap();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{words:?}: {out}\n{error}");
    assert!(!error.contains("warning"), "{words:?}: {error}");
    out
}

#[test]
fn j6_a_new_program_builds_runs_and_tests_as_it_is() {
    let here = TempDir::new().unwrap();
    let made = new(here.path(), &["first/my-program", "--crucial", CHECKOUT]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert_eq!(
        text(&made.stdout),
        "cd first/my-program && cargo run --release"
    );
    let program = here.path().join("first/my-program");
    let readme = fs::read_to_string(program.join("README.md")).unwrap();
    assert!(readme.starts_with("# my-program\n") && readme.lines().count() <= 10);
    // The versions that this workspace has, none of which is fetched.
    fs::copy(
        Path::new(CHECKOUT).join("Cargo.lock"),
        program.join("Cargo.lock"),
    )
    .unwrap();
    let said = cargo(&program, &["test"]);
    for test in [
        "the_estimate_waits_for_its_points",
        "four_threads_estimate_pi",
    ] {
        assert!(said.contains(&format!("test {test} ... ok")), "{said}");
    }
    assert!(cargo(&program, &["run"]).starts_with("pi is about 3.1"));
    // As rustfmt writes it.
    cargo(&program, &["fmt", "--check"]);
}

#[test]
fn a_new_program_has_the_version_of_its_command() {
    let here = TempDir::new().unwrap();
    assert!(new(here.path(), &["plain"]).status.success());
    let manifest = fs::read_to_string(here.path().join("plain/Cargo.toml")).unwrap();
    let dependency = format!("crucial = \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(manifest.contains(&dependency), "{manifest}");
    let made = new(here.path(), &["it's", "--json"]);
    assert!(!made.status.success());
    let made = new(here.path(), &["two words/again", "--json"]);
    assert_eq!(
        text(&made.stdout),
        r#"{"name":"again","path":"two words/again"}"#
    );
}

#[test]
fn names_and_places_that_cannot_be_are_refused() {
    let here = TempDir::new().unwrap();
    fs::create_dir(here.path().join("full")).unwrap();
    fs::write(here.path().join("file"), "").unwrap();
    let long = "a".repeat(65);
    let before = files(here.path());
    for (words, part) in [
        (&["full"][..], "full exists already: choose another name"),
        (&["file"], "file exists already"),
        (&["file/program"], "cannot create the folder file"),
        (&["1st"], "begins with no letter"),
        (&["-x"], "unexpected argument '-x'"),
        (&["_x"], "begins with no letter"),
        (&[""], "<NAME>"),
        (&[".."], "the path ends with no name"),
        (&["a.b"], "it has '.' in it"),
        (&["größe"], "it has 'ö' in it"),
        (&["match"], "it is a word of the language"),
        (&["test"], "the name is taken"),
        (&["crucial"], "the name is taken"),
        (&["serde"], "the name is taken"),
        (&[&long], "longer than 64 bytes"),
        (
            &["x", "--crucial", "nowhere"],
            "--crucial nowhere: No such file",
        ),
        (
            &["x", "--crucial", "full"],
            "the crate `crucial` is not there",
        ),
        (&[], "<NAME>"),
    ] {
        let made = new(here.path(), words);
        let said = text(&made.stderr);
        assert!(matches!(made.status.code(), Some(1 | 2)), "{words:?}");
        assert!(said.contains(part), "{words:?}: {said}");
    }
    assert_eq!(files(here.path()), before);
}
