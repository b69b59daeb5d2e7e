//! Work that takes long: each on a thread of its own, as it is rare.

use std::sync::Arc;

use crucial_node::{Input, Work, WorkDone};

use crate::shell::Shell;

/// Begins some work, whose end comes to the node as an input.
pub(crate) fn start(shell: &Arc<Shell>, work: Work) {
    let worker = shell.clone();
    let thread = std::thread::Builder::new()
        .name("crucial-work".to_owned())
        .spawn(move || {
            let done = run(&worker, work);
            worker.input(Input::WorkDone(done));
        });
    if let Err(error) = thread {
        shell.fail(format!("cannot start a thread: {error}"));
    }
}

fn run(shell: &Shell, work: Work) -> WorkDone {
    match work {
        Work::Compile { id, bytes } => WorkDone::Compiled {
            id,
            result: shell.types.compile(&bytes),
        },
    }
}
