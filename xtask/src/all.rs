//! `cargo xtask all`: the checks that are too long for CI, one after the other.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

struct Step {
    name: &'static str,
    /// Which folder of the workspace it runs in.
    folder: &'static str,
    command: &'static str,
    /// How long it may take on two cores, without the build; more is a warning.
    budget_s: u64,
}

const fn step(name: &'static str, budget_s: u64, command: &'static str) -> Step {
    Step {
        name,
        folder: ".",
        command,
        budget_s,
    }
}

const fn fuzz(name: &'static str, command: &'static str) -> Step {
    Step {
        name,
        folder: "fuzz",
        command,
        budget_s: 700,
    }
}

const STEPS: [Step; 17] = [
    step(
        "chaos",
        700,
        "cargo run --release -p crucial-chaos -- --seconds 600",
    ),
    step(
        "hour-of-chaos",
        5000,
        "cargo run --release -p crucial-chaos -- --seconds 600 --pieces 6 --seed 100 --servers 5 --modules --large 200 --small 1000000 --long 300 --rss-max-mb 4000 --whole-s 600",
    ),
    step(
        "simulation",
        1500,
        "cargo run --release -p crucial-sim -- --seeds 0..100000",
    ),
    step(
        "overlapping-faults",
        1800,
        "cargo run --release -p crucial-sim -- --overlapping --seeds 0..100000",
    ),
    step(
        "planted-bugs",
        1800,
        "cargo run --release -p crucial-sim -- --mutants --overlapping --seeds 0..100000",
    ),
    step(
        "locks",
        900,
        "env LOCKS_TIMES=100 cargo test --release -p crucial-node --features mutants,shuttle --test locks",
    ),
    step(
        "switch",
        900,
        "env LOCKS_TIMES=30 cargo test --release -p crucial-std --features shuttle --test switch",
    ),
    fuzz(
        "fuzz-frame",
        "cargo +nightly fuzz run frame -- -max_total_time=300",
    ),
    fuzz(
        "fuzz-cell",
        "cargo +nightly fuzz run cell_args -- -max_total_time=300",
    ),
    fuzz(
        "fuzz-module",
        "cargo +nightly fuzz run module corpus/module seeds/module -- -max_total_time=300",
    ),
    step(
        "bench-latency",
        300,
        "cargo run --release -p crucial-bench -- latency",
    ),
    step(
        "bench-throughput",
        300,
        "cargo run --release -p crucial-bench -- throughput",
    ),
    step(
        "bench-barrier",
        300,
        "cargo run --release -p crucial-bench -- barrier",
    ),
    step(
        "bench-objects",
        300,
        "cargo run --release -p crucial-bench -- objects",
    ),
    step(
        "bench-cluster",
        300,
        "cargo run --release -p crucial-bench -- cluster",
    ),
    step(
        "bench-modules",
        300,
        "cargo run --release -p crucial-bench -- modules",
    ),
    step(
        "bench-spawn",
        300,
        "cargo run --release -p crucial-bench -- spawn",
    ),
];

/// Runs the steps whose names begin with one of these, or all; goes on after one that fails, and fails at the end.
pub fn run(root: &Path, names: &[String]) -> Result<(), String> {
    if names.iter().any(|name| name == "--list") {
        STEPS.iter().for_each(|step| {
            println!("{:18} {:>5} s   {}", step.name, step.budget_s, step.command)
        });
        return Ok(());
    }
    let steps = chosen(names)?;
    let mut done = Vec::new();
    for step in steps {
        println!("\n== {}: {}", step.name, step.command);
        let begin = Instant::now();
        let result = execute(root, step);
        if let Err(error) = &result {
            eprintln!("{}: {error}", step.name);
        }
        done.push((step, begin.elapsed(), result.is_ok()));
    }
    println!("\n{}", table(&done));
    match done.iter().filter(|(_, _, holds)| !holds).count() {
        0 => Ok(()),
        failed => Err(format!("{failed} of {} steps failed", done.len())),
    }
}

fn chosen(names: &[String]) -> Result<Vec<&'static Step>, String> {
    let has_name = |step: &Step, name: &String| step.name.starts_with(name.as_str());
    if let Some(name) = names
        .iter()
        .find(|name| !STEPS.iter().any(|step| has_name(step, name)))
    {
        return Err(format!(
            "{name:?} is the name of no step: `cargo xtask all --list`"
        ));
    }
    Ok(STEPS
        .iter()
        .filter(|step| names.is_empty() || names.iter().any(|name| has_name(step, name)))
        .collect())
}

fn execute(root: &Path, step: &Step) -> Result<(), String> {
    let folder = root.join(step.folder);
    // The fuzzer keeps what it finds there, and does not make the folder.
    for corpus in step
        .command
        .split(' ')
        .filter(|word| word.starts_with("corpus/"))
    {
        std::fs::create_dir_all(folder.join(corpus)).map_err(|e| format!("{corpus}: {e}"))?;
    }
    let mut words = step.command.split(' ');
    let program = words.next().unwrap_or_default();
    let mut command = Command::new(program);
    command.args(words).current_dir(folder);
    // `cargo run`, which has started this, says which toolchain: a step may name another one.
    command.env_remove("RUSTUP_TOOLCHAIN");
    let status = command
        .status()
        .map_err(|e| format!("{program} cannot be started: {e}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{status}{}", hint(step))),
    }
}

fn hint(step: &Step) -> &'static str {
    match step.folder {
        "fuzz" => " (needs a nightly toolchain and `cargo install cargo-fuzz`)",
        _ => "",
    }
}

fn table(done: &[(&Step, Duration, bool)]) -> String {
    let mut table = format!("{:18} {:>8} {:>8}", "step", "seconds", "budget");
    for (step, took, holds) in done {
        let note = match (holds, took.as_secs() > step.budget_s) {
            (false, _) => "   failed",
            (true, true) => "   warning: over its budget",
            (true, false) => "",
        };
        table += &format!(
            "\n{:18} {:>8} {:>8}{note}",
            step.name,
            took.as_secs(),
            step.budget_s
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{STEPS, chosen, table};

    #[test]
    fn steps_are_chosen_by_how_their_names_begin() {
        let count = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            chosen(&names).map(|steps| steps.len())
        };
        assert_eq!(count(&[]), Ok(STEPS.len()));
        assert_eq!(count(&["fuzz", "chaos"]), Ok(4));
        assert!(count(&["nothing"]).is_err());
    }

    #[test]
    fn the_table_names_what_failed_or_was_slow() {
        let seconds = Duration::from_secs;
        let text = table(&[
            (&STEPS[0], seconds(1), true),
            (&STEPS[1], seconds(9999), true),
            (&STEPS[2], seconds(1), false),
        ]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].ends_with("700")
                && lines[2].contains("warning")
                && lines[3].contains("failed"),
            "{text}"
        );
    }
}
