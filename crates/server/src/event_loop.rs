//! Event loops: each reads frames, and executes them on the thread that read them.
//!
//! A loop's [`Io`] (its poll, sockets, and outputs that are not carried out yet) is behind a lock that the serving thread lets go
//! while a job runs. When that takes long, the watchdog gives the loop to another thread, which goes on with the requests
//! behind; the first finishes its job and leaves.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crucial_node::Outputs;

use crate::io::Io;
use crate::shell::Shell;
use crate::tenure::{Served, Tenure};

/// All loops of a server.
pub(crate) struct Loops {
    pub shell: Arc<Shell>,
    pub loops: Vec<Served<Io>>,
}

/// Jobs that are executed before what they gave is written.
const JOBS_UNWRITTEN_MAX: usize = 64;

impl Loops {
    pub fn new(shell: Arc<Shell>, ios: Vec<Io>) -> Arc<Loops> {
        Arc::new(Loops {
            shell,
            loops: ios.into_iter().map(Served::new).collect(),
        })
    }

    /// Starts the first thread of the loop `index`.
    pub fn start(self: &Arc<Loops>, index: usize) -> io::Result<JoinHandle<()>> {
        self.spawn(index, self.loops[index].tenure())
    }

    /// Gives the loop `index` to another thread.
    pub fn pass_on(self: &Arc<Loops>, index: usize) -> io::Result<()> {
        self.loops[index].pass_on(|tenure| self.spawn(index, tenure).map(drop))?;
        // The thread before may have finished its job in time, and wait for events by now: it has to leave.
        self.shell.queues.of(index).wake();
        Ok(())
    }

    /// Starts a thread that serves the loop `index` until its tenure is over or the server stops.
    fn spawn(self: &Arc<Loops>, index: usize, tenure: Arc<Tenure>) -> io::Result<JoinHandle<()>> {
        let loops = self.clone();
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
        let mut io = event_loop.lock();
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
