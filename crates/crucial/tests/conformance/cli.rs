//! H: the command line on objects, from processes that run in parallel.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use libtest_mimic::{Failed, Trial};

use crate::Outcome;
use crate::server::Server;
use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        h01_counter,
        h02_barrier,
        h03_map_merge,
        h04_list_and_top,
        h05_a_command_under_a_permit,
        h06_queue_promise_and_latch,
        h07_what_is_wrong_is_said,
        h16_servers_are_shown_with_their_addresses,
    ]
}

/// `crucial WORDS..`: this executable is that command as well.
pub fn crucial(server: &Server, words: &str) -> Result<Command, Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("crucial")
        .args(words.split(' '))
        .envs(server.environment())
        .stdin(Stdio::null());
    Ok(command)
}

pub fn output(server: &Server, words: &str) -> Result<Output, Failed> {
    Ok(crucial(server, words)?.output()?)
}

/// What it prints, if it ends well.
pub fn says(server: &Server, words: &str) -> Result<String, Failed> {
    let output = output(server, words)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}: {errors}");
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

/// Its exit status, and what it says of errors.
pub fn fails(server: &Server, words: &str) -> Result<(i32, String), Failed> {
    let output = output(server, words)?;
    let code = output.status.code().ok_or("it was killed")?;
    Ok((code, String::from_utf8(output.stderr)?))
}

fn h01_counter() -> Outcome {
    let server = Server::start(&[])?;
    assert_eq!(says(&server, "counter hits add 5")?, "5");
    assert_eq!(says(&server, "counter hits add -2 --json")?, "3");
    let mut adders = Vec::new();
    for _ in 0..4 {
        adders.push(std::thread::spawn({
            let mut command = crucial(&server, "counter hits increment")?;
            move || (0..5).all(|_| command.output().is_ok_and(|output| output.status.success()))
        }));
    }
    assert!(
        adders
            .into_iter()
            .all(|adder| adder.join().unwrap_or(false))
    );
    assert_eq!(says(&server, "counter hits get")?, "23");
    assert_eq!(says(&server, "counter hits reset")?, "23");
    assert_eq!(says(&server, "delete counter hits")?, "true");
    assert_eq!(fails(&server, "delete counter hits")?.0, 3);
    Ok(())
}

fn h02_barrier() -> Outcome {
    let server = Server::start(&[])?;
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut command = crucial(
            &server,
            "--json barrier gate wait --parties 4 --timeout 60s",
        )?;
        waiting.push(command.stdout(Stdio::piped()).spawn()?);
    }
    let mut said = Vec::new();
    for process in waiting {
        let output = process.wait_with_output()?;
        assert!(output.status.success());
        said.push(String::from_utf8(output.stdout)?);
    }
    said.sort();
    assert_eq!(
        said.concat(),
        "\"leader\"\n\"through\"\n\"through\"\n\"through\"\n"
    );
    let (code, error) = fails(&server, "barrier gate wait --timeout 50ms")?;
    assert_eq!(
        (code, error.as_str()),
        (124, "crucial: no result within 50ms\n")
    );
    assert_eq!(says(&server, "barrier gate waiting")?, "0");
    Ok(())
}

fn h03_map_merge() -> Outcome {
    let server = Server::start(&[])?;
    assert_eq!(says(&server, "map words merge crucial 2")?, "2");
    let mut command = crucial(&server, "map words merge -")?;
    let mut process = command.stdin(Stdio::piped()).spawn()?;
    let mut input = process.stdin.take().ok_or("no stdin")?;
    input.write_all(b"crucial 3\nred fox\t1\n\ncrucial 1\n")?;
    drop(input);
    assert!(process.wait()?.success());
    assert_eq!(says(&server, "map words get crucial")?, "6");
    assert_eq!(says(&server, "map words merge crucial 4 --how max")?, "6");
    let entries = says(&server, "map words entries --json")?;
    assert_eq!(entries, "[[\"crucial\",6],[\"red fox\",1]]");
    assert_eq!(fails(&server, "map words get green")?.0, 3);
    let (code, error) = fails(&server, "map words put green grass")?;
    assert!(code == 1 && error.contains("--values text"), "{error}");
    assert_eq!(
        says(&server, "map other --values text put host example.org")?,
        ""
    );
    assert_eq!(
        says(
            &server,
            "map other --values text merge host :80 --how append"
        )?,
        "example.org:80"
    );
    Ok(())
}

