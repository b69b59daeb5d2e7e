//! Event loops: each reads frames, and executes them on the thread that read them.
//!
//! A loop's [`Io`] (its poll, sockets, and outputs that are not carried out yet) is behind a lock that the serving thread lets go
//! while a job runs. When that takes long, the watchdog gives the loop to another thread, which goes on with the requests
//! behind; the first finishes its job and leaves.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crucial_node::Outputs;
use parking_lot::{Mutex, MutexGuard};

use crate::io::Io;
use crate::shell::Shell;

/// All loops of a server.
pub(crate) struct Loops {
    pub shell: Arc<Shell>,
    pub loops: Vec<EventLoop>,
}

pub(crate) struct EventLoop {
    /// Held by the thread that serves the loop, except while it executes.
    io: Mutex<Io>,
    tenure: Mutex<Arc<Tenure>>,
}

/// A thread's time at a loop.
#[derive(Default)]
pub(crate) struct Tenure {
    steps: AtomicU64,
    over: AtomicBool,
}

/// Jobs that are executed before what they gave is written.
const JOBS_UNWRITTEN_MAX: usize = 64;

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
    pub fn new(shell: Arc<Shell>, ios: Vec<Io>) -> Arc<Loops> {
        let event_loop = |io| EventLoop {
            io: Mutex::new(io),
            tenure: Mutex::default(),
        };
        Arc::new(Loops {
            shell,
            loops: ios.into_iter().map(event_loop).collect(),
        })
    }

    /// Starts a thread that serves the loop `index` until its tenure is over or the server stops.
    pub fn spawn(self: &Arc<Loops>, index: usize) -> io::Result<JoinHandle<()>> {
        let loops = self.clone();
        let tenure = loops.loops[index].tenure();
        std::thread::Builder::new()
            .name(format!("crucial-loop-{index}"))
            .spawn(move || {
                loops.serve(index, &tenure);
                if tenure.is_over() {
                    loops.shell.end_long_method();
                }
            })
    }

    fn serve(&self, index: usize, tenure: &Tenure) {
        let (shell, event_loop) = (&self.shell, &self.loops[index]);
        let queue = shell.queues.of(index);
        let mut io = event_loop.io.lock();
        let mut unwritten = 0;
        while !tenure.is_over() && !shell.is_stopping() {
            let next = queue.take_job().or_else(|| io.next_job(shell));
            let Some(job) = next else {
                io.wait(shell, queue);
                unwritten = 0;
                continue;
            };
            unwritten += 1;
            if unwritten > JOBS_UNWRITTEN_MAX {
                shell.flush(&mut io.pending);
                unwritten = 0;
            }
            drop(io);
            tenure.step();
            let done = shell.node.execute(job);
            tenure.step();
            let Some(mut back) = event_loop.take_back(tenure) else {
                let mut out = Outputs::new();
                shell.node.complete(done, shell.now(), &mut out);
                return shell.finish(&mut out);
            };
            shell.node.complete(done, shell.now(), &mut back.pending);
            io = back;
        }
        shell.flush(&mut io.pending);
    }
}

impl EventLoop {
    /// The loop's lock, for the thread that has executed a job; `None` if another thread serves the loop by now, which may
    /// hold the lock for as long as nothing happens. A thread whose tenure has ended may hold it for a moment.
    fn take_back(&self, tenure: &Tenure) -> Option<MutexGuard<'_, Io>> {
        loop {
            if let Some(io) = self.io.try_lock() {
                return Some(io);
            }
            if tenure.is_over() {
                return None;
            }
            std::thread::yield_now();
        }
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
