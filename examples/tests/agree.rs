//! Runs both versions of each application as a user does, and compares their output.

mod programs;

use std::path::{Path, PathBuf};

use programs::{ALL, example, output, refuses};

#[test]
fn i01_pi_is_the_same_and_right() {
    let arguments = ["--threads", "20", "--points", "200000"];
    let std = output(example("montecarlo-std").args(arguments));
    let crucial = output(example("montecarlo").args(arguments));
    assert_eq!(std, crucial);
    assert_eq!(std, output(example("montecarlo-ported").args(arguments)));
    let pi: f64 = crucial
        .trim()
        .rsplit(' ')
        .next()
        .and_then(|text| text.parse().ok())
        .expect("the last word is π");
    assert!((pi - std::f64::consts::PI).abs() < 1e-3, "{pi}");
}

fn centroids(path: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(path).expect("the program wrote it");
    let numbers = text.split([',', '\n']).filter(|text| !text.is_empty());
    numbers.map(|n| n.parse().expect("a number")).collect()
}

fn agree(arguments: &[&str]) {
    let directory = tempfile::tempdir().expect("a directory");
    let run = |name: &str| {
        let path: PathBuf = directory.path().join(name);
        let said = output(example(name).args(arguments).arg("--out").arg(&path));
        (said, centroids(&path))
    };
    let (said_std, std) = run("kmeans-std");
    assert!(!std.is_empty());
    for name in ["kmeans", "kmeans-ported"] {
        let (said, centroids) = run(name);
        assert_eq!(said_std, said, "{name}");
        assert_eq!(std.len(), centroids.len());
        for (a, b) in std.iter().zip(&centroids) {
            assert!((a - b).abs() < 1e-9, "{name}: {a} and {b}");
        }
    }
}

#[test]
fn i05_kmeans_of_the_digits_has_the_same_centroids() {
    agree(&[]);
}

#[test]
fn i05_kmeans_of_made_up_points_has_the_same_centroids() {
    agree(&[
        "--generate",
        "5000",
        "--dimensions",
        "20",
        "-k",
        "7",
        "--threads",
        "3",
        "--seed",
        "5",
    ]);
}

#[test]
fn i05_kmeans_of_a_file_has_the_same_centroids() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("points.csv");
    let rows = (0..300).map(|i| format!("{},{}\n", (i * 7919) % 101, (i * 104_729) % 97));
    std::fs::write(&path, rows.collect::<String>()).expect("written");
    let path = path.to_str().expect("a plain path");
    agree(&["--file", path, "-k", "5", "--threads", "2"]);
}

#[test]
fn kmeans_plots_and_explains_bad_input() {
    let directory = tempfile::tempdir().expect("a directory");
    let plot = directory.path().join("inertia.svg");
    output(example("kmeans").arg("--plot").arg(&plot));
    assert!(
        std::fs::read_to_string(&plot)
            .expect("drawn")
            .contains("</svg>")
    );
    for (arguments, expected) in [
        (vec!["--file", "/no/such.csv"], "/no/such.csv"),
        (vec!["-k", "0"], "from 1 to"),
        (vec!["--threads", "0"], "from 1 to 1000"),
    ] {
        refuses("kmeans", &arguments, expected);
    }
}

#[test]
fn i08_santa_keeps_his_rules_in_all_variants() {
    let rule = "15 deliveries with 9 reindeer each, ";
    let std = output(example("santa-std").args(["--millis", "2"]));
    assert!(std.starts_with(rule), "{std}");
    let ported = output(example("santa-ported").args(["--millis", "2"]));
    assert!(ported.starts_with(rule), "{ported}");
    for variant in ["objects", "cloud"] {
        let said = output(example("santa").args(["--millis", "2", "--variant", variant]));
        assert!(said.starts_with(rule), "{variant}: {said}");
    }
}

