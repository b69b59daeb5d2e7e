//! The rows of the conformance list, each as a test through the public API, with real worker processes.

use std::process::ExitCode;

#[crucial::main]
fn main() -> ExitCode {
    crucial_conformance::run(None)
}
