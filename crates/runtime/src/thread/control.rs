//! Control of a cloud thread that was started: cancelling, retrying, cleaning up.

use std::sync::{Arc, Mutex, MutexGuard};

use crucial_client::Client;
use crucial_object::{Error, Result, ThreadId};
use crucial_platform::{InvocationId, Platform};
use crucial_proto::frame::Attempt;

use super::packet::Packet;
use super::recorded::journal_id;

/// A started thread, over all of its attempts.
pub(crate) struct Control {
    pub thread: ThreadId,
    client: Arc<Client>,
    exactly_once: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cancelled: bool,
    /// The current attempt.
    running: Option<(Arc<dyn Platform>, InvocationId)>,
}

impl Control {
    pub fn new(client: Arc<Client>, exactly_once: bool) -> Result<Control> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(Error::other)?;
        Ok(Control {
            thread: ThreadId::new(&client.run(), random),
            client,
            exactly_once,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    pub fn is_cancelled(&self) -> bool {
        self.state().cancelled
    }

    /// Records the next attempt, and returns whether the attempt may start.
    pub fn begin_attempt(&self, platform: &Arc<dyn Platform>, invocation: InvocationId) -> bool {
        let mut state = self.state();
        state.running = Some((platform.clone(), invocation));
        !state.cancelled
    }

    /// Ends the thread, wherever the thread is.
    pub fn cancel(&self, packet: &Packet) -> Result<()> {
        let running = {
            let mut state = self.state();
            state.cancelled = true;
            state.running.take()
        };
        if packet.is_finished() {
            return Ok(());
        }
        // First the server, so that nothing more is changed; then the worker, which may be unreachable.
        let fenced = self.client.fence_thread(self.thread);
        self.delete_journal();
        if let Some((platform, invocation)) = running {
            platform.cancel(invocation);
        }
        packet.fill(Err(Error::Cancelled));
        fenced
    }

    /// Announces the next attempt to the server.
    pub fn expect_attempt(&self, attempt: Attempt) {
        self.client.expect_attempt(attempt);
    }

    /// Cleans up after the thread has ended. `was_lost`: its worker is gone and has released nothing.
    pub fn on_ended(&self, was_lost: bool) {
        self.state().running = None;
        if was_lost || self.exactly_once {
            log_failure(self.thread, self.client.fence_thread_soon(self.thread));
        }
        self.delete_journal();
    }

    fn delete_journal(&self) {
        if self.exactly_once {
            let journal = journal_id(&self.client, self.thread);
            log_failure(self.thread, self.client.delete_soon(journal));
        }
    }
}

fn log_failure(thread: ThreadId, sent: Result<()>) {
    if let Err(error) = sent {
        // The leftover state ends with the session's lease, or with the run.
        tracing::debug!(%thread, %error, "a thread's leftover state is not cleaned up");
    }
}
