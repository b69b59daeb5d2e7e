//! Keeps a method that runs long from holding up other work: gives its thread's loop to another thread. When the server stops,
//! no thread is waited for that is in such a method.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::event_loop::Loops;

/// How often the watchdog looks. A job that is seen at work at two looks in a row has run long. Loops that told the watchdog of
/// each job would pay for that with every call.
const LOOK: Duration = Duration::from_millis(1);

/// Between looks while nothing happens; a long method is noticed that much later then.
const IDLE_LOOK: Duration = Duration::from_millis(10);

/// Looks without any activity until it looks less often.
const IDLE_AFTER: u32 = 100;

/// Starts the watchdog's thread.
pub(crate) fn start(loops: &Arc<Loops>) -> io::Result<JoinHandle<()>> {
    let loops = loops.clone();
    crucial_local::thread::start("crucial-watchdog", move || watch(&loops))
}

fn watch(loops: &Arc<Loops>) {
    let mut seen = vec![0; loops.loops.len()];
    let mut quiet = 0;
    while !loops.shell.is_stopping() || !loops.have_ended() {
        // Samples, and is woken when the server stops.
        std::thread::park_timeout(if quiet < IDLE_AFTER { LOOK } else { IDLE_LOOK });
        quiet += 1;
        for (index, seen) in seen.iter_mut().enumerate() {
            let steps = loops.loops[index].tenure().steps();
            if steps != *seen {
                quiet = 0;
                *seen = steps;
            } else if steps % 2 == 1 {
                quiet = 0;
                take_over(loops, index);
                *seen = 0;
            }
        }
    }
}

fn take_over(loops: &Arc<Loops>, index: usize) {
    if loops.shell.is_stopping() {
        // Nobody waits for a method that runs long.
        return loops.loops[index].end();
    }
    if !loops.shell.begin_long_method() {
        return;
    }
    tracing::debug!(index, "a method runs long: its loop goes to another thread");
    if let Err(error) = loops.pass_on(index) {
        tracing::error!(%error, "no thread for an event loop");
        loops.shell.end_long_method();
    }
}
