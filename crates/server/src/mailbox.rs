//! The thread that sees to time and to views.
//!
//! The control group must not be held up, so it leaves views in the mailbox; of two that wait the newer one counts.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crucial_node::replication::View;
use crucial_node::{Input, Outputs};
use parking_lot::{Condvar, Mutex};

use crate::shell::Shell;

#[derive(Default)]
pub(crate) struct Mailbox {
    pending: Mutex<Pending>,
    changed: Condvar,
}

#[derive(Default)]
struct Pending {
    view: Option<Arc<View>>,
    /// There is an earlier timeout, or the server stops.
    woken: bool,
}

impl Mailbox {
    /// Leaves a view.
    pub fn put_view(&self, view: Arc<View>) {
        let mut pending = self.pending.lock();
        let is_newer = |old: &Arc<View>| old.version < view.version;
        if pending.view.as_ref().is_none_or(is_newer) {
            pending.view = Some(view);
            self.changed.notify_one();
        }
    }

    /// Lets the thread look at the timeouts again.
    pub fn wake(&self) {
        self.pending.lock().woken = true;
        self.changed.notify_one();
    }

    /// Waits for something to do, or for this time.
    fn wait(&self, pause: Option<Duration>) -> Option<Arc<View>> {
        let mut pending = self.pending.lock();
        if pending.view.is_none() && !pending.woken {
            match pause {
                Some(pause) => drop(self.changed.wait_for(&mut pending, pause)),
                None => self.changed.wait(&mut pending),
            }
        }
        pending.woken = false;
        pending.view.take()
    }
}

/// Starts the thread.
pub(crate) fn start(shell: &Arc<Shell>) -> io::Result<JoinHandle<()>> {
    let shell = shell.clone();
    std::thread::Builder::new()
        .name("crucial-timers".to_owned())
        .spawn(move || run(&shell))
}

fn run(shell: &Arc<Shell>) {
    let mut out = Outputs::new();
    while !shell.is_stopping() {
        let next = shell.node.next_timeout();
        let pause = next.map(|next| Duration::from_millis(next.saturating_sub(shell.now())));
        let view = shell.mailbox.wait(pause);
        if let Some(view) = view {
            shell.node.handle(Input::View(view), shell.now(), &mut out);
        }
        shell.node.handle_timeout(shell.now(), &mut out);
        shell.finish(&mut out);
    }
}
