//! The client's own thread: tells the server that the client lives, and reads for async tasks.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use std::{io::Read, io::Write};

use crucial_object::Result;
use parking_lot::{Condvar, Mutex};

use crate::link::Link;
use crate::{Client, Net, watch};

/// Signs of life in each lease.
pub(crate) const SIGNS_PER_LEASE: u64 = 3;

/// For how long the keeper reads for tasks before it looks around.
const READ_FOR_TASKS: Duration = Duration::from_millis(100);

#[derive(Default)]
pub(crate) struct Keeper {
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
pub(crate) struct State {
    pub stopped: bool,
    /// A task waits.
    pub look: bool,
    /// In a cluster it sleeps on several sockets, and this is one of them.
    bell: Option<UnixStream>,
}

impl State {
    fn ring(&self) {
        if let Some(mut bell) = self.bell.as_ref() {
            // If it is full it rings.
            let _ = bell.write(&[0]);
        }
    }
}

impl Keeper {
    /// Makes the thread look for tasks.
    pub fn look(&self) {
        let (state, changed) = &*self.state;
        let mut state = state.lock();
        if !state.look {
            state.look = true;
            state.ring();
            changed.notify_one();
        }
    }

    pub fn stop(&self) {
        let (state, changed) = &*self.state;
        let mut state = state.lock();
        state.stopped = true;
        state.ring();
        changed.notify_one();
    }
}

/// The other end of the keeper's bell.
pub(crate) struct Bell(UnixStream);

impl Bell {
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Makes it silent.
    pub fn hush(&mut self) {
        let mut rings = [0; 16];
        while matches!(self.0.read(&mut rings), Ok(count) if count == rings.len()) {}
    }
}

pub(crate) fn start(client: &Arc<Client>) -> Result<()> {
    let state = client.keeper.state.clone();
    let thread = std::thread::Builder::new().name("crucial-client".to_owned());
    let weak = Arc::downgrade(client);
    match &client.net {
        Net::Alone(link) => {
            let link = link.clone();
            thread.spawn(move || keep(&state, &weak, &link))?;
        }
        Net::Cluster(_) => {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            theirs.set_nonblocking(true)?;
            state.0.lock().bell = Some(theirs);
            thread.spawn(move || watch::watch(&state.0, &weak, Bell(ours)))?;
        }
    }
    Ok(())
}

/// Runs until the client is dropped; it holds the client only while it does something.
fn keep(state: &(Mutex<State>, Condvar), client: &Weak<Client>, link: &Arc<Link>) {
    let mut next_sign = Instant::now();
    loop {
        let Some(client) = client.upgrade() else {
            return;
        };
        if Instant::now() >= next_sign {
            let lease_ms = link.lease_ms.load(Ordering::Relaxed);
            next_sign = Instant::now() + Duration::from_millis(lease_ms / SIGNS_PER_LEASE);
            // An exactly-once thread's session has no lease, and its calls are numbered by what it does.
            if client.config.exactly_once.is_none()
                && let Err(error) = client.ping()
            {
                tracing::debug!(%error, "no sign of life could be given");
            }
        }
        if client.has_tasks() {
            read_for_tasks(&client, link, next_sign);
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

fn read_for_tasks(client: &Client, link: &Arc<Link>, until: Instant) {
    let limit = READ_FOR_TASKS.min(until.saturating_duration_since(Instant::now()));
    // While a thread reads for itself it reads for the tasks as well.
    if let Some(mut reader) = link.reader.try_lock_for(limit) {
        client.read_until(link, &mut reader, Some(limit), || !client.has_tasks());
        client.pass_on(link, reader);
    }
}
