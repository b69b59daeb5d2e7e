//! The client's own thread: tells the server that the client lives, and reads for async tasks.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crucial_object::Result;
use parking_lot::{Condvar, Mutex};

use crate::Client;

/// Signs of life in each lease.
const SIGNS_PER_LEASE: u64 = 3;

/// For how long the keeper reads for tasks before it looks around.
const READ_FOR_TASKS: Duration = Duration::from_millis(100);

#[derive(Default)]
pub(crate) struct Keeper {
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    stopped: bool,
    /// A task waits.
    look: bool,
}

impl Keeper {
    /// Makes the thread look for tasks.
    pub fn look(&self) {
        let (state, changed) = &*self.state;
        let mut state = state.lock();
        if !state.look {
            state.look = true;
            changed.notify_one();
        }
    }

    pub fn stop(&self) {
        let (state, changed) = &*self.state;
        state.lock().stopped = true;
        changed.notify_one();
    }
}

pub(crate) fn start(client: &Arc<Client>) -> Result<()> {
    let state = client.keeper.state.clone();
    let client = Arc::downgrade(client);
    std::thread::Builder::new()
        .name("crucial-client".to_owned())
        .spawn(move || keep(&state, &client))?;
    Ok(())
}

/// Runs until the client is dropped; it holds the client only while it does something.
fn keep(state: &(Mutex<State>, Condvar), client: &Weak<Client>) {
    let mut next_sign = Instant::now();
    loop {
        let Some(client) = client.upgrade() else {
            return;
        };
        if Instant::now() >= next_sign {
            let lease_ms = client.lease_ms.load(Ordering::Relaxed);
            next_sign = Instant::now() + Duration::from_millis(lease_ms / SIGNS_PER_LEASE);
            // An exactly-once thread's session has no lease, and its calls are numbered by what it does.
            if client.config.exactly_once.is_none()
                && let Err(error) = client.ping()
            {
                tracing::debug!(%error, "no sign of life could be given");
            }
        }
        if client.has_tasks() {
            read_for_tasks(&client, next_sign);
        }
        let tasks = client.has_tasks();
        drop(client);
        let (lock, changed) = state;
        let mut state = lock.lock();
        while !state.stopped && !state.look && !tasks && Instant::now() < next_sign {
            changed.wait_until(&mut state, next_sign);
        }
        state.look = false;
        if state.stopped {
            return;
        }
    }
}

fn read_for_tasks(client: &Client, until: Instant) {
    let limit = READ_FOR_TASKS.min(until.saturating_duration_since(Instant::now()));
    // While a thread reads for itself it reads for the tasks as well.
    if let Some(mut reader) = client.reader.try_lock_for(limit) {
        client.read_until(&mut reader, Some(limit), || !client.has_tasks());
        client.pass_on(reader);
    }
}
