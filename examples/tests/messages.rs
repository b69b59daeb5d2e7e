//! K37 and K40 of the applications: what a user is told who has given a wrong option, file or variable.

mod programs;

use programs::{Files, example, run};

/// Words of libraries, and of Rust's own formats, that say nothing to a user.
const STRANGE: [&str; 12] = [
    "(os error",
    "invalid digit",
    "invalid float",
    "number too large",
    "out of range integral",
    "Hit the end",
    "Os {",
    "Err(",
    "panicked",
    "configuration: ",
    "Config: ",
    "Error: Error",
];

#[test]
fn k40_messages_of_applications_name_the_thing_and_say_it_once() {
    let files = Files::new();
    let missing = files.path("missing.csv").to_string_lossy().into_owned();
    let directory = files.0.path().to_string_lossy().into_owned();
    let nowhere = files.path("no/where.csv").to_string_lossy().into_owned();
    for (name, arguments, parts) in [
        (
            "kmeans",
            &["--threads", "x"][..],
            &["--threads", "'x'", "from 1 to 1000"][..],
        ),
        (
            "kmeans",
            &["--threads", "0"],
            &["--threads", "from 1 to 1000"],
        ),
        ("kmeans", &["-k", "-1"], &["-1", "from 1 to"]),
        ("kmeans", &["-k", "many"], &["many", "from 1 to"]),
        // Before the file is read.
        (
            "kmeans",
            &["-k", "0", "--file", &missing],
            &["-k", "from 1 to"],
        ),
        (
            "kmeans",
            &["--file", "--threads", "2"],
            &["value is required for '--file"],
        ),
        ("kmeans", &["-k", "1798"], &["1798 clusters of 1797 points"]),
        (
            "kmeans",
            &["--generate", "10", "-k", "18446744073709551615"],
            &["of 10 points"],
        ),
        (
            "kmeans",
            &["--iterations", "0"],
            &["--iterations", "from 1 to"],
        ),
        (
            "kmeans",
            &["--tolerance", "-inf"],
            &["-inf", "a finite number"],
        ),
        ("logistic", &["--rate", "-0.5"], &["-0.5", "above 0"]),
        ("logistic", &["--generate", "-1", "5"], &["-1", "from 1 to"]),
        ("inference", &["-k", "1438"], &["from 1 to 1437"]),
        (
            "philosophers",
            &["--meal-us", "18446744073709551615"],
            &["from 0 to 86400000000"],
        ),
        (
            "santa",
            &["--millis", "18446744073709551615"],
            &["from 0 to 86400000"],
        ),
        ("mapreduce", &["--points", "0"], &["--points", "from 1 to"]),
        (
            "mandelbrot",
            &["--threads", "-8"],
            &["-8", "from 1 to 1000"],
        ),
        ("montecarlo", &["--points", "-5"], &["-5", "from 1 to"]),
        ("wordcount", &["--top", "-5"], &["-5", "from 0 to"]),
        ("forest", &["--depth", "-5"], &["-5", "from 1 to 100"]),
        (
            "kmeans",
            &["--tolerance", "small"],
            &["--tolerance", "a finite number"],
        ),
        ("kmeans", &["--file", &missing], &[&missing, "No such file"]),
        ("kmeans", &["--file", &directory], &[&directory, ".csv"]),
        ("kmeans", &["--out", &nowhere], &[&nowhere]),
        (
            "logistic",
            &["--iterations", "1e3"],
            &["--iterations", "from 1 to"],
        ),
        ("logistic", &["--file", &missing], &[&missing]),
        (
            "forest",
            &["--trees", "99999999999"],
            &["--trees", "from 1 to 10000"],
        ),
        (
            "mandelbrot",
            &["--size", "65536"],
            &["--size", "from 1 to 65535"],
        ),
        ("mandelbrot", &["--out", &nowhere], &[&nowhere]),
        ("montecarlo", &["--points", "0"], &["--points", "from 1 to"]),
        ("wordcount", &[&missing], &[&missing]),
        (
            "philosophers",
            &["--philosophers", "1"],
            &["from 2 to 1000"],
        ),
        ("inference", &["--requests", "-3"], &["-3", "from 1 to"]),
        (
            "mapreduce",
            &["--rounds", "0"],
            &["--rounds", "from 1 to 1000"],
        ),
    ] {
        for program in [name.to_owned(), format!("{name}-std")] {
            let (failed, said) = run(example(&program).args(arguments));
            let what = format!("{program} {arguments:?}");
            assert!(
                matches!(failed.status.code(), Some(1 | 2)),
                "{what}: {said}"
            );
            for part in parts {
                assert!(said.contains(part), "{what}: {part:?} is not in: {said}");
            }
            for strange in STRANGE {
                assert!(!said.contains(strange), "{what}: {strange:?} is in: {said}");
            }
        }
    }
    for (variable, value, expected) in [
        ("CRUCIAL_REPLICAS", "9", "a whole number from 1 to 3"),
        ("CRUCIAL_CLUSTER", "nowhere", "HOST:PORT or unix:PATH"),
        ("CRUCIAL_PLATFORM", "moon", "`local` or `in-process`"),
        ("CRUCIAL_MEMORY_MB", "much", "a whole number from 32 to"),
        ("CRUCIAL_MEMORY_MB", "12", "a whole number from 32 to"),
        ("CRUCIAL_CLUSTER", "http://host:7171", "perhaps host:7171"),
        ("CRUCIAL_CLUSTER", "host:0", "port 0"),
        ("CRUCIAL_MODULE", "/nowhere/types.wasm", "No such file"),
    ] {
        let (failed, said) = run(example("montecarlo").env(variable, value));
        assert_eq!(failed.status.code(), Some(1), "{variable}: {said}");
        // The first word, once, and then what is wrong.
        assert!(said.starts_with(&format!("Error: {variable}")), "{said}");
        assert!(said.contains(value) && said.contains(expected), "{said}");
        for strange in STRANGE {
            assert!(
                !said.contains(strange),
                "{variable}: {strange:?} is in: {said}"
            );
        }
    }
}

#[test]
fn k37_variables_without_effect_are_said_once() {
    for (name, value, expected) in [
        ("CRUCIAL_CONCURENCY", "2", "CRUCIAL_CONCURRENCY"),
        ("RUST_LOG", "crucial=loud", "RUST_LOG"),
    ] {
        let mut command = example("montecarlo");
        command.args(["--points", "10", "--threads", "3"]);
        let (done, said) = run(command.env(name, value));
        assert!(done.status.success(), "{said}");
        assert!(said.contains(expected), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
