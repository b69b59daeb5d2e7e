//! K1 to K11: data files, numbers and output that users of such programs have met. Each program is run as a user runs it,
//! the version with std threads beside the other. And K15 of an application: it ends with the first of its threads that dies.

mod programs;

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use programs::{ALL, Files, example, fails, output, refuses, run};

const KMEANS: [&str; 2] = ["kmeans-std", "kmeans"];

#[test]
fn k01_a_bad_value_is_named_with_its_true_line() {
    let files = Files::new();
    for (text, expected) in [
        ("1,2\r\n3,oops\r\n5,6\r\n9,8\r\n", "line 2, column 2"),
        ("1,2\r3,oops\r5,6\r9,8\r", "line 2, column 2"),
        ("1,2\n3,4\n\n5,oops\n", "line 4, column 2"),
        ("1,2\n3,\"4\n5,6\n", "line 2: a quote (\") begins there"),
        ("\"x,y\n1,2\n3,4\n", "line 1: a quote (\") begins there"),
    ] {
        let path = files.write("points.csv", text);
        for program in KMEANS {
            refuses(program, &["-k", "1", "--file", &path], expected);
        }
        for program in ["logistic", "forest"] {
            refuses(program, &["--file", &path], expected);
        }
    }
}

#[test]
fn k02_a_header_is_said_and_a_bad_first_row_is_an_error() {
    let files = Files::new();
    for (row, expected) in [
        ("1,,3", "line 1, column 2"),
        ("NA,2,3", "line 1, column 1"),
        ("1.5,abc,3", "line 1, column 2"),
    ] {
        let path = files.write("points.csv", format!("{row}\n4,5,6\n7,8,9\n"));
        for program in KMEANS {
            refuses(program, &["-k", "1", "--file", &path], expected);
        }
    }
    let path = files.write("named.csv", "x,y\n1,2\n3,4\n");
    for program in KMEANS {
        let (done, said) =
            run(example(program).args(["-k", "1", "--threads", "2", "--file", &path]));
        assert!(done.status.success(), "{said}");
        // Once, and not by each thread.
        assert_eq!(
            said.matches("line 1 is a header: x, y").count(),
            1,
            "{said}"
        );
        assert!(done.stdout.starts_with(b"2 points of 2 dimensions"));
    }
}

fn packed(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).expect("in memory");
    encoder.finish().expect("in memory")
}

#[test]
fn k03_all_members_of_a_gzip_file_are_read() {
    let files = Files::new();
    let both = [packed("1,2\n3,4\n"), packed("5,6\n")].concat();
    let whole = files.write("whole.csv.gz", &both);
    let garbage = files.write("garbage.csv.gz", [both, b"garbage".to_vec()].concat());
    let plain = files.write("plain.csv.gz", "1,2\n");
    for program in KMEANS {
        let said = output(example(program).args(["-k", "1", "--file", &whole]));
        assert!(said.starts_with("3 points of 2 dimensions"), "{said}");
        refuses(program, &["-k", "1", "--file", &garbage], "no gzip data");
        refuses(program, &["-k", "1", "--file", &plain], "not a gzip file");
    }
}

/// An array of two dimensions.
fn npy(values: &[f64], columns: usize) -> Vec<u8> {
    use npyz::WriterBuilder;
    let shape = [(values.len() / columns) as u64, columns as u64];
    let mut bytes = Vec::new();
    let options = npyz::WriteOptions::new().default_dtype().shape(&shape);
    let mut writer = options.writer(&mut bytes).begin_nd().expect("in memory");
    writer.extend(values.iter().copied()).expect("in memory");
    writer.finish().expect("in memory");
    bytes
}

#[test]
fn k04_numbers_that_are_none_are_refused() {
    let files = Files::new();
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let path = files.write("values.npy", npy(&[0.0, 1.0, 2.0, bad, 4.0, 1.0], 2));
        for program in [
            "kmeans",
            "kmeans-std",
            "logistic",
            "logistic-std",
            "forest",
            "forest-std",
        ] {
            refuses(program, &["--file", &path], "row 2, column 2");
        }
    }
    for program in KMEANS {
        refuses(
            program,
            &["--tolerance", "nan"],
            "a finite number is needed",
        );
        refuses(
            program,
            &["--tolerance", "inf"],
            "a finite number is needed",
        );
    }
    for program in ["logistic", "logistic-std"] {
        refuses(program, &["--rate", "1e308"], "give a smaller --rate");
        refuses(program, &["--rate", "nan"], "a finite number above 0");
    }
}

