//! What may still be done to a cloud thread that was started.

use std::sync::{Arc, Mutex, MutexGuard};

use crucial_client::Client;
use crucial_core::frame::Attempt;
use crucial_object::{Error, Result, ThreadId};
use crucial_platform::{InvocationId, Platform};

use super::join::Packet;
use super::recorded::journal_id;

/// A started thread, whatever its attempts.
pub(crate) struct Control {
    pub thread: ThreadId,
    client: Arc<Client>,
    exactly_once: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cancelled: bool,
    /// The present attempt.
    running: Option<(Arc<dyn Platform>, InvocationId)>,
}

impl Control {
    pub fn new(client: Arc<Client>, exactly_once: bool) -> Result<Control> {
        let mut thread = ThreadId([0; 16]);
        getrandom::fill(&mut thread.0).map_err(Error::other)?;
        Ok(Control {
            thread,
            client,
            exactly_once,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn is_cancelled(&self) -> bool {
        self.state().cancelled
    }

    /// An attempt starts; false if it must not.
    pub fn starts(&self, platform: &Arc<dyn Platform>, invocation: InvocationId) -> bool {
        let mut state = self.state();
        state.running = Some((platform.clone(), invocation));
        !state.cancelled
    }

    /// Ends the thread, wherever it is.
    pub fn cancel(&self, packet: &Packet) -> Result<()> {
        let running = {
            let mut state = self.state();
            state.cancelled = true;
            state.running.take()
        };
        if packet.is_finished() {
            return Ok(());
        }
        // First the server, so that nothing more is changed; then the worker, which may be out of reach.
        let fenced = self.client.fence_thread(self.thread);
        self.clear();
        if let Some((platform, invocation)) = running {
            platform.cancel(invocation);
        }
        packet.fill(Err(Error::Cancelled));
        fenced
    }

    /// Another attempt follows.
    pub fn expects(&self, attempt: Attempt) {
        self.client.expect_attempt(attempt);
    }

    /// The thread has ended. `was_lost`: its worker is gone, and could not give back what it held.
    pub fn ended(&self, was_lost: bool) {
        self.state().running = None;
        if was_lost || self.exactly_once {
            self.post(self.client.fence_thread_soon(self.thread));
        }
        self.clear();
    }

    /// Removes the journal.
    fn clear(&self) {
        if self.exactly_once {
            let journal = journal_id(&self.client, self.thread);
            self.post(self.client.delete_soon(journal));
        }
    }

    fn post(&self, posted: Result<()>) {
        if let Err(error) = posted {
            // It goes with the session's lease, or with the run.
            tracing::debug!(thread = %self.thread, %error, "a thread's leavings are not cleared");
        }
    }
}
