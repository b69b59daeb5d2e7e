//! The client in Python (`clients/python`) against this executable: it was written from `docs/protocol.md`, so what it
//! cannot do the page does not say. Alone, on three servers, and with kills.

use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crucial_testing::wait_until;
use rustix::process::{Pid, Signal, kill_process_group};

/// The oldest Python that the client runs on.
const PYTHON_MIN: (u32, u32) = (3, 11);

/// The tests take a fraction of this. What hangs longer is killed, with its servers.
const PATIENCE: Duration = Duration::from_secs(300);

#[test]
fn a_client_that_was_written_from_the_page_works() {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients/python");
    let check = format!("import sys; sys.exit(sys.version_info < {PYTHON_MIN:?})");
    let found = Command::new("python3").args(["-c", &check]).status();
    let is_there = found.is_ok_and(|status| status.success());
    assert!(is_there, "this test needs Python {PYTHON_MIN:?} as python3");
    let mut file = tempfile::tempfile().expect("a file can be made");
    let mut tests = Command::new("python3")
        .args(["-B", "-m", "unittest", "-v", "test_crucial"])
        .current_dir(client)
        .env("CRUCIAL_BIN", env!("CARGO_BIN_EXE_crucial"))
        .process_group(0)
        .stdout(Stdio::null())
        .stderr(file.try_clone().expect("the file can be shared"))
        .spawn()
        .expect("python3 runs");
    let ended = wait_until("the Python client's tests end", PATIENCE, || {
        Ok(tests.try_wait().is_ok_and(|status| status.is_some()))
    });
    if ended.is_err() {
        kill_process_group(Pid::from_child(&tests), Signal::KILL).expect("its own processes");
    }
    let status = tests.wait().expect("a child can be waited for");
    let mut said = String::new();
    file.rewind().expect("a file");
    file.read_to_string(&mut said).expect("text");
    assert!(ended.is_ok() && status.success(), "{ended:?}\n{said}");
    assert!(!said.contains("... skipped"), "{said}");
}
