//! The client in Python (`clients/python`) against this executable: it was written from `docs/protocol.md`, so what it
//! cannot do the page does not say. Alone, on three servers, and with kills.

use std::path::Path;
use std::process::Command;

/// The oldest Python that the client runs on.
const PYTHON_MIN: (u32, u32) = (3, 11);

#[test]
fn a_client_that_was_written_from_the_page_works() {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients/python");
    let check = format!("import sys; sys.exit(sys.version_info < {PYTHON_MIN:?})");
    let found = Command::new("python3").args(["-c", &check]).status();
    let is_there = found.is_ok_and(|status| status.success());
    assert!(is_there, "this test needs Python {PYTHON_MIN:?} as python3");
    let tests = Command::new("python3")
        .args(["-B", "-m", "unittest", "-v", "test_crucial"])
        .current_dir(client)
        .env("CRUCIAL_BIN", env!("CARGO_BIN_EXE_crucial"))
        .output()
        .expect("python3 runs");
    let said = String::from_utf8_lossy(&tests.stderr);
    assert!(tests.status.success(), "{said}");
    assert!(!said.contains("skipped"), "{said}");
}
