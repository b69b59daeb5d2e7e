//! Application runs, and the attempts of their cloud threads.

use std::collections::VecDeque;

use crucial_object::{Error, Result, RunId, SessionId, ThreadId};
use crucial_proto::frame::{Attempt, Fence, Hello};

use super::client::Session;
use crate::hash::{HashSeed, Map};
use crate::ids::Millis;
use crate::replication::Mutant;

/// An application run.
struct Run {
    /// Objects of a run may come to a server before its owner does.
    owner: Option<SessionId>,
    /// How many fences have to come before anybody else of the run is let in.
    fences: u32,
    /// Since when there is no owner, or the run was last found to be without one.
    orphan_ms: Millis,
    /// When the owner ended.
    left_ms: Millis,
    /// Cloud threads that run, and those of which an older attempt may still be somewhere.
    threads: Map<ThreadId, Thread>,
    /// Those of them that no session runs, the first one first.
    over: VecDeque<ThreadId>,
}

/// The consequence of a fence.
pub(crate) enum Fenced {
    /// The session has to end.
    Session(SessionId),
    /// The session passes to the next attempt of an exactly-once thread, with the results of its calls. Its connection is
    /// of no use any more.
    Connection(SessionId),
}

/// The state of a cloud thread.
#[derive(Default)]
struct Thread {
    /// Its newest attempt.
    attempt: u32,
    /// The session that runs it.
    session: Option<SessionId>,
    /// The thread is over, for all attempts.
    fenced: bool,
}

impl Thread {
    /// Whether this attempt may not go on.
    fn is_beyond(&self, attempt: u32) -> bool {
        self.fenced || self.attempt > attempt
    }

    /// Whether an attempt may still turn up that has to be refused.
    fn must_be_remembered(&self) -> bool {
        self.fenced || self.attempt > 1
    }
}

/// For how many threads of a run that no session runs it is remembered which attempts are over: those that ended last. A
/// run's owner remembers as many.
const THREADS_OVER_MAX: usize = 1024;

/// Runs that are remembered after their owners said goodbye.
const ENDED_RUNS_MAX: usize = 4096;

/// All runs of a server.
pub(crate) struct Runs {
    seed: HashSeed,
    runs: Map<RunId, Run>,
    /// Runs whose owners said goodbye here: a worker that comes late is told so.
    ended: VecDeque<RunId>,
}

impl Runs {
    pub fn new(seed: HashSeed) -> Runs {
        Runs {
            seed,
            runs: seed.map(),
            ended: VecDeque::new(),
        }
    }

    fn entry(&mut self, run: RunId, now: Millis) -> &mut Run {
        let seed = self.seed;
        self.runs.entry(run).or_insert_with(|| Run {
            owner: None,
            fences: 0,
            orphan_ms: now,
            left_ms: now,
            threads: seed.map(),
            over: VecDeque::new(),
        })
    }

    /// A session of a run comes.
    ///
    /// # Errors
    ///
    /// If the run has another owner, has ended, or was not introduced here by its owner.
    pub fn join(&mut self, hello: &Hello, now: Millis) -> Result<()> {
        if hello.owner {
            self.ended.retain(|ended| *ended != hello.run);
            let run = self.entry(hello.run, now);
            if run.owner.is_some_and(|other| other != hello.session) {
                return Err(Error::Config {
                    detail: format!("the run {} has an owner already", hello.run),
                });
            }
            run.owner = Some(hello.session);
            run.fences = hello.fences;
            return Ok(());
        }
        if self.ended.contains(&hello.run) {
            return Err(Error::Lost {
                object: format!("the application run {}", hello.run),
            });
        }
        let run = self.runs.get(&hello.run);
        if run.is_some_and(|run| run.owner.is_some() && run.fences == 0) {
            return Ok(());
        }
        Err(Error::Unavailable {
            address: "the server".to_owned(),
            reason: format!(
                "the owner of the application run {} has not introduced it here",
                hello.run
            ),
        })
    }

    /// An object of a run is here. If the owner does not come within a lease, the run has ended.
    pub fn expect_owner(&mut self, run: RunId, now: Millis) {
        let run = self.entry(run, now);
        if run.owner.is_none() {
            run.orphan_ms = now;
        }
    }

    /// An object of a run came to this server, which need not be its primary.
    pub fn note(&mut self, run: RunId, now: Millis) {
        self.entry(run, now);
    }

    /// The runs that were without an owner for longer than a lease. Those without objects and threads are forgotten. An owner
    /// that was silent may come again, with fences: so the threads are remembered while sessions run them, and those that
    /// are over for as long as their clients may come again.
    pub fn orphans(
        &mut self,
        now: Millis,
        (lease_ms, kept_ms): (Millis, Millis),
        has_objects: &dyn Fn(&RunId) -> bool,
    ) -> Vec<RunId> {
        let mut orphans = Vec::new();
        self.runs.retain(|id, run| {
            if run.owner.is_some() || now.saturating_sub(run.orphan_ms) <= lease_ms {
                return true;
            }
            run.orphan_ms = now;
            orphans.push(*id);
            if now.saturating_sub(run.left_ms) > kept_ms {
                run.forget_over();
            }
            has_objects(id) || !run.threads.is_empty()
        });
        orphans.sort_unstable();
        orphans
    }

