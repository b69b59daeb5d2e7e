//! Wakes the heartbeat thread, which waits on sockets while tasks wait for answers from them.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crucial_object::Result;
use parking_lot::{Condvar, Mutex};

pub(crate) struct Waker {
    state: Mutex<State>,
    changed: Condvar,
    /// A byte in this pair ends a wait on sockets.
    write: UnixStream,
    read: UnixStream,
}

#[derive(Default)]
struct State {
    is_stopped: bool,
    /// The thread has something to do.
    is_woken: bool,
    /// The thread has something to do that cannot wait until it has read for tasks.
    is_urgent: bool,
    /// The thread waits on sockets.
    is_polling: bool,
}

impl Waker {
    pub fn new() -> Result<Waker> {
        let (write, read) = UnixStream::pair()?;
        write.set_nonblocking(true)?;
        read.set_nonblocking(true)?;
        Ok(Waker {
            state: Mutex::default(),
            changed: Condvar::new(),
            write,
            read,
        })
    }

    /// Tasks wait.
    pub fn wake(&self) {
        self.wake_with(|_| {});
    }

    /// There is something to do besides reading for tasks.
    pub fn wake_urgently(&self) {
        self.wake_with(|state| state.is_urgent = true);
    }

    pub fn stop(&self) {
        self.wake_with(|state| {
            state.is_stopped = true;
            state.is_woken = false;
        });
    }

    fn wake_with(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        if std::mem::replace(&mut state.is_woken, true) {
            return;
        }
        if state.is_polling {
            // A full pair wakes as well.
            let _ = (&self.write).write(&[0]);
        }
        self.changed.notify_one();
    }

    /// Whether the thread is to do something besides reading for tasks.
    pub fn is_urgent(&self) -> bool {
        let state = self.state.lock();
        state.is_urgent || state.is_stopped
    }

    /// The thread has read for tasks in place of a wait. False if it is to end.
    pub fn end_wait(&self) -> bool {
        finish(&mut self.state.lock())
    }

    /// Waits until then, or until it is woken. False if the thread is to end.
    pub fn wait(&self, until: Instant) -> bool {
        let mut state = self.state.lock();
        while !state.is_woken && !self.changed.wait_until(&mut state, until).timed_out() {}
        finish(&mut state)
    }

    /// The same, on sockets: `poll` waits until one of them, or the one it is given, can be read, or for that long.
    pub fn wait_on(&self, until: Instant, poll: impl FnOnce(BorrowedFd<'_>, Duration)) -> bool {
        {
            let mut state = self.state.lock();
            if state.is_woken {
                return finish(&mut state);
            }
            state.is_polling = true;
        }
        let left = until.saturating_duration_since(Instant::now());
        poll(self.read.as_fd(), left);
        let mut state = self.state.lock();
        state.is_polling = false;
        let mut bytes = [0; 16];
        while matches!((&self.read).read(&mut bytes), Ok(count) if count == bytes.len()) {}
        finish(&mut state)
    }
}

fn finish(state: &mut State) -> bool {
    state.is_woken = false;
    state.is_urgent = false;
    !state.is_stopped
}