#[test]
fn k04_numbers_whose_squares_are_none_are_refused_or_scaled() {
    let files = Files::new();
    for (text, expected) in [
        (
            "x\n1\n-1e200\n3\n",
            "line 3, column 1: -1e200 is not between",
        ),
        ("1e-170\n3e-170\n4e-170\n", "multiply all values"),
    ] {
        let path = files.write("points.csv", text);
        for program in KMEANS {
            refuses(program, &["-k", "2", "--file", &path], expected);
        }
    }
    // Powers of 2, so that the digits stay.
    let scaled = |power: i32| {
        let factor = 2f64.powi(power);
        let row = |i: u32| format!("{:e},{}\n", f64::from((i * 7) % 11) * factor, i % 11 / 6);
        files.write("rows.csv", (0..100).map(row).collect::<String>())
    };
    for name in ["logistic", "forest"] {
        for program in [name.to_owned(), format!("{name}-std")] {
            let said = |power| output(example(&program).args(["--file", &scaled(power)]));
            let plain = said(0);
            assert_eq!((said(900), said(-900)), (plain.clone(), plain));
        }
    }
}

#[test]
fn k04_classes_that_are_none_are_named_with_their_line() {
    let files = Files::new();
    let rows = |class: &str| {
        let row = |i: u32| format!("{i},{}\n", i % 2);
        let all: String = (0..20).map(row).collect();
        files.write("rows.csv", format!("x,class\n\n{all}21,{class}\n"))
    };
    for (class, expected) in [
        ("1.5", "line 23, column 2: the class is 1.5"),
        ("-1", "line 23, column 2"),
        ("1e9", "from 0 to 1000000"),
    ] {
        for program in ["forest", "forest-std"] {
            refuses(program, &["--file", &rows(class)], expected);
        }
    }
    for program in ["logistic", "logistic-std"] {
        refuses(
            program,
            &["--file", &rows("2")],
            "line 23, column 2: the label is 2",
        );
    }
    let one = files.write("one.csv", "1,3\n2,3\n".repeat(10));
    for program in ["forest", "forest-std"] {
        refuses(program, &["--file", &one], "all rows have the class 3");
    }
}

#[test]
fn k05_points_far_from_zero_have_the_same_clusters() {
    let files = Files::new();
    let points = |offset: f64| {
        let row = |i: u32| {
            format!(
                "{}\n",
                offset + f64::from(i / 8) * 20.0 + f64::from(i % 8) / 4.0
            )
        };
        (0..16).map(row).collect::<String>()
    };
    let (near, far) = (
        files.write("near.csv", points(0.0)),
        files.write("far.csv", points(1.7e9)),
    );
    for program in KMEANS {
        let clusters = |path: &str| {
            output(example(program).args(["-k", "2", "--threads", "2", "--file", path]))
        };
        let said = clusters(&far);
        assert_eq!(clusters(&near), said);
        assert!(said.contains("cluster sizes: [8, 8]"), "{said}");
    }
}

#[test]
fn k06_a_constant_column_changes_no_loss() {
    let files = Files::new();
    let rows = |constant: &str| {
        let row = |i: u32| format!("{},{constant}{}\n", (i * 7) % 11, i % 2);
        (0..100).map(row).collect::<String>()
    };
    let (with, without) = (
        files.write("with.csv", rows("0.1,")),
        files.write("without.csv", rows("")),
    );
    for program in ["logistic", "logistic-std"] {
        let losses = |path: &str| {
            let said = output(example(program).args(["--file", path]));
            said.split_once('\n').map(|(_, losses)| losses.to_owned())
        };
        assert_eq!(losses(&with), losses(&without));
    }
}

#[test]
fn k07_names_need_not_be_text() {
    let files = Files::new();
    files.write(OsStr::from_bytes(b"caf\xe9.txt"), "a b a");
    files.write("plain.txt", "b c");
    let table = OsStr::from_bytes(b"p\xf6ints.csv");
    files.write(table, "1,0\n2,1\n3,0\n4,1\n");
    let counts = |program: &str| {
        output(
            example(program)
                .arg(files.0.path())
                .args(["--threads", "2"]),
        )
    };
    assert_eq!(counts("wordcount"), counts("wordcount-std"));
    let path = files.0.path().join(table);
    for program in ["kmeans", "logistic"] {
        let run = |program: &str| {
            let mut command = example(program);
            command.arg("--file").arg(&path).args(["--threads", "2"]);
            if program.starts_with("kmeans") {
                command.args(["-k", "2"]);
            }
            output(&mut command)
        };
        assert_eq!(run(program), run(&format!("{program}-std")));
    }
}

