//! Queues in which other threads leave new sockets and jobs for event loops.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crucial_node::Job;
use mio::Waker;
use parking_lot::Mutex;

use crate::socket::Socket;

/// One for each loop.
pub(crate) struct Queues {
    loops: Vec<Queue>,
    /// Which loop gets the next socket or job.
    turn: AtomicUsize,
}

pub(crate) struct Queue {
    waker: Waker,
    sockets: Mutex<Vec<Arc<Socket>>>,
    jobs: Mutex<VecDeque<Job>>,
    /// Whether there are jobs, to be seen without the lock.
    has_jobs: AtomicBool,
}

impl Queues {
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
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.loops.len();
        &self.loops[turn]
    }

    pub fn of(&self, index: usize) -> &Queue {
        &self.loops[index]
    }

    /// Gives a new socket to the loop whose turn it is.
    pub fn assign(&self, socket: Arc<Socket>) {
        let queue = self.next();
        queue.sockets.lock().push(socket);
        queue.wake();
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

    pub fn take_sockets(&self) -> Vec<Arc<Socket>> {
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