fn h04_list_and_top() -> Outcome {
    let server = Server::start(&[])?;
    says(&server, "list todo push tea milk sugar")?;
    assert_eq!(says(&server, "list todo all")?, "tea\nmilk\nsugar");
    assert_eq!(
        says(&server, "list todo range 1 5 --json")?,
        "[\"milk\",\"sugar\"]"
    );
    assert_eq!(says(&server, "list todo set 0 coffee")?, "tea");
    assert_eq!(says(&server, "list todo pop")?, "sugar");
    let (code, error) = fails(&server, "list todo remove 9")?;
    assert!(
        code == 1 && error.contains("index 9 is out of bounds"),
        "{error}"
    );
    for (word, count) in [("a", 3), ("b", 5), ("c", 5), ("d", 1)] {
        says(&server, &format!("map counts put {word} {count}"))?;
    }
    assert_eq!(says(&server, "map counts top 3")?, "b\t5\nc\t5\na\t3");
    assert_eq!(says(&server, "map counts top 1 --json")?, "[[\"b\",5]]");
    assert_eq!(says(&server, "set colours add red green red")?, "2");
    assert_eq!(says(&server, "set colours contains red")?, "true");
    assert_eq!(fails(&server, "set colours contains blue")?.0, 3);
    Ok(())
}

/// Each appends a begin and an end, which never interleave.
fn h05_a_command_under_a_permit() -> Outcome {
    let server = Server::start(&[])?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("log");
    let script = format!(
        "echo begin >> {0}; sleep 0.01; echo end >> {0}",
        file.display()
    );
    let mut running = Vec::new();
    for index in 0..8 {
        let under = if index % 2 == 0 {
            "semaphore one --permits 1 run --"
        } else {
            "semaphore one --permits 1 run --timeout 60s --"
        };
        let mut command = crucial(&server, under)?;
        running.push(command.args(["sh", "-c", &script]).spawn()?);
    }
    for mut process in running {
        assert!(process.wait()?.success());
    }
    assert_eq!(std::fs::read_to_string(&file)?, "begin\nend\n".repeat(8));
    assert_eq!(says(&server, "semaphore one available")?, "1");
    // The command's own exit status, and a lock in place of the permit.
    let mut command = crucial(&server, "mutex lock run --")?;
    assert_eq!(
        command.args(["sh", "-c", "exit 7"]).status()?.code(),
        Some(7)
    );
    assert_eq!(fails(&server, "mutex lock is-locked")?.0, 3);
    Ok(())
}

fn h06_queue_promise_and_latch() -> Outcome {
    let server = Server::start(&[])?;
    let popper = crucial(&server, "queue jobs pop")?
        .stdout(Stdio::piped())
        .spawn()?;
    says(&server, "queue jobs push one two")?;
    assert_eq!(popper.wait_with_output()?.stdout, b"one\n");
    says(&server, "queue jobs close")?;
    assert_eq!(says(&server, "queue jobs pop")?, "two");
    assert_eq!(fails(&server, "queue jobs pop")?.0, 3);

    let getter = crucial(&server, "promise answer wait")?
        .stdout(Stdio::piped())
        .spawn()?;
    assert_eq!(says(&server, "promise answer set 42")?, "true");
    assert_eq!(getter.wait_with_output()?.stdout, b"42\n");
    assert_eq!(fails(&server, "promise answer set 43")?.0, 3);

    let mut waiter = crucial(&server, "latch start --count 2 wait")?.spawn()?;
    assert_eq!(says(&server, "latch start --count 2 down")?, "1");
    assert_eq!(says(&server, "latch start down")?, "0");
    assert!(waiter.wait()?.success());

    says(&server, "log events write it works")?;
    let lines = says(&server, "log events lines")?;
    assert!(
        lines.starts_with("[main] ") && lines.ends_with(" it works"),
        "{lines}"
    );
    assert_eq!(says(&server, "clear")?, "4");
    Ok(())
}

fn h16_servers_are_shown_with_their_addresses() -> Outcome {
    let server = Server::start(&[])?;
    let (_, addresses) = &server.environment()[0];
    let nodes = says(&server, "cluster nodes")?;
    assert_eq!(
        nodes.lines().count(),
        addresses.split(',').count(),
        "{nodes}"
    );
    for address in addresses.split(',') {
        assert!(nodes.contains(address), "{address}: {nodes}");
    }
    says(&server, "counter h16 add 1")?;
    let place = says(&server, "cluster where h16")?;
    let holds = |address: &str| place.contains(address);
    assert!(addresses.split(',').any(holds), "{place}");
    Ok(())
}

fn h07_what_is_wrong_is_said() -> Outcome {
    let server = Server::start(&[])?;
    let (code, error) = fails(&server, "semaphore none available")?;
    assert!(
        code == 1 && error.contains("create it with --permits"),
        "{error}"
    );
    let (code, error) = fails(&server, "counter")?;
    assert!(code == 2 && error.contains("Usage"), "{error}");
    let (code, error) = fails(&server, "queue q pop --timeout soon")?;
    assert!(code == 2 && error.contains("not a duration"), "{error}");
    let mut alone = crucial(&server, "counter hits get")?;
    let output = alone.env_remove("CRUCIAL_CLUSTER").output()?;
    let error = String::from_utf8(output.stderr)?;
    assert!(error.contains("start one with `crucial server`"), "{error}");
    let (code, error) = fails(&server, "--cluster 127.0.0.1:1 counter hits get")?;
    assert!(
        code == 1 && error.contains("no connection to the server"),
        "{error}"
    );
    Ok(())
}
