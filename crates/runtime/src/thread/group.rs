//! Threads that are joined together: when one of them fails, the others would mostly wait for it in vain.

use std::sync::Arc;
use std::sync::mpsc;

use crucial_object::{Result, decode};
use serde::de::DeserializeOwned;

use super::control::Control;
use super::join::JoinHandle;
use super::packet::Packet;
use crate::task::Results;

/// One of them. `None`: the thread could not be started.
pub(super) type Started = (Packet, Option<Arc<Control>>);

/// Waits for all threads, and gives their results in order. `is_failure` looks at each of the results as it comes. `step` is called
/// for each that has ended.
///
/// With `cancels`, the first failure cancels the others. Otherwise it is given when all have ended.
pub(super) fn join_together<T>(
    threads: Vec<Started>,
    cancels: bool,
    mut take: impl FnMut(Results) -> Result<T>,
    mut step: impl FnMut(),
) -> Result<Vec<T>> {
    let (sender, ended) = mpsc::channel();
    for (number, (packet, _)) in threads.iter().enumerate() {
        packet.tell(sender.clone(), number);
    }
    drop(sender);
    let mut results: Vec<Option<T>> = threads.iter().map(|_| None).collect();
    let mut failure = None;
    // Each thread is told of once, and the senders go with the packets.
    for number in ended.iter().take(threads.len()) {
        match threads[number].0.take().and_then(&mut take) {
            Ok(result) => results[number] = Some(result),
            Err(error) => {
                let is_first = failure.is_none();
                failure.get_or_insert(error);
                if is_first && cancels {
                    cancel_all(&threads);
                }
            }
        }
        step();
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(results.into_iter().flatten().collect()),
    }
}

/// Cancels the threads that have not ended.
pub(super) fn cancel_all(threads: &[Started]) {
    let running = threads.iter().filter(|(packet, _)| !packet.is_finished());
    for (packet, control) in running {
        if let Some(control) = control
            && let Err(error) = control.cancel(packet)
        {
            tracing::debug!(%error, "a thread may go on though it is cancelled");
        }
    }
}

/// Waits for threads that belong together, and returns what they returned, in order. When the first of them fails, the others are
/// cancelled, and its error is returned: threads that wait for each other would wait for it in vain.
///
/// ```no_run
/// # use crucial::{cloud, sync::Barrier, thread, Result, Shared};
/// # #[cloud] fn work(part: usize, barrier: Shared<Barrier>) -> Result<usize> { barrier.wait()?; Ok(part) }
/// # fn main() -> Result<()> {
/// let barrier = Shared::new(Barrier::new(4))?;
/// let threads = (0..4).map(|part| thread::spawn(work(part, barrier.clone())));
/// let parts = thread::join_all(threads)?;
/// assert_eq!(parts, [0, 1, 2, 3]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The first, in time, of the errors that [`join`](JoinHandle::join) returns or that a thread returned.
pub fn join_all<R: DeserializeOwned>(
    threads: impl IntoIterator<Item = JoinHandle<Result<R>>>,
) -> Result<Vec<R>> {
    let threads = threads.into_iter().map(JoinHandle::into_parts).collect();
    let take = |results: Results| -> Result<R> { decode::<Result<R>>(&results.only()?.result)? };
    join_together(threads, true, take, || ())
}