#[test]
fn k08_few_things_for_many_threads_and_too_many_for_the_memory() {
    let files = Files::new();
    files.write("one.txt", "a b a");
    for program in ["wordcount", "wordcount-std"] {
        let said = output(example(program).arg(files.0.path()));
        assert!(said.starts_with("3 words, 2 different"), "{said}");
        refuses(program, &["--words", "18446744073709551615"], "memory");
    }
    for (program, arguments) in [
        ("logistic", vec!["--threads", "600", "--iterations", "2"]),
        ("forest", vec!["--threads", "3", "--trees", "2"]),
        ("inference", vec!["--requests", "3", "--threads", "4"]),
    ] {
        output(example(program).args(&arguments));
        output(example(&format!("{program}-std")).args(&arguments));
    }
    for number in ["100000000000", "18446744073709551615"] {
        for program in KMEANS {
            refuses(program, &["--generate", number], "memory");
        }
        for program in ["logistic", "logistic-std"] {
            refuses(program, &["--generate", number, "100"], "memory");
        }
    }
}

#[test]
fn k08_what_is_not_counted_is_said() {
    let files = Files::new();
    files.write("one.txt", "\u{feff}a b a");
    std::os::unix::fs::symlink(files.path("missing"), files.path("link")).expect("made");
    let pipe = Command::new("mkfifo").arg(files.path("pipe")).status();
    assert!(pipe.expect("mkfifo runs").success());
    for program in ["wordcount", "wordcount-std"] {
        let (done, said) = run(example(program).arg(files.0.path()));
        assert!(done.stdout.starts_with(b"3 words, 2 different"), "{said}");
        for part in ["link is a link to what does not exist", "pipe is a pipe"] {
            assert_eq!(said.matches(part).count(), 1, "{part}: {said}");
        }
    }
    // Each thread would wait for whoever writes.
    let pipe = files.path("pipe.csv");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo runs").success());
    for program in KMEANS {
        fails(
            example(program).arg("--file").arg(&pipe),
            "pipe.csv: is not a file",
        );
    }
    let wide = Files::new();
    wide.write("wide.txt", b"\xff\xfea\0");
    let (wide, files) = (files.write("wide.csv", b"\xff\xfe1\0,\0"), wide);
    let directory = files.0.path().to_string_lossy().into_owned();
    for program in ["wordcount", "wordcount-std"] {
        refuses(program, &[&directory], "wide.txt: is text in UTF-16");
        refuses(program, &[&wide], "give the directory");
    }
    for program in KMEANS {
        refuses(program, &["--file", &wide], "wide.csv: is text in UTF-16");
    }
}

#[test]
fn k09_output_that_cannot_be_written_is_an_error_and_a_closed_pipe_is_none() {
    let full = Path::new("/dev/full");
    for program in ["mandelbrot", "mandelbrot-std"] {
        fails(
            example(program).args(["--size", "50", "--out"]).arg(full),
            "No space left",
        );
    }
    for program in KMEANS {
        fails(example(program).arg("--out").arg(full), "No space left");
        fails(example(program).arg("--plot").arg(full), "");
    }
    let files = Files::new();
    for name in ALL {
        for program in [name.to_owned(), format!("{name}-std")] {
            let picture = files.path("picture.png");
            let command = || {
                let mut command = example(&program);
                match name {
                    "montecarlo" => command.args(["--points", "1000", "--threads", "2"]),
                    "mandelbrot" => command.args(["--size", "50", "--out"]).arg(&picture),
                    "forest" => command.args(["--trees", "2", "--threads", "1"]),
                    "inference" => command.args(["--requests", "10"]),
                    "mapreduce" => {
                        command.args(["--points", "10", "--rounds", "1", "--tasks", "2"])
                    }
                    "santa" => command.args(["--millis", "1"]),
                    _ => command.args(["--threads", "2"].iter().filter(|_| name != "philosophers")),
                };
                command
            };
            let full = std::fs::File::options()
                .write(true)
                .open(full)
                .expect("it is there");
            let (failed, said) = run(command().stdout(full).stderr(Stdio::piped()));
            assert_eq!(failed.status.code(), Some(1), "{program}: {said}");
            assert!(
                said.contains("cannot print") && !said.contains("panicked"),
                "{program}: {said}"
            );
            let mut closed = command()
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the program runs");
            // Before it prints anything.
            drop(closed.stdout.take());
            let ended = closed.wait_with_output().expect("it ends");
            let said = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(ended.status.code(), Some(0), "{program}: {said}");
            assert_eq!(said, "", "{program}");
        }
    }
}

