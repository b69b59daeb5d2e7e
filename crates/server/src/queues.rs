//! Queues in which other threads leave new sockets and jobs for event loops.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::BytesMut;
use crucial_node::Job;
use mio::Waker;
use parking_lot::Mutex;

use crate::socket::Socket;

/// One for each loop.
pub(crate) struct Queues {
    /// The last one is the control group's loop, which gets no jobs: however long methods run, other servers are heard.
    loops: Vec<Queue>,
    /// Which of the other loops gets the next socket or job.
    turn: AtomicUsize,
}

/// A socket, and what was read from it and is not handled yet.
pub(crate) type Assigned = (Arc<Socket>, BytesMut);

pub(crate) struct Queue {
    waker: Waker,
    sockets: Mutex<Vec<Assigned>>,
    jobs: Mutex<VecDeque<Job>>,
    /// Whether there are jobs, to be seen without the lock.
    has_jobs: AtomicBool,
}

impl Queues {
    /// The last waker is that of the control group's loop; there is at least one other.
    pub fn new(wakers: Vec<Waker>) -> Queues {
        let queue = |waker| Queue {
            waker,
            sockets: Mutex::default(),
            jobs: Mutex::default(),
            has_jobs: AtomicBool::new(false),
        };
        Queues {
            loops: wakers.into_iter().map(queue).collect(),
            turn: AtomicUsize::new(0),
        }
    }

    fn next(&self) -> &Queue {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % (self.loops.len() - 1);
        &self.loops[turn]
    }

    pub fn of(&self, index: usize) -> &Queue {
        &self.loops[index]
    }

    /// Gives a new socket to the loop whose turn it is.
    pub fn assign(&self, socket: Arc<Socket>) {
        self.next().assign((socket, BytesMut::new()));
    }

    /// Gives a socket to the control group's loop.
    pub fn assign_to_control(&self, socket: Assigned) {
        if let Some(queue) = self.loops.last() {
            queue.assign(socket);
        }
    }

    /// Gives jobs to the loops.
    pub fn post(&self, jobs: impl IntoIterator<Item = Job>) {
        let mut any = false;
        for job in jobs {
            let queue = self.next();
            queue.jobs.lock().push_back(job);
            queue.has_jobs.store(true, Ordering::Release);
            any = true;
        }
        if any {
            for queue in &self.loops {
                if queue.has_jobs.load(Ordering::Acquire) {
                    queue.wake();
                }
            }
        }
    }

    /// Makes all loops look up from their sleep.
    pub fn wake(&self) {
        for queue in &self.loops {
            queue.wake();
        }
    }
}

impl Queue {
    /// Makes the loop look up from its sleep.
    pub fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "cannot wake an event loop");
        }
    }

    fn assign(&self, socket: Assigned) {
        self.sockets.lock().push(socket);
        self.wake();
    }

    pub fn take_sockets(&self) -> Vec<Assigned> {
        std::mem::take(&mut *self.sockets.lock())
    }

    pub fn take_job(&self) -> Option<Job> {
        if !self.has_jobs.load(Ordering::Acquire) {
            return None;
        }
        let mut jobs = self.jobs.lock();
        let job = jobs.pop_front();
        self.has_jobs.store(!jobs.is_empty(), Ordering::Release);
        job
    }
}
