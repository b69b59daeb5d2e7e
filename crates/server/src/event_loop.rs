//! Event loops: each reads frames, and executes them on the thread that read them.
//!
//! A loop's [`Io`] (its poll, sockets, and outputs that are not carried out yet) is behind a lock that the serving thread lets go
//! while a job runs. When that takes long, the watchdog gives the loop to another thread, which goes on with the requests
//! behind; the first finishes its job and leaves.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use crucial_node::Outputs;
use parking_lot::{Mutex, MutexGuard};

use crate::io::Io;
use crate::shell::{Halt, Shell};

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
    left: AtomicBool,
}

/// What is said when a thread that no user code runs on has panicked.
pub(crate) const PANICKED: &str =
    "a thread of the server has panicked, its message is above: please report this";

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

    /// Whether another thread has the loop, or none as the server stops.
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Whether the thread is gone, or will leave after its job without anybody waiting for that.
    pub fn has_ended(&self) -> bool {
        self.left.load(Ordering::Acquire) || self.is_over()
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

    /// Whether no thread is left but those in methods that run long.
    pub fn have_ended(&self) -> bool {
        self.loops
            .iter()
            .all(|event_loop| event_loop.tenure().has_ended())
    }

    /// Gives the loop `index` to a new thread, which serves it until its tenure is over or the server stops. The thread that
    /// has the loop leaves it after its job.
    pub fn hand_over(self: &Arc<Loops>, index: usize) -> io::Result<()> {
        let loops = self.clone();
        // A loop is taken away from a thread only when there is another.
        let (begin, begun) = mpsc::channel::<Arc<Tenure>>();
        std::thread::Builder::new()
            .name(format!("crucial-loop-{index}"))
            .spawn(move || {
                if let Ok(tenure) = begun.recv() {
                    loops.run(index, &tenure);
                }
            })?;
        // The thread waits for this.
        let _ = begin.send(self.loops[index].begin_tenure());
        Ok(())
    }

    fn run(&self, index: usize, tenure: &Tenure) {
        // User code cannot get here: its panics are caught where it is called.
        let served = std::panic::catch_unwind(AssertUnwindSafe(|| self.serve(index, tenure)));
        if served.is_err() {
            self.shell.halt(Halt::Failed(PANICKED.to_owned()));
        }
        if tenure.is_over() && !self.shell.is_stopping() {
            self.shell.end_long_method();
        }
        tenure.left.store(true, Ordering::Release);
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
    fn begin_tenure(&self) -> Arc<Tenure> {
        let next = Arc::<Tenure>::default();
        let previous = std::mem::replace(&mut *self.tenure.lock(), next.clone());
        previous.over.store(true, Ordering::Release);
        next
    }

    /// Lets the thread leave after its job, without another.
    pub fn end_tenure(&self) {
        self.tenure().over.store(true, Ordering::Release);
    }
}
