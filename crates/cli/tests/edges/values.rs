//! K36 to K39: values, variables, standard input, exit statuses.

use super::*;

#[test]
fn k36_numbers_that_json_does_not_have_are_printed() {
    let server = server();
    for number in ["inf", "-inf", "NaN"] {
        let put = ["map", "m", "--values", "float", "put", "k", number];
        assert_eq!(run(&server, &put).0, 0);
        let get = ["map", "m", "--values", "float", "get", "k"];
        assert_eq!(run(&server, &get), (0, number.to_owned()));
        let entries = ["--json", "map", "m", "--values", "float", "entries"];
        assert_eq!(
            run(&server, &entries),
            (0, format!("[[\"k\",\"{number}\"]]"))
        );
    }
    for number in ["1e400", "-1e999"] {
        let put = ["map", "m", "--values", "float", "put", "k"];
        let (status, error) = run(&server, &[&put[..], &["--", number]].concat());
        assert!(status != 0 && error.contains(number), "{error}");
    }
}

#[test]
fn k36_values_of_another_type_are_refused_with_both() {
    let server = server();
    for (values, value, kind) in [
        ("int", "5", "i64"),
        ("float", "2.5", "f64"),
        // As long as a number.
        ("text", "seventy", "String"),
    ] {
        let with = |words: &[&str]| {
            let map = ["map", values, "--values"];
            run(&server, &[&map[..], words].concat())
        };
        assert_eq!(with(&[values, "put", "k", value]).0, 0);
        for (other, other_kind) in [("int", "i64"), ("float", "f64"), ("text", "String")] {
            if other == values {
                continue;
            }
            for operation in [
                &["get", "k"][..],
                &["put", "k", "1"],
                &["remove", "k"],
                &["merge", "k", "1", "--how", "max"],
                &["entries"],
                &["top", "1"],
            ] {
                let (status, error) = with(&[&[other], operation].concat());
                assert_eq!(status, 1, "{values} as {other}, {operation:?}: {error}");
                for part in [
                    format!("{values:?} is a crucial::Map<String, {kind}> "),
                    format!("as a crucial::Map<String, {other_kind}>:"),
                ] {
                    assert!(error.contains(&part), "{operation:?}: {error}");
                }
            }
            // Keys and their number are those of any map.
            assert_eq!(with(&[other, "keys"]), (0, "k".to_owned()));
            assert_eq!(with(&[other, "len"]), (0, "1".to_owned()));
        }
        assert_eq!(with(&[values, "get", "k"]), (0, value.to_owned()));
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Job {
    number: u64,
}

#[test]
fn k36_objects_of_programs_are_not_read_as_others() {
    let server = server();
    fn make<T: SharedType + Serialize>(key: &str, init: T) -> Shared<T> {
        Shared::builder(key).persistent().create(init).unwrap()
    }
    caller::with(server.client().unwrap(), || {
        make("a-keys", Map::<u64, i64>::from_iter([(1, 2)]));
        make("a-values", Map::<String, Job>::new());
        make("a-list", List::from(vec![1u64]));
        make("a-set", Set::from_iter([1u8]));
        make("a-queue", Queue::<Job>::new(3));
        make("a-cell", AtomicCell::new(2.5f64));
        make("a-promise", Promise::<Option<i64>>::new());
        make("a-mutex", Mutex::new(5i64));
        // A name for a number is a number; a program may say less than it knows, or more than another does.
        #[derive(Clone, Serialize, Deserialize)]
        struct Count(i64);
        make("counts", Map::<String, i64>::new());
        let counts = Shared::<Map<String, Count>>::builder("counts").persistent();
        counts
            .open()
            .unwrap()
            .insert("k".to_owned(), Count(7))
            .unwrap();
        // The program itself is refused as well.
        let other = Shared::<List<String>>::open("a-list").unwrap_err();
        assert!(matches!(other, Error::Refused { .. }), "{other}");
        let other = Shared::builder("a-list")
            .persistent()
            .create(List::<i64>::new());
        assert!(matches!(other, Err(Error::Refused { .. })));
        let again = Shared::builder("a-list").persistent().recreate();
        again.create(List::from(vec![1u64, 2])).unwrap();
    });
    for (words, theirs, ours) in [
        (
            &["map", "a-keys", "get", "1"][..],
            "crucial::Map<u64, i64>",
            "crucial::Map<String, i64>",
        ),
        (
            &["map", "a-keys", "keys"],
            "crucial::Map<u64, i64>",
            "crucial::Map<String, _>",
        ),
        (
            &["map", "a-values", "entries"],
            "crucial::Map<String, Job>",
            "crucial::Map<String, i64>",
        ),
        (
            &["list", "a-list", "all"],
            "crucial::List<u64>",
            "crucial::List<String>",
        ),
        (
            &["list", "a-list", "push", "x"],
            "crucial::List<u64>",
            "crucial::List<String>",
        ),
        (
            &["set", "a-set", "add", "x"],
            "crucial::Set<u8>",
            "crucial::Set<String>",
        ),
        (
            &["queue", "a-queue", "push", "x"],
            "crucial::Queue<Job>",
            "crucial::Queue<String>",
        ),
        (
            &["queue", "a-queue", "pop"],
            "crucial::Queue<Job>",
            "crucial::Queue<String>",
        ),
        (
            &["cell", "a-cell", "get"],
            "crucial::AtomicCell<f64>",
            "crucial::AtomicCell<String>",
        ),
        (
            &["cell", "a-cell", "cas", "a", "b"],
            "crucial::AtomicCell<f64>",
            "crucial::AtomicCell<String>",
        ),
        (
            &["promise", "a-promise", "set", "x"],
            "crucial::Promise<Option<i64>>",
            "crucial::Promise<String>",
        ),
        (
            &["mutex", "a-mutex", "run", "--", "true"],
            "crucial::Mutex<i64>",
            "crucial::Mutex<()>",
        ),
    ] {
        let (status, error) = run(&server, words);
        assert_eq!(status, 1, "{words:?}: {error}");
        assert!(
            error.contains(&format!("is a {theirs} ")) && error.contains(&format!("as a {ours}:")),
            "{words:?}: {error}"
        );
    }
    for (words, expected) in [
        (&["map", "a-values", "len"][..], (0, "0")),
        (&["map", "counts", "get", "k"], (0, "7")),
        (&["list", "a-list", "len"], (0, "2")),
        (&["set", "a-set", "len"], (0, "1")),
        (&["queue", "a-queue", "len"], (0, "0")),
        (&["mutex", "a-mutex", "is-locked"], (3, "false")),
        (&["delete", "map", "a-keys"], (0, "true")),
        (&["delete", "cell", "a-cell"], (0, "true")),
        (&["cell", "a-cell", "set", "text"], (0, "")),
    ] {
        let (status, said) = run(&server, words);
        assert_eq!((status, said.as_str()), expected, "{words:?}");
    }
}

#[test]
fn k37_a_variable_that_is_no_text_is_an_error() {
    let server = server();
    assert_eq!(
        run(&server, &["counter", "c", "add", "5"]),
        (0, "5".to_owned())
    );
    for name in ["CRUCIAL_NAMESPACE", "CRUCIAL_REPLICAS", "CRUCIAL_RUN"] {
        let mut clear = command(&server, &["clear"]);
        let output = clear
            .env(name, OsStr::from_bytes(b"caf\xe9"))
            .output()
            .unwrap();
        let (status, error) = said(&output);
        assert!(status == 1 && error.contains(name), "{error}");
    }
    assert_eq!(run(&server, &["counter", "c", "get"]), (0, "5".to_owned()));
}

#[test]
fn k37_a_variable_without_effect_is_said_with_the_one_that_is_meant() {
    let server = server();
    let mut get = command(&server, &["counter", "c", "get"]);
    let output = get.env("CRUCIAL_PATIENCE", "5").output().unwrap();
    assert_eq!(text(&output.stdout), "0");
    let error = text(&output.stderr);
    assert!(
        error.contains("CRUCIAL_PATIENCE (is CRUCIAL_PATIENCE_S meant?)"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
    let mut get = command(&server, &["counter", "c", "get"]);
    let (status, error) = said(&get.env("CRUCIAL_MODULE", "/nowhere.wasm").output().unwrap());
    assert!(
        status == 1 && error.contains("CRUCIAL_MODULE: /nowhere.wasm: No such file"),
        "{error}"
    );
    let mut refused = with_signals();
    refused.args(["server", "--listen", "unix:/nowhere/at/all"]);
    let (_, error) = said(&refused.env("RUST_LOG", "a=b").output().unwrap());
    assert!(error.contains("RUST_LOG=\"a=b\" has no effect"), "{error}");
}

#[test]
fn k36_a_counter_does_not_wrap_around() {
    let server = server();
    for (step, most) in [
        ("9223372036854775807", "increment"),
        ("-9223372036854775808", "decrement"),
    ] {
        assert_eq!(
            run(&server, &["counter", "c", "add", step]),
            (0, step.to_owned())
        );
        let (status, error) = run(&server, &["counter", "c", most]);
        assert!(status == 1 && error.contains(step), "{error}");
        assert_eq!(
            run(&server, &["counter", "c", "reset"]),
            (0, step.to_owned())
        );
    }
}

#[test]
fn k39_a_time_out_of_no_time_is_said_as_it_was_given() {
    let server = server();
    for (timeout, expected) in [("0s", "at once"), ("0ms", "at once"), ("7ms", "within 7ms")] {
        let (status, error) = run(&server, &["queue", "q", "pop", "--timeout", timeout]);
        assert!(status == 124 && error.contains(expected), "{error}");
        assert!(!error.contains("1ms"), "{error}");
    }
}

#[test]
fn k38_a_mark_of_the_encoding_is_no_part_of_the_first_line() {
    let server = server();
    let merge = ["map", "m", "merge", "-"];
    let input = b"\xef\xbb\xbfalice 1\nbob 2\n";
    assert_eq!(with_input(command(&server, &merge), input).0, 0);
    assert_eq!(
        run(&server, &["map", "m", "get", "alice"]),
        (0, "1".to_owned())
    );
    let (status, error) = with_input(command(&server, &merge), b"\xff\xfea\0 \x001\0\n\0");
    assert!(
        status == 1 && error.contains("line 1") && error.contains("UTF-16"),
        "{error}"
    );
}

#[test]
fn k38_a_line_of_a_merge_is_two_words() {
    let server = server();
    let merge = |values: &str, line: &str| {
        let how = if values == "text" { "append" } else { "max" };
        let words = [
            "map", values, "--values", values, "merge", "--how", how, "-",
        ];
        with_input(command(&server, &words), line.as_bytes())
    };
    assert_eq!(merge("text", "alice hello\n"), (0, String::new()));
    let get = ["map", "text", "--values", "text", "get", "alice"];
    assert_eq!(run(&server, &get), (0, "hello".to_owned()));
    for (values, line) in [
        ("text", "alice hello world"),
        ("int", "new york 5"),
        ("int", "alice"),
    ] {
        let (status, error) = merge(values, &format!("ok 1\n{line}\n"));
        assert_eq!(status, 1);
        assert!(error.contains("line 2") && error.contains(line), "{error}");
    }
    let keys = ["--json", "map", "text", "--values", "text", "keys"];
    let keys = run(&server, &keys).1;
    assert!(
        keys == r#"["alice","ok"]"# || keys == r#"["ok","alice"]"#,
        "{keys}"
    );
}

#[test]
fn k39_much_is_read_in_pages() {
    let server = server();
    // More than fits into a reply.
    let line = |index: u32| format!("{index}{}\n", "x".repeat(9_000_000));
    let lines: String = (0..8).map(line).collect();
    for (words, all) in [
        (["list", "l", "push", "-"], &["list", "l", "all"][..]),
        (
            ["list", "m", "push", "-"],
            &["list", "m", "range", "0", "8"],
        ),
        (["set", "s", "add", "-"], &["set", "s", "all"]),
        (["log", "l", "write", "-"], &["log", "l", "lines"]),
    ] {
        assert_eq!(with_input(command(&server, &words), lines.as_bytes()).0, 0);
        let output = command(&server, all).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(
            output.stdout.iter().filter(|byte| **byte == b'\n').count(),
            8
        );
    }
    let entries: String = (0..8)
        .map(|index| format!("{index} {}", line(index)))
        .collect();
    let merge = [
        "map", "m", "--values", "text", "merge", "--how", "append", "-",
    ];
    assert_eq!(
        with_input(command(&server, &merge), entries.as_bytes()).0,
        0
    );
    for operation in [&["entries"][..], &["keys"], &["top", "8"]] {
        let words = [&["map", "m", "--values", "text"], operation].concat();
        let output = command(&server, &words).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(
            output.stdout.iter().filter(|byte| **byte == b'\n').count(),
            8
        );
    }
}

#[test]
fn k39_exit_statuses_are_the_documented_ones() {
    let server = server();
    assert_eq!(
        run(&server, &["cell", "none", "cas", "a", "b"]),
        (3, "false".to_owned())
    );
    assert_eq!(run(&server, &["queue", "q", "push", "a"]).0, 0);
    assert_eq!(run(&server, &["queue", "q", "close"]).0, 0);
    let (status, error) = run(&server, &["queue", "q", "push", "b"]);
    assert!(status == 3 && error.contains("closed"), "{error}");
    let (status, error) = with_input(command(&server, &["queue", "q", "push", "-"]), b"b\n");
    assert!(status == 3 && error.contains("closed"), "{error}");
    for flag in ["--version", "-V"] {
        let (status, version) = run(&server, &[flag]);
        assert_eq!(
            (status, version.as_str()),
            (0, concat!("crucial ", env!("CARGO_PKG_VERSION")))
        );
    }
}

#[test]
fn k39_values_may_begin_with_a_hyphen() {
    let server = server();
    for words in [
        &["log", "l", "write", "-hello", "--world"][..],
        &["list", "l", "push", "-x", "--help"],
        &["set", "s", "add", "-x"],
        &["queue", "q", "push", "--timeout", "5s", "--", "-x"],
        &["cell", "c", "set", "-x"],
        &["promise", "p", "set", "-x"],
        &["map", "m", "--values", "text", "put", "k", "-x"],
    ] {
        let (status, said) = run(&server, words);
        assert_eq!(status, 0, "{words:?}: {said}");
    }
    assert!(
        run(&server, &["log", "l", "lines"])
            .1
            .contains("-hello --world")
    );
    assert_eq!(run(&server, &["list", "l", "all"]).1, "-x\n--help");
    assert_eq!(run(&server, &["queue", "q", "len"]).1, "1");
    assert_eq!(run(&server, &["cell", "c", "get"]).1, "-x");
    assert_eq!(
        run(&server, &["map", "m", "--values", "text", "get", "k"]).1,
        "-x"
    );
}
