//! Event loops: each reads frames, and executes them on the thread that read them.
//!
//! A loop's [`Io`] (its poll, connections and undone frames) is behind a lock that the serving thread
//! lets go while a method runs. When that takes long, the watchdog gives the loop to another thread,
//! which goes on with the frames behind; the first finishes its method and leaves.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use mio::Waker;
use parking_lot::Mutex;

use crate::connection::Connection;
use crate::io::Io;
use crate::listener::Listener;
use crate::service::{Effects, Job, Service};

/// All loops of a server.
pub(crate) struct Loops {
    pub service: Arc<Service>,
    pub loops: Vec<EventLoop>,
    /// Who gets the next connection.
    turn: AtomicUsize,
}

pub(crate) struct EventLoop {
    /// Held by the thread that serves the loop, except while it executes.
    io: Mutex<Io>,
    tenure: Mutex<Arc<Tenure>>,
    waker: Waker,
    /// Connections that were accepted, or made, for this loop.
    pub arrivals: Mutex<Vec<Arc<Connection>>>,
    /// What threads that execute nothing themselves have for it to do.
    posted: Mutex<VecDeque<Job>>,
    /// Whether there is something, to be seen without the lock.
    has_posted: AtomicBool,
}

/// A thread's time at a loop.
#[derive(Default)]
pub(crate) struct Tenure {
    steps: AtomicU64,
    over: AtomicBool,
}

impl Tenure {
    /// Odd while the thread executes, and then the same for as long as one job takes.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether another thread has the loop.
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

impl Loops {
    /// Makes `count` loops; the first has the listeners.
    pub fn new(
        count: usize,
        service: Arc<Service>,
        listeners: Vec<Listener>,
    ) -> io::Result<Arc<Loops>> {
        let mut loops = Vec::with_capacity(count);
        let mut listeners = Some(listeners);
        for _ in 0..count {
            let io = Io::new(listeners.take().unwrap_or_default())?;
            loops.push(EventLoop {
                waker: io.waker()?,
                io: Mutex::new(io),
                tenure: Mutex::default(),
                arrivals: Mutex::default(),
                posted: Mutex::default(),
                has_posted: AtomicBool::new(false),
            });
        }
        let loops = Arc::new(Loops {
            service,
            loops,
            turn: AtomicUsize::new(0),
        });
        loops.service.set_loops(&loops);
        Ok(loops)
    }

    /// Makes all loops look up from their sleep.
    pub fn wake(&self) {
        for event_loop in &self.loops {
            event_loop.wake();
        }
    }

    /// Gives a new connection to the loop whose turn it is.
    pub fn assign(&self, connection: Arc<Connection>) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.loops.len();
        let event_loop = &self.loops[turn];
        event_loop.arrivals.lock().push(connection);
        event_loop.wake();
    }

    /// Gives jobs to the loops.
    pub fn post(&self, jobs: impl IntoIterator<Item = Job>) {
        for job in jobs {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.loops.len();
            let event_loop = &self.loops[turn];
            event_loop.posted.lock().push_back(job);
            event_loop.has_posted.store(true, Ordering::Release);
        }
        for event_loop in &self.loops {
            if event_loop.has_posted.load(Ordering::Acquire) {
                event_loop.wake();
            }
        }
    }

    /// Starts a thread that serves the loop `index` until its tenure is over or the server stops.
    pub fn spawn(self: &Arc<Loops>, index: usize) -> io::Result<JoinHandle<()>> {
        let loops = self.clone();
        let tenure = loops.loops[index].tenure();
        std::thread::Builder::new()
            .name(format!("crucial-loop-{index}"))
            .spawn(move || loops.serve(index, &tenure))
    }

    fn serve(&self, index: usize, tenure: &Tenure) {
        let event_loop = &self.loops[index];
        let mut effects = Effects::new(&self.service);
        let mut io = event_loop.io.lock();
        while !tenure.is_over() && !self.service.is_stopping() {
            let job = event_loop.take_posted();
            let Some(job) = job.or_else(|| io.next_job(&self.service, &mut effects)) else {
                io.dirty.append(&mut effects.dirty);
                io.wait(self, event_loop);
                continue;
            };
            // Replies of earlier jobs: if this one takes long, the next thread writes them.
            io.dirty.append(&mut effects.dirty);
            drop(io);
            tenure.step();
            self.service.execute(job, &mut effects);
            tenure.step();
            if tenure.is_over() {
                break;
            }
            io = event_loop.io.lock();
        }
        effects.flush();
        if tenure.is_over() {
            self.service.end_long_method();
        }
    }
}

impl EventLoop {
    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "can not wake an event loop");
        }
    }

    fn take_posted(&self) -> Option<Job> {
        if !self.has_posted.load(Ordering::Acquire) {
            return None;
        }
        let mut posted = self.posted.lock();
        let job = posted.pop_front();
        self.has_posted.store(!posted.is_empty(), Ordering::Release);
        job
    }

    /// The present tenure.
    pub fn tenure(&self) -> Arc<Tenure> {
        self.tenure.lock().clone()
    }

    /// Ends the present tenure, and begins one for another thread.
    pub fn begin_tenure(&self) -> Arc<Tenure> {
        let previous = std::mem::take(&mut *self.tenure.lock());
        previous.over.store(true, Ordering::Release);
        previous
    }

    /// There is no other thread: the one that was there stays.
    pub fn restore_tenure(&self, previous: Arc<Tenure>) {
        previous.over.store(false, Ordering::Release);
        *self.tenure.lock() = previous;
    }
}