#[test]
fn j02_programs_of_another_hand_are_the_same() {
    for name in ["bank", "pipeline", "pool", "sieve", "life"] {
        let std = output(&mut example(&format!("{name}-std")));
        assert_eq!(std, output(&mut example(name)), "{name}");
    }
}

#[test]
fn i04_mandelbrot_is_the_same_picture() {
    let directory = tempfile::tempdir().expect("a directory");
    let draw = |name: &str| {
        let path = directory.path().join(name);
        let size = ["--size", "300", "--iterations", "200"];
        output(example(name).args(size).arg("--out").arg(&path));
        let mut reader = png::Decoder::new(std::io::BufReader::new(
            std::fs::File::open(&path).expect("drawn"),
        ))
        .read_info()
        .expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("it fits")];
        reader.next_frame(&mut pixels).expect("a picture");
        pixels
    };
    let (std, crucial) = (draw("mandelbrot-std"), draw("mandelbrot"));
    assert_eq!(std.len(), 300 * 300);
    assert!(std == crucial);
}

/// The numbers after `word` in a program's output.
fn numbers(said: &str, word: &str) -> Vec<f64> {
    let after = said.lines().filter_map(|line| line.split(word).nth(1));
    after
        .map(|text| text.trim().parse().expect("a number"))
        .collect()
}

fn same_losses(arguments: &[&str]) {
    // One thread is the sequential program.
    let alone = output(
        example("logistic-std")
            .args(arguments)
            .args(["--threads", "1"]),
    );
    let std = output(
        example("logistic-std")
            .args(arguments)
            .args(["--threads", "7"]),
    );
    let ported = output(
        example("logistic-ported")
            .args(arguments)
            .args(["--threads", "7"]),
    );
    assert_eq!(std, ported);
    let crucial = output(example("logistic").args(arguments).args(["--threads", "7"]));
    assert_eq!(std, crucial);
    let (alone, crucial) = (numbers(&alone, ": loss "), numbers(&crucial, ": loss "));
    assert_eq!(alone.len(), 40);
    assert_eq!(crucial.len(), 40);
    for (a, b) in alone.iter().zip(&crucial) {
        assert!((a - b).abs() < 1e-9, "{a} and {b}");
    }
    assert!(crucial.is_sorted_by(|a, b| a > b), "{crucial:?}");
}

#[test]
fn i07_logistic_regression_of_the_breast_cancer_data_has_the_same_losses() {
    same_losses(&["--iterations", "40"]);
}

#[test]
fn i07_logistic_regression_of_made_up_rows_has_the_same_losses() {
    same_losses(&[
        "--iterations",
        "40",
        "--generate",
        "20000",
        "37",
        "--seed",
        "3",
    ]);
}

#[test]
fn i07_logistic_regression_learns_plots_and_explains_bad_input() {
    let directory = tempfile::tempdir().expect("a directory");
    let plot = directory.path().join("loss.svg");
    let said = output(example("logistic").arg("--plot").arg(&plot));
    let right = said.lines().last().and_then(|line| line.split(' ').next());
    let right: u32 = right.and_then(|text| text.parse().ok()).expect("a number");
    assert!(right > 555, "{said}");
    let drawn = std::fs::read_to_string(&plot).expect("drawn");
    assert!(drawn.contains("</svg>"));
    let letters = directory.path().join("letters.csv");
    std::fs::write(&letters, "a,b,label\n1,2,0\n3,x,1\n").expect("written");
    let letters = letters.to_str().expect("a plain path");
    for program in ["logistic", "logistic-std"] {
        refuses(program, &["--file", "/no/such.csv"], "/no/such.csv");
        refuses(
            program,
            &["--file", letters],
            "line 3, column 2: \"x\" is not a number",
        );
        refuses(program, &["--threads", "0"], "from 1 to 1000");
        refuses(program, &["--generate", "5", "0"], "from 1 to");
        refuses(program, &["--rate", "0"], "above 0");
    }
}

