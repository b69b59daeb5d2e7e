//! The outcome of a cloud thread, on its way to whoever joins the thread.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use crucial_client::Client;
use crucial_object::{Error, Result};

use crate::parcel::Parcel;
use crate::task::Results;

fn tell(listener: Option<(Sender<usize>, usize)>) {
    if let Some((listener, number)) = listener {
        // Whoever does not listen any more knows enough.
        let _ = listener.send(number);
    }
}

/// The place where a thread leaves its results.
#[derive(Clone)]
pub(crate) struct Packet(Arc<Shared>);

struct Shared {
    outcome: Mutex<Outcome>,
    changed: Condvar,
    /// Fetches results that lie beside. `None`: the thread could not be started.
    client: Option<Arc<Client>>,
}

#[derive(Default)]
struct Outcome {
    result: Option<Result<Parcel<Results>>>,
    finished: bool,
    /// The receiver of a number when the thread has ended.
    listener: Option<(Sender<usize>, usize)>,
}

impl Drop for Shared {
    /// Results that nobody has taken are not kept.
    fn drop(&mut self) {
        let outcome = self.outcome.get_mut().unwrap_or_else(|e| e.into_inner());
        if let (Some(Ok(results)), Some(client)) = (&outcome.result, &self.client) {
            results.discard(client);
        }
    }
}

impl Packet {
    /// Where a thread of this client's run will leave its results.
    pub fn new(client: Arc<Client>) -> Packet {
        Packet::of(Some(client))
    }

    /// The packet of a thread that could not be started.
    pub fn failed(error: Error) -> Packet {
        let packet = Packet::of(None);
        packet.fill(Err(error));
        packet
    }

    fn of(client: Option<Arc<Client>>) -> Packet {
        Packet(Arc::new(Shared {
            outcome: Mutex::default(),
            changed: Condvar::new(),
            client,
        }))
    }

    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.0.outcome.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Records that the thread has ended. Only the first outcome counts.
    pub fn fill(&self, result: Result<Parcel<Results>>) {
        let mut outcome = self.outcome();
        if outcome.finished {
            drop(outcome);
            if let (Ok(results), Some(client)) = (&result, &self.0.client) {
                results.discard(client);
            }
            return;
        }
        outcome.result = Some(result);
        outcome.finished = true;
        let listener = outcome.listener.take();
        drop(outcome);
        self.0.changed.notify_all();
        tell(listener);
    }

    /// Sends the number when the thread has ended, or now if it has.
    pub fn tell(&self, listener: Sender<usize>, number: usize) {
        let mut outcome = self.outcome();
        let listener = Some((listener, number));
        match outcome.finished {
            true => {
                drop(outcome);
                tell(listener);
            }
            false => outcome.listener = listener,
        }
    }

    pub fn is_finished(&self) -> bool {
        self.outcome().finished
    }

    /// Blocks until the thread has ended, but not longer than until `deadline`, and returns whether the thread has ended.
    pub fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut outcome = self.outcome();
        while !outcome.finished {
            outcome = match deadline {
                None => self
                    .0
                    .changed
                    .wait(outcome)
                    .unwrap_or_else(|e| e.into_inner()),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    let waited = self.0.changed.wait_timeout(outcome, left);
                    waited.unwrap_or_else(|e| e.into_inner()).0
                }
            };
        }
        true
    }

    /// The error of a thread that failed and was not joined.
    pub fn error(&self) -> Option<Error> {
        match &self.outcome().result {
            Some(Err(error)) => Some(error.clone()),
            _ => None,
        }
    }

    /// Blocks until the thread has ended, and takes its results.
    pub fn take(&self) -> Result<Results> {
        self.wait(None);
        let result = self.outcome().result.take();
        let results = result.unwrap_or(Err(Error::Cancelled))?;
        match (results, &self.0.client) {
            (Parcel::Inside(results), _) => Ok(results),
            (beside, Some(client)) => {
                let results = beside.clone().open(client);
                beside.discard(client);
                results
            }
            (Parcel::Beside(_), None) => Err(Error::Protocol {
                detail: "a thread that was not started has a result".to_owned(),
            }),
        }
    }
}
