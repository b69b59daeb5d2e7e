//! An event loop of the server, which the watchdog gives to other threads: the server's own file, with the scheduler's locks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use shuttle::rand::Rng;
use shuttle::sync::Mutex;
use shuttle::sync::atomic::AtomicUsize;
use shuttle::thread::{self, JoinHandle};

use crate::schedules::explore;
use crate::tenure::{Served, Tenure};

const JOBS: usize = 5;

/// A server with one loop.
#[derive(Default)]
struct Server {
    threads: Mutex<Vec<JoinHandle<()>>>,
    executed: AtomicUsize,
    /// Threads that have left since another one has the loop.
    left: AtomicUsize,
}

type Loop = Served<VecDeque<usize>>;

/// What `Loops::serve` does, with numbers for jobs.
fn serve(event_loop: &Loop, tenure: &Tenure, server: &Server) {
    let mut jobs = event_loop.lock();
    while !tenure.is_over() {
        let Some(_) = jobs.pop_front() else {
            return;
        };
        drop(jobs);
        tenure.step();
        server.executed.fetch_add(1, Ordering::Relaxed);
        tenure.step();
        let Some(back) = event_loop.take_back(tenure) else {
            break;
        };
        jobs = back;
    }
    server.left.fetch_add(1, Ordering::Relaxed);
}

fn spawn(event_loop: &Arc<Loop>, tenure: Arc<Tenure>, server: &Arc<Server>) {
    let handle = {
        let (event_loop, server) = (event_loop.clone(), server.clone());
        thread::spawn(move || serve(&event_loop, &tenure, &server))
    };
    server.threads.lock().unwrap().push(handle);
}

/// The watchdog takes every job that it sees for a long one, and not always gets another thread.
fn a_loop_and_its_watchdog() {
    let server = Arc::new(Server::default());
    let event_loop: Arc<Loop> = Arc::new(Served::new((0..JOBS).collect()));
    spawn(&event_loop, event_loop.tenure(), &server);
    let mut passed = 0;
    for _ in 0..3 {
        if event_loop.tenure().steps().is_multiple_of(2) {
            thread::yield_now();
            continue;
        }
        let result = event_loop.pass_on(|tenure| {
            if shuttle::rand::thread_rng().gen_bool(0.5) {
                // No thread, and the one that is there has time to finish its job.
                thread::yield_now();
                return Err(());
            }
            spawn(&event_loop, tenure, &server);
            Ok(())
        });
        passed += usize::from(result.is_ok());
    }
    loop {
        let handle = server.threads.lock().unwrap().pop();
        let Some(handle) = handle else { break };
        handle.join().unwrap();
    }
    assert!(
        event_loop.lock().is_empty(),
        "the loop is left without a thread"
    );
    assert_eq!(server.executed.load(Ordering::Relaxed), JOBS);
    assert!(
        server.left.load(Ordering::Relaxed) <= passed,
        "a thread has left, and no other one has come"
    );
}

#[test]
fn a_loop_always_has_a_thread() {
    explore(1000, a_loop_and_its_watchdog);
}