#[test]
fn k11_words_are_those_of_unicode() {
    let files = Files::new();
    files.write("a.txt", "हिन्दी हिन्दी \u{130}stanbul cafe\u{301} caf\u{e9}");
    for program in ["wordcount", "wordcount-std"] {
        let said = output(example(program).arg(files.0.path()));
        assert!(said.starts_with("5 words, 3 different"), "{said}");
        assert!(
            said.contains("2 हिन्दी") && said.contains("2 café"),
            "{said}"
        );
        assert!(said.contains("1 i\u{307}stanbul"), "{said}");
    }
}

#[test]
fn k11_arrays_of_integers_are_converted() {
    use npyz::WriterBuilder;
    let mut bytes = Vec::new();
    let options = npyz::WriteOptions::new().default_dtype().shape(&[3, 2]);
    let mut writer = options.writer(&mut bytes).begin_nd().expect("in memory");
    writer.extend(1i64..=6).expect("in memory");
    writer.finish().expect("in memory");
    let files = Files::new();
    let path = files.write("values.npy", bytes);
    for program in KMEANS {
        let said = output(example(program).args(["-k", "1", "--file", &path]));
        assert!(said.starts_with("3 points of 2 dimensions"), "{said}");
    }
}

#[test]
fn k11_an_array_is_whole_and_alone_in_its_file() {
    let files = Files::new();
    let whole = npy(&[1.0, 2.0, 3.0, 4.0], 2);
    let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (9000000000, 9000000000), }";
    let length = [header.len() as u8, 0];
    let overflow = [b"\x93NUMPY\x01\0", &length[..], header.as_bytes()].concat();
    for (bytes, expected) in [
        (whole[..whole.len() - 1].to_vec(), "the file is cut off"),
        (
            [&whole[..], b"garbage"].concat(),
            "7 more bytes are behind it",
        ),
        (overflow, "9000000000 rows of 9000000000 numbers"),
        (b"1,2\n".to_vec(), "save it with numpy.save"),
    ] {
        let path = files.write("values.npy", bytes);
        for program in KMEANS {
            refuses(program, &["-k", "1", "--file", &path], expected);
        }
        for program in ["logistic", "forest"] {
            refuses(program, &["--file", &path], expected);
        }
    }
}

/// The processes that come from this one, each with the processor time that it has used, in ticks.
fn descendants(parent: u32) -> Vec<(u32, u64)> {
    // Each thread has children of its own. A process or thread may have ended meanwhile: then it is not seen.
    let threads = std::fs::read_dir(format!("/proc/{parent}/task"));
    let threads = threads.into_iter().flatten().flatten();
    let lists =
        threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let mut all = Vec::new();
    for child in lists.collect::<String>().split_whitespace() {
        let child = child.parse().expect("a process");
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let used = fields.split_whitespace().nth(11).map_or(Ok(0), str::parse);
        all.push((child, used.expect("a number")));
        all.extend(descendants(child));
    }
    all
}

#[test]
fn k15_a_killed_worker_ends_the_application() {
    for variant in ["futures", "auto-reduce", "polling"] {
        let tasks = 3;
        // Hours of work.
        let arguments = [
            "--points",
            "1000000000000",
            "--tasks",
            "3",
            "--variant",
            variant,
        ];
        let mut command = example("mapreduce");
        let mut program = command
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        // All tasks are computing: the program itself only waits.
        let victim = loop {
            let workers = descendants(program.id());
            let busy: Vec<_> = workers.iter().filter(|(_, used)| *used > 5).collect();
            if let [.., (last, _)] = busy[..]
                && busy.len() >= tasks
            {
                break last.to_string();
            }
            assert!(program.try_wait().expect("it is a child").is_none());
            // Nothing says how busy a process is but a look at it.
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
        let killed = Command::new("kill").args(["-KILL", &victim]).status();
        assert!(killed.expect("kill runs").success());
        let killed = std::time::Instant::now();
        let ended = program.wait_with_output().expect("it ends");
        // Milliseconds, on a machine that is not busy with other tests; without the failure it would be hours.
        let elapsed = killed.elapsed();
        assert!(elapsed.as_secs() < 60, "{variant}: {elapsed:?}");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{variant}: {said}");
        assert!(
            said.contains("died") && said.contains("signal"),
            "{variant}: {said}"
        );
    }
}
