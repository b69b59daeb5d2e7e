//! The project's own chores: `cargo xtask`.

mod all;
mod house;
mod ported_lines;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask house [RULE..]   checks the rules of the layout and the style (CONTRIBUTING.md); RULE: circles, layout,
                             node, size, parameters, words, markdown, walk; all of them without one
cargo xtask wrap [FILE..]    wraps Markdown at the width that `house` asks for; all files without one
cargo xtask all [STEP..]     the checks that are too long for CI, one after the other; --list names them
cargo xtask ported-lines     lines that differ between the std and the Crucial version of each application";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.split_first() {
        Some((command, rest)) => match command.as_str() {
            "house" => house::run(&root(), rest),
            "wrap" => house::wrap(&root(), rest),
            "all" => all::run(&root(), rest),
            "ported-lines" => ported_lines::run(),
            _ => Err(USAGE.to_owned()),
        },
        None => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace: what cargo says when it runs this, as the executable may have been built elsewhere.
fn root() -> PathBuf {
    let xtask =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let xtask = PathBuf::from(xtask);
    xtask.parent().map_or(xtask.clone(), Path::to_owned)
}