/// The words and their counts in a program's output.
fn word_counts(said: &str) -> Vec<(u64, String)> {
    let lines = said.lines().skip(1).map(|line| {
        let (count, word) = line.trim().split_once(' ').expect("a number and a word");
        (count.parse().expect("a number"), word.to_owned())
    });
    lines.collect()
}

#[test]
fn i02_word_count_of_files_is_the_sequential_count() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut expected = std::collections::BTreeMap::new();
    for file in 0..60u64 {
        let words = (0..500).map(|i| format!("w{}", (file * 31 + i * i) % 211));
        let words: Vec<String> = words.collect();
        for word in &words {
            *expected.entry(word.clone()).or_insert(0) += 1;
        }
        let path = directory.path().join(format!("{file}.txt"));
        std::fs::write(path, words.join(", ")).expect("written");
    }
    let mut expected: Vec<(u64, String)> = expected.into_iter().map(|(w, c)| (c, w)).collect();
    expected.sort_by(|(a, a_word), (b, b_word)| b.cmp(a).then(a_word.cmp(b_word)));
    for program in ["wordcount-std", "wordcount"] {
        let mut command = example(program);
        command.arg(directory.path());
        let said = output(command.args(["--threads", "55", "--top", "1000"]));
        assert!(said.starts_with("30000 words, "), "{said}");
        assert_eq!(word_counts(&said), expected, "{program}");
    }
}

#[test]
fn i03_word_count_of_made_up_texts_is_the_sequential_count() {
    let alone = output(example("wordcount-std").args(["--threads", "1", "--top", "9999"]));
    let std = output(example("wordcount-std").args(["--threads", "12", "--top", "9999"]));
    let crucial = output(example("wordcount").args(["--threads", "12", "--top", "9999"]));
    assert_eq!(alone, std);
    assert_eq!(alone, crucial);
    assert!(word_counts(&crucial).len() > 1000);
    assert_eq!(word_counts(&output(&mut example("wordcount"))).len(), 10);
}

#[test]
fn word_count_explains_bad_input() {
    let empty = tempfile::tempdir().expect("a directory");
    let empty = empty.path().to_str().expect("a plain path");
    for program in ["wordcount", "wordcount-std"] {
        refuses(program, &["/no/such"], "/no/such");
        refuses(program, &[empty], "there is no file in it");
        refuses(program, &["--threads", "0"], "from 1 to 1000");
    }
}

#[test]
fn i09_philosophers_eat_and_never_next_to_each_other() {
    for philosophers in ["2", "5", "12"] {
        let arguments = ["--philosophers", philosophers, "--meal-us", "500"];
        let std = output(example("philosophers-std").args(arguments));
        let crucial = output(example("philosophers").args(arguments));
        assert_eq!(std, crucial);
        let count: usize = philosophers.parse().expect("a number");
        assert_eq!(crucial.matches(": 20 meals\n").count(), count, "{crucial}");
        assert!(crucial.contains(&format!("{} meals, and nobody", count * 20)));
    }
}

#[test]
fn i09_philosophers_without_forks_are_seen() {
    let careless = ["--careless", "--meals", "100"];
    for program in ["philosophers", "philosophers-std"] {
        refuses(program, &careless, "eats next to");
        refuses(program, &["--philosophers", "1"], "from 2 to 1000");
    }
}

#[test]
fn i10_random_forests_vote_the_same() {
    for arguments in [&["--seed", "5", "--threads", "7"][..], &[]] {
        let std = output(example("forest-std").args(arguments));
        let crucial = output(example("forest").args(arguments));
        assert_eq!(std, crucial);
        let accuracy = crucial.trim_end().trim_end_matches(" %").rsplit(' ').next();
        let accuracy: f64 = accuracy
            .and_then(|text| text.parse().ok())
            .expect("the last number is the accuracy");
        assert!(accuracy > 94.0, "{crucial}");
    }
    let other = output(example("forest").args(["--seed", "6"]));
    assert_ne!(other, output(&mut example("forest")), "a seed decides");
}