    /// Gives all runs a whole lease for their owners to come.
    pub fn forgive(&mut self, now: Millis) {
        for run in self.runs.values_mut() {
            run.orphan_ms = now;
        }
    }

    /// The session runs this attempt from now on. Gives the session of an older attempt, which has to end.
    pub fn begin(&mut self, session: &Session, attempt: Attempt) -> Result<Option<SessionId>> {
        let run = self
            .runs
            .get_mut(&session.run)
            .ok_or(Error::SessionExpired)?;
        let thread = run.threads.entry(attempt.thread).or_default();
        let is_older = thread.attempt > attempt.number && !Mutant::OlderAttemptBegins.is_planted();
        if thread.fenced || is_older {
            return Err(Error::Fenced);
        }
        thread.attempt = attempt.number;
        let older = thread.session.replace(session.id);
        let previous = session.set_attempt(Some(attempt));
        if let Some(previous) = previous.filter(|previous| *previous != attempt.thread) {
            run.leave(previous, session.id);
        }
        Ok(older.filter(|older| *older != session.id))
    }

    /// Older attempts of a thread may not go on. Gives what becomes of the session that runs one. `by`: who says so.
    pub fn fence(&mut self, by: &Session, fence: Fence) -> Result<Option<Fenced>> {
        let run = self.runs.get_mut(&by.run).ok_or(Error::SessionExpired)?;
        if run.owner == Some(by.id) {
            run.fences = run.fences.saturating_sub(1);
        }
        if fence.before == 0 {
            // There is no older attempt, and nothing to remember.
            return Ok(None);
        }
        let thread = run.threads.entry(fence.thread).or_default();
        if fence.before == Fence::ALL {
            thread.fenced = true;
        } else if thread.attempt < fence.before {
            thread.attempt = fence.before;
        } else {
            return Ok(None);
        }
        let is_shared = |session: &SessionId| !thread.fenced && session.is_recorded();
        if let Some(session) = thread.session.filter(is_shared)
            && !Mutant::FenceEndsRecords.is_planted()
        {
            return Ok(Some(Fenced::Connection(session)));
        }
        let session = thread.session.take();
        run.remember(fence.thread);
        let session = session.filter(|_| !Mutant::FenceEndsNothing.is_planted());
        Ok(session.map(Fenced::Session))
    }

    /// Whether an attempt may not go on.
    pub fn is_fenced(&self, attempt: Attempt) -> bool {
        let threads = self.runs.values();
        let threads = threads.filter_map(|run| run.threads.get(&attempt.thread));
        threads
            .into_iter()
            .any(|thread| thread.is_beyond(attempt.number))
    }

    /// Whether the run has an owner here.
    pub fn has_owner(&self, run: &RunId) -> bool {
        let run = self.runs.get(run);
        run.is_some_and(|run| run.owner.is_some())
    }

    /// Whether the run of an exactly-once thread has an owner here. Where the run is not known, as only records of the
    /// session in persistent objects came, then those that it may be are looked at.
    pub fn may_have_owner(&self, session: SessionId, run: Option<RunId>) -> bool {
        match run {
            Some(run) => self.has_owner(&run),
            None => {
                let mut runs = self.runs.iter();
                runs.any(|(id, run)| run.owner.is_some() && session.may_be_of(id))
            }
        }
    }

    #[cfg(test)]
    pub fn threads_len(&self, run: &RunId) -> usize {
        let run = self.runs.get(run);
        run.map_or(0, |run| run.threads.len().max(run.over.len()))
    }

    /// A session of a run has ended; whether it was the owner. `is_known`: it said goodbye.
    pub fn leave(&mut self, session: &Session, is_known: bool, now: Millis) -> bool {
        let Some(run) = self.runs.get_mut(&session.run) else {
            return false;
        };
        if run.owner != Some(session.id) {
            if let Some(thread) = session.set_attempt(None) {
                run.leave(thread, session.id);
            }
            return false;
        }
        // The objects that other servers answer for end there.
        run.owner = None;
        run.orphan_ms = now;
        run.left_ms = now;
        if is_known {
            run.threads.clear();
            run.over.clear();
            if self.ended.len() >= ENDED_RUNS_MAX {
                self.ended.pop_front();
            }
            self.ended.push_back(session.run);
        }
        true
    }

    /// Forgets all runs: this server has lost what it held.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.ended.clear();
    }
}

impl Run {
    /// Nobody comes any more of those that are over.
    fn forget_over(&mut self) {
        self.threads.retain(|_, thread| thread.session.is_some());
        self.over.clear();
    }

    /// The session does not run the thread any more.
    fn leave(&mut self, thread: ThreadId, session: SessionId) {
        let Some(entry) = self.threads.get_mut(&thread) else {
            return;
        };
        if entry.session == Some(session) {
            entry.session = None;
            match entry.must_be_remembered() {
                true => self.remember(thread),
                false => drop(self.threads.remove(&thread)),
            }
        }
    }

    /// No session runs the thread any more. With too many such threads the first one is forgotten.
    fn remember(&mut self, thread: ThreadId) {
        self.over.retain(|over| *over != thread);
        self.over.push_back(thread);
        if self.over.len() > THREADS_OVER_MAX
            && let Some(first) = self.over.pop_front()
            && self
                .threads
                .get(&first)
                .is_some_and(|thread| thread.session.is_none())
        {
            self.threads.remove(&first);
        }
    }
}
