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
        Work::Load(id) => WorkDone::Loaded(shell.modules.load(&id)),
        Work::Store(id, bytes) => WorkDone::Stored(shell.modules.store(&id, &bytes)),
        Work::Remove(id) => {
            shell.modules.remove(&id);
            WorkDone::Removed
        }
        Work::Prune(keep) => {
            shell.modules.prune(&keep);
            WorkDone::Pruned
        }
        Work::Compile(bytes) => WorkDone::Compiled(shell.types.compile(&bytes)),
    }
}
