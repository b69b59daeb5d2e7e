//! Owners look after their cloud threads: they launch attempts, take some for dead that live, and cancel.

use crucial_object::{SessionId, ThreadId};
use crucial_proto::frame::{Fence, Operation as Wanted};
use rand::Rng;

use crate::attempt::{Everywhere, Work};
use crate::caller::{Caller, run_of};
use crate::client::Client;
use crate::event::Event;
use crate::events::MS;
use crate::thread::{CloudThread, Phase};
use crate::world::World;

/// How often an owner looks after its threads.
const LOOK_MS: u64 = 300;

/// A thread has no more attempts than this.
const ATTEMPTS_MAX: u32 = 5;

/// Calls of an exactly-once thread, and of an attempt of another one.
const CALLS: usize = 12;

impl World {
    /// Some of the runs have threads. The first client owns them.
    pub fn add_threads(&mut self) {
        let owner = SessionId(1);
        for number in 0..self.random.random_range(0..3u8) {
            let mut id = [number; 16];
            self.random.fill(&mut id[..8]);
            self.threads.push(CloudThread {
                id: ThreadId::new(&run_of(owner), id),
                owner,
                is_exactly_once: self.random.random(),
                attempts: Vec::new(),
                phase: Phase::Begins,
                cancel_began: None,
                cancelled: None,
                seed: self.random.random(),
            });
        }
        if !self.threads.is_empty() {
            self.after(1_000 * MS, Event::Threads);
        }
    }

    pub fn owns_threads(&self, client: SessionId) -> bool {
        self.threads.iter().any(|thread| thread.owner == client)
    }

    /// Owners look after their threads.
    pub fn tick_threads(&mut self) {
        let mut threads = std::mem::take(&mut self.threads);
        for thread in &mut threads {
            self.look_after(thread);
        }
        if !threads.iter().all(CloudThread::is_over) {
            self.after(LOOK_MS * MS, Event::Threads);
        }
        self.threads = threads;
    }

    fn look_after(&mut self, thread: &mut CloudThread) {
        match &mut thread.phase {
            Phase::Begins => self.launch(thread),
            Phase::Runs => self.look_after_attempt(thread),
            Phase::IsCancelled(fence) => {
                let now = self.now();
                let Some(owner) = self.clients.get_mut(&thread.owner) else {
                    return;
                };
                let known = fence.go_on(&mut owner.caller, &mut owner.awaited, now.ms);
                self.after_client(thread.owner);
                match known {
                    None => return,
                    // Nobody knows which servers know.
                    Some(Err(_)) => {}
                    Some(Ok(())) => thread.cancelled = Some(now.event),
                }
                thread.phase = Phase::Over;
            }
            Phase::Over => {}
        }
    }

    fn launch(&mut self, thread: &mut CloudThread) {
        let is_connected = self
            .clients
            .get(&thread.owner)
            .is_some_and(|owner| !owner.caller.members().is_empty());
        if !is_connected {
            return;
        }
        let process = self.next_client();
        thread.attempts.push(process);
        thread.phase = Phase::Runs;
        self.report.attempts += 1;
        let attempt = thread.attempt();
        self.trace(|| format!("{attempt:?} in process {}", process.0));
        let random = self.random.random();
        let caller = Caller::of_attempt(attempt, process, thread.owner, random);
        let mut client = Client::new(process, CALLS, caller);
        client.work = Some(Work::new(attempt, thread.seed));
        client.goes_on = !thread.is_exactly_once && self.random.random();
        self.add_client(client);
    }

    fn look_after_attempt(&mut self, thread: &mut CloudThread) {
        let Some(process) = thread.attempts.last().copied() else {
            return;
        };
        let Some(worker) = self.clients.get(&process) else {
            return;
        };
        let (is_dead, is_done) = (worker.is_dead, worker.is_done() && worker.left == 0);
        // A run has ended where its owner was silent, and its records go there sooner or later.
        let is_run_whole = !thread.is_exactly_once || !self.lapsed.contains(&thread.owner);
        match self.random.random_range(0..60) {
            _ if is_done && !is_dead => self.end_thread(thread, true),
            _ if is_dead && !is_run_whole => self.end_thread(thread, false),
            0 => self.cancel(thread),
            1..4 if !is_dead => {
                self.trace(|| format!("process {} dies", process.0));
                let is_said = self.random.random();
                self.kill_process(process, is_said);
            }
            4..8 if is_run_whole => self.next_attempt(thread),
            _ if is_dead => self.next_attempt(thread),
            _ => {}
        }
    }

    /// The last attempt counts as lost, whether it lives or not.
    fn next_attempt(&mut self, thread: &mut CloudThread) {
        if thread.attempts.len() as u32 >= ATTEMPTS_MAX {
            return self.cancel(thread);
        }
        let number = thread.attempts.len() as u32 + 1;
        if let Some(owner) = self.clients.get_mut(&thread.owner) {
            owner.caller.record_fence(thread.id, number);
        }
        thread.phase = Phase::Begins;
    }

    fn cancel(&mut self, thread: &mut CloudThread) {
        self.trace(|| format!("{} is cancelled", thread.id));
        self.report.cancels += 1;
        thread.cancel_began = Some(self.events.count);
        if let Some(fence) = self.fence_all(thread) {
            thread.phase = Phase::IsCancelled(Everywhere::new(fence));
        }
    }

    fn fence_all(&mut self, thread: &CloudThread) -> Option<Wanted> {
        let owner = self.clients.get_mut(&thread.owner)?;
        let fence = owner.caller.record_fence(thread.id, Fence::ALL)?;
        Some(Wanted::Fence(fence))
    }

    /// A thread has returned, or will not be started again. What is left of it is cleaned up without anybody waiting for
    /// that.
    fn end_thread(&mut self, thread: &mut CloudThread, has_returned: bool) {
        let now = self.now();
        if thread.is_exactly_once || !has_returned {
            let fence = self.fence_all(thread);
            if let (Some(fence), Some(owner)) = (fence, self.clients.get_mut(&thread.owner)) {
                let mut fence = Everywhere::new(fence);
                fence.go_on(&mut owner.caller, &mut owner.awaited, now.ms);
            }
            self.after_client(thread.owner);
        }
        if let Some(process) = thread.attempts.last().copied() {
            self.say_goodbye(process);
        }
        thread.phase = Phase::Over;
    }
}
