//! Event loops: each reads frames, and executes them on the thread that read them.
//!
//! A loop's [`Io`] (its poll, sockets, and outputs that are not carried out yet) is behind a lock that the serving thread lets go
//! while a job runs. When that takes long, the watchdog gives the loop to another thread, which goes on with the requests
//! behind; the first finishes its job and leaves.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crucial_node::Outputs;

use crate::io::Io;
use crate::shell::Shell;
use crate::tenure::{Served, Tenure};

/// All loops of a server.
pub(crate) struct Loops {
    pub shell: Arc<Shell>,
    pub loops: Vec<Served<Io>>,
}

/// What is said when a thread that no user code runs on has panicked.
pub(crate) const PANICKED: &str =
    "a thread of the server has panicked, its message is above: please report this";

/// Jobs that are executed before their results are written, and the sockets looked at.
const JOBS_IN_A_ROW_MAX: usize = 64;

impl Loops {
    pub fn new(shell: Arc<Shell>, ios: Vec<Io>) -> Arc<Loops> {
        Arc::new(Loops {
            shell,
            loops: ios.into_iter().map(Served::new).collect(),
        })
    }

    /// Whether no thread is left but those in methods that run long.
    pub fn have_ended(&self) -> bool {
        let mut loops = self.loops.iter();
        loops.all(|event_loop| event_loop.tenure().has_ended())
    }

    /// Starts the first thread of the loop `index`.
    pub fn start(self: &Arc<Loops>, index: usize) -> io::Result<()> {
        self.spawn(index, self.loops[index].tenure())
    }

    /// Gives the loop `index` to another thread.
    pub fn pass_on(self: &Arc<Loops>, index: usize) -> io::Result<()> {
        self.loops[index].pass_on(|tenure| self.spawn(index, tenure))?;
        // The thread before may have finished its job in time, and wait for events by now: it has to leave.
        self.shell.queues.of(index).wake();
        Ok(())
    }

    /// Starts a thread that serves the loop `index` until its tenure is over or the server stops.
    fn spawn(self: &Arc<Loops>, index: usize, tenure: Arc<Tenure>) -> io::Result<()> {
        let loops = self.clone();
        let name = format!("crucial-loop-{index}");
        crucial_local::thread::start(&name, move || loops.run(index, &tenure))?;
        Ok(())
    }

    fn run(&self, index: usize, tenure: &Tenure) {
        // User code cannot get here: its panics are caught where it is called.
        let served = catch_unwind(AssertUnwindSafe(|| self.serve(index, tenure)));
        if served.is_err() {
            self.shell.fail(PANICKED.to_owned());
        }
        if tenure.is_over() && !self.shell.is_stopping() {
            self.shell.end_long_method();
        }
        tenure.leave();
    }

    fn serve(&self, index: usize, tenure: &Tenure) {
        let (shell, event_loop) = (&self.shell, &self.loops[index]);
        let queue = shell.queues.of(index);
        let mut io = event_loop.lock();
        let mut in_a_row = 0;
        while !tenure.is_over() && !shell.is_stopping() {
            if in_a_row == JOBS_IN_A_ROW_MAX || io.is_full() {
                io.catch_up(shell, queue);
                in_a_row = 0;
            }
            // Jobs of other threads and those of requests have turns: neither can keep the other waiting.
            let next = match in_a_row % 2 == 0 {
                true => queue.take_job().or_else(|| io.next_job(shell)),
                false => io.next_job(shell).or_else(|| queue.take_job()),
            };
            let Some(job) = next else {
                io.wait(shell, queue);
                in_a_row = 0;
                continue;
            };
            in_a_row += 1;
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
