//! What all loads share: threads with clients of their own, objects that are made anew when they are lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crucial_object::{ObjectId, caller};
use crucial_testing::{Entry, Error, Result};

use crate::judge::{EpisodeNumber, Judge};

/// What each thread of a load has.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where the servers are.
    pub entry: Entry,
    /// Decides which objects may be lost.
    pub judge: Arc<Judge>,
    /// The number of replicas of each object.
    pub replicas: u8,
    /// The seed of the load's choices.
    pub seed: u64,
    stop: Arc<AtomicBool>,
}

/// Running threads of a load.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<JoinHandle<Result<String>>>,
    stop: Arc<AtomicBool>,
}

impl Context {
    /// A context, and no thread yet.
    pub fn new(entry: Entry, judge: Arc<Judge>, replicas: u8, seed: u64) -> (Context, Workers) {
        let stop = Arc::<AtomicBool>::default();
        let context = Context {
            entry,
            judge,
            replicas,
            seed,
            stop: stop.clone(),
        };
        let threads = Vec::new();
        (context, Workers { threads, stop })
    }

    /// Whether the thread is to make its last checks, and to end.
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Workers {
    /// Starts a thread of a load, which makes its calls by a client of its own, and returns what it did in a line.
    ///
    /// # Errors
    ///
    /// If the client cannot connect.
    pub fn start(
        &mut self,
        context: &Context,
        name: String,
        work: impl FnOnce(&Context) -> Result<String> + Send + 'static,
    ) -> Result<()> {
        let client = context.entry.client(self.threads.len())?;
        let context = context.clone();
        let thread = move || {
            let done = caller::with(client.clone(), || work(&context));
            client.goodbye()?;
            done.map_err(|error| Error::Wrong(format!("{name}: {error}")))
        };
        self.threads.push(std::thread::spawn(thread));
        Ok(())
    }

    /// Fails if a thread has failed.
    ///
    /// # Errors
    ///
    /// The thread's.
    pub fn check(&mut self) -> Result<()> {
        let mut ended = self.threads.extract_if(.., |thread| thread.is_finished());
        ended.try_for_each(|thread| join(thread).map(drop))
    }

    /// Ends all threads, each of which checks its objects once more. Gives what they did.
    ///
    /// # Errors
    ///
    /// The first thread's that failed.
    pub fn finish(self) -> Result<Vec<String>> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(join).collect()
    }
}

fn join(thread: JoinHandle<Result<String>>) -> Result<String> {
    let done = thread.join();
    done.map_err(|_| Error::Wrong("a thread of a load panicked".to_owned()))?
}

/// What a thread knows of an object of its own: which one it is, and when it was certainly there.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The object.
    pub object: ObjectId,
    /// When the object was certainly there.
    pub since: EpisodeNumber,
}

/// The result of a call of an object that may be lost.
#[derive(Debug)]
pub enum Outcome<T> {
    /// The call's result.
    Done(T),
    /// The object is lost, and the judge knows it.
    Lost,
}

impl Context {
    /// Makes a call of an object.
    ///
    /// # Errors
    ///
    /// Each error but [`Lost`](crucial::Error::Lost).
    pub fn call<T>(
        &self,
        name: &str,
        seen: &mut Seen,
        call: impl FnOnce() -> crucial::Result<T>,
    ) -> Result<Outcome<T>> {
        let begun = self.judge.now();
        let result = call();
        self.settle(name, seen, begun, result)
    }

    /// Takes the result of a call that began in the episode `begun`.
    ///
    /// # Errors
    ///
    /// Each error but [`Lost`](crucial::Error::Lost).
    pub fn settle<T>(
        &self,
        name: &str,
        seen: &mut Seen,
        begun: EpisodeNumber,
        result: crucial::Result<T>,
    ) -> Result<Outcome<T>> {
        match result {
            Ok(value) => {
                seen.since = begun;
                Ok(Outcome::Done(value))
            }
            Err(crucial::Error::Lost { .. }) => {
                self.judge
                    .record_loss(name, &seen.object, self.replicas, seen.since);
                Ok(Outcome::Lost)
            }
            Err(error) => Err(Error::Wrong(format!("{name}: {} ({error})", error.kind()))),
        }
    }

    /// Creates an object under the first of the names of `create` that is not lost.
    ///
    /// # Errors
    ///
    /// Those of the creation.
    pub fn create<T>(
        &self,
        generation: &mut u64,
        mut create: impl FnMut(u64) -> crucial::Result<T>,
    ) -> Result<(T, EpisodeNumber)> {
        /// More creations in a row than this are not lost by overlapping faults.
        const TRIES_MAX: usize = 20;
        for _ in 0..TRIES_MAX {
            *generation += 1;
            let begun = self.judge.now();
            match create(*generation) {
                Ok(made) => return Ok((made, begun)),
                // Its replicas died while it was created.
                Err(crucial::Error::Lost { .. }) => {}
                Err(error) => {
                    let kind = error.kind();
                    return Err(Error::Wrong(format!("a creation failed: {kind} ({error})")));
                }
            }
        }
        Err(Error::Wrong(format!(
            "{TRIES_MAX} objects in a row were lost while they were created"
        )))
    }
}
