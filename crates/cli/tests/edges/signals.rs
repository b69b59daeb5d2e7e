//! K21, K33 to K35: signals, and processes that end.

use super::*;

#[test]
fn k33_every_signal_that_ends_a_process_lets_a_server_leave() {
    for signal in [
        Signal::HUP,
        Signal::USR1,
        Signal::QUIT,
        Signal::ALARM,
        Signal::TERM,
    ] {
        let mut server = with_signals()
            .args(["server", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().contains("ready"));
        kill_process(Pid::from_child(&server), signal).unwrap();
        assert_eq!(wait(&mut server).code(), Some(0), "{signal:?}");
    }
}

#[test]
fn k21_no_server_outlives_crucial_up_however_that_ends() {
    for signal in [Signal::KILL, Signal::HUP, Signal::TERM] {
        let mut up = with_signals()
            .args(["up", "-n", "2", "--port", "7411"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(up.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().contains("ready"));
        let id = Pid::from_child(&up);
        let children = format!("/proc/{0}/task/{0}/children", id.as_raw_nonzero());
        let children = std::fs::read_to_string(children).unwrap();
        let children: Vec<Pid> = children
            .split_whitespace()
            .filter_map(|id| Pid::from_raw(id.parse().unwrap()))
            .collect();
        assert_eq!(children.len(), 2);
        kill_process(id, signal).unwrap();
        wait(&mut up);
        for child in children {
            await_end(child);
        }
    }
}

#[test]
fn k34_run_passes_every_signal_on_that_ends_a_process() {
    let server = server();
    for signal in [
        Signal::ABORT,
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::HUP,
        Signal::TERM,
    ] {
        let script =
            "trap 'exit 7' ABRT USR1 USR2 ALRM HUP TERM; echo runs; while :; do sleep 0.05; done";
        let mut holder = command(&server, &["mutex", "m", "run", "--", "sh", "-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "runs");
        kill_process(Pid::from_child(&holder), signal).unwrap();
        assert_eq!(wait(&mut holder).code(), Some(7), "{signal:?}");
        assert_eq!(run(&server, &["mutex", "m", "is-locked"]).1, "false");
        // A command that makes a call ends by the signal itself.
        let mut waiting = command(&server, &["queue", "q", "pop"]).spawn().unwrap();
        while run(&server, &["--json", "cluster", "objects"]).1.is_empty() {}
        kill_process(Pid::from_child(&waiting), signal).unwrap();
        assert_eq!(wait(&mut waiting).signal(), Some(signal.as_raw()));
    }
}

#[test]
fn k35_a_parent_that_ignores_its_children_changes_nothing() {
    let server = server();
    let output = Command::new("env")
        .args([
            "--ignore-signal=CHLD",
            CRUCIAL,
            "--cluster",
            &server.address,
        ])
        .args(["mutex", "m", "run", "--", "sh", "-c", "sh -c 'exit 7'"])
        .output()
        .unwrap();
    assert_eq!(said(&output), (7, String::new()));
}
