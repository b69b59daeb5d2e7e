//! The rows of the conformance list that are about user types, with the types uploaded to the `crucial` command.

use std::process::ExitCode;

#[crucial::main]
fn main() -> ExitCode {
    crucial_conformance::run(Some(env!("CARGO_BIN_EXE_crucial")))
}
