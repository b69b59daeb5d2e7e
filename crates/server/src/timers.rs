//! The thread that sees to time and to views.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crucial_node::{Input, Outputs};

use crate::event_loop::PANICKED;
use crate::shell::Shell;

/// Starts the thread.
pub(crate) fn start(shell: &Arc<Shell>) -> io::Result<JoinHandle<()>> {
    let shell = shell.clone();
    crucial_local::thread::start("crucial-timers", move || {
        if catch_unwind(AssertUnwindSafe(|| run(&shell))).is_err() {
            shell.fail(PANICKED.to_owned());
        }
    })
}

fn run(shell: &Arc<Shell>) {
    let mut out = Outputs::new();
    while !shell.is_stopping() {
        let next = shell.node.next_timeout();
        let pause = next.map(|next| Duration::from_millis(next.saturating_sub(shell.now())));
        let view = shell.mailbox.wait(pause);
        if let Some((cluster, view)) = view {
            let now = shell.now();
            shell.node.handle(Input::Cluster(cluster), now, &mut out);
            shell.node.handle(Input::View(view), now, &mut out);
        }
        shell.node.handle_timeout(shell.now(), &mut out);
        shell.finish(&mut out);
    }
}