#[test]
fn i10_random_forests_explain_bad_input() {
    let directory = tempfile::tempdir().expect("a directory");
    let written = |name: &str, row: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, row.repeat(20)).expect("written");
        path.to_str().expect("a plain path").to_owned()
    };
    let (halves, alike) = (
        written("halves.csv", "1,0.5\n"),
        written("alike.csv", "1,1\n"),
    );
    for program in ["forest", "forest-std"] {
        refuses(program, &["--file", "/no/such.csv"], "/no/such.csv");
        refuses(program, &["--file", &halves], "the class is 0.5");
        refuses(program, &["--file", &alike], "at least two classes");
        refuses(program, &["--threads", "0"], "from 1 to 1000");
    }
}

#[test]
fn map_reduce_gets_the_same_result_in_all_ways() {
    let arguments = ["--tasks", "12", "--points", "100000", "--rounds", "2"];
    for program in ["mapreduce-std", "mapreduce"] {
        let said = output(example(program).args(arguments));
        let results: Vec<_> = said.lines().collect();
        assert_eq!(results.len(), 3, "{said}");
        let ways = ["futures", "auto-reduce", "polling"];
        // The expected result is computed sequentially.
        let inside: i64 = (0..12)
            .map(|task| crucial_examples::montecarlo::sample(100_000, task))
            .sum();
        for (way, result) in ways.iter().zip(results) {
            let (result, late) = result.split_once("; known ").expect("a time");
            let expected = format!("{inside} of 1200000 points are inside");
            assert_eq!(result, format!("{way:<11} {expected}"), "{program}");
            let late: f64 = late
                .split(' ')
                .next()
                .and_then(|late| late.parse().ok())
                .expect("milliseconds");
            assert!((0.0..5000.0).contains(&late), "{program}: {said}");
        }
    }
    let one = output(example("mapreduce").args(["--variant", "futures", "--points", "10"]));
    assert!(one.starts_with("futures ") && one.lines().count() == 1);
    for program in ["mapreduce", "mapreduce-std"] {
        refuses(program, &["--tasks", "0"], "from 1 to 1000");
    }
}

#[test]
fn inference_is_as_right_at_the_model_as_away_from_it() {
    let arguments = ["--requests", "1000", "--threads", "3"];
    let mut rights = Vec::new();
    for program in ["inference-std", "inference"] {
        let said = output(example(program).args(arguments));
        for (way, line) in ["remote ", "fetch "].iter().zip(said.lines()) {
            let (right, rate) = line.split_once(" %; ").expect("a rate");
            assert!(right.starts_with(way), "{said}");
            rights.push(right[way.len()..].trim().to_owned());
            let rate = rate.split(' ').next().and_then(|rate| rate.parse().ok());
            assert!(rate.is_some_and(|rate: f64| rate > 0.0), "{said}");
        }
    }
    assert_eq!(rights.len(), 4);
    assert!(rights.iter().all(|right| *right == rights[0]), "{rights:?}");
    let hits: u32 = rights[0]
        .split(' ')
        .next()
        .and_then(|hits| hits.parse().ok())
        .expect("a number");
    assert!(hits > 850, "{hits}");
    for program in ["inference", "inference-std"] {
        refuses(program, &["-k", "0"], "from 1 to");
    }
}

#[test]
fn all_programs_explain_themselves() {
    for name in ALL {
        let crucial = output(example(name).arg("--help"));
        let std = output(example(&format!("{name}-std")).arg("--help"));
        let usage = format!("Usage: {name} ");
        assert!(crucial.contains(&usage), "{crucial}");
        let (_, crucial) = crucial.split_once("Options:").expect("options");
        // Santa's versions have different options.
        if name != "santa" {
            assert!(std.ends_with(crucial), "{std}\n{crucial}");
        }
    }
}
