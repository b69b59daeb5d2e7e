//! Exported histories, checked by `tests/check.py`, which shares no code with the crate: both agree on each object.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use crucial_linear::{Checker, Export, write_history};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::choices;
use crate::objects::{Fifo, Integer, MapEntry, Object};
use crate::simulation::{Log, simulate, tamper};

/// For each kind of object: many short histories, half of them with planted wrong outputs, and a few long ones.
const SHORT: usize = 200;
const LONG: usize = 5;

/// Writes a history, and returns the line that the other checker must print for it.
fn export<T>(name: &str, log: Log<T>, out: &mut impl Write) -> String
where
    T: Object<Model: Export>,
{
    let (model, history) = (T::model(), log.into());
    write_history(&history, &model, |()| name.to_owned(), out).expect("the file can be written");
    match Checker::new(&model).check(&history) {
        Ok(()) => format!("{name}: linearizable"),
        Err(failure) => {
            assert!(failure.violation().is_some(), "small enough to decide");
            format!("{name}: violation")
        }
    }
}

fn export_all<T>(out: &mut impl Write) -> Vec<String>
where
    T: Object<Model: Export>,
{
    let kind = <T::Model as Export>::TYPE;
    let mut runner = TestRunner::deterministic();
    let mut draw = |length| {
        let tree = choices(length).new_tree(&mut runner);
        tree.expect("no filter").current()
    };
    let mut expected = Vec::new();
    for number in 0..SHORT + LONG {
        // As many as fit: a long history has some hundred calls.
        let length = if number < SHORT { 40 } else { 400 };
        let mut log = simulate::<T>(4, usize::MAX, &draw(length));
        if number % 2 == 1 {
            let wrong = draw(2);
            tamper::<T>(&mut log, wrong[0], wrong[1]);
        }
        if !log.is_empty() {
            expected.push(export::<T>(&format!("{kind}-{number:03}"), log, out));
        }
    }
    expected
}

#[test]
fn another_checker_agrees_on_exported_histories() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("exported.jsonl");
    let mut file = std::fs::File::create(&path).expect("a file can be made");
    let mut expected = export_all::<Integer>(&mut file);
    expected.extend(export_all::<Fifo>(&mut file));
    expected.extend(export_all::<MapEntry>(&mut file));
    let checker = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check.py");
    let output = Command::new("python3")
        .arg("-B")
        .args([checker, path])
        .output()
        .expect("this test needs python3");
    let printed = String::from_utf8(output.stdout).expect("text");
    let mut printed: Vec<_> = printed.lines().collect();
    printed.sort_unstable();
    expected.sort_unstable();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(printed, expected, "{errors}");
    let count = |verdict: &str| {
        printed
            .iter()
            .filter(|line| line.ends_with(verdict))
            .count()
    };
    let (good, bad) = (count(": linearizable"), count(": violation"));
    assert!(good > SHORT && bad > SHORT / 2, "{good} good, {bad} bad");
    assert_eq!(output.status.code(), Some(1), "there are violations");
}
