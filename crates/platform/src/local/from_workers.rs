//! Invocations that workers post: the platform's side of [`nested`](crate::nested).

use std::rc::Rc;

use super::pool::{Job, Pool};
use crate::nested::{self, Outcome, Request};
use crate::platform::InvocationId;

impl Pool {
    /// Starts the invocation to which `worker` has given a number. Returns false if the message is not understood.
    pub fn invoke_for(self: &Rc<Self>, worker: u64, number: u64, message: &[u8]) -> bool {
        let Some((request, event)) = nested::parse::<Request>(message) else {
            return false;
        };
        let id = InvocationId::next();
        let done = {
            let mut state = self.state.borrow_mut();
            let Some(process) = state.workers.get(&worker) else {
                return false;
            };
            let done = process.outcomes.completion(number);
            state.from_workers.insert((worker, number), id);
            done
        };
        self.invoke(Job {
            id,
            name: request.name,
            event: event.to_vec(),
            memory_mb: request.memory_mb.or(self.config.memory_mb_default),
            limit: request.time_limit.unwrap_or(self.config.time_limit_default),
            done,
        });
        true
    }

    /// Ends the invocation to which `worker` has given this number.
    pub fn cancel_for(&self, worker: u64, number: u64) {
        let id = {
            self.state
                .borrow()
                .from_workers
                .get(&(worker, number))
                .copied()
        };
        if let Some(id) = id {
            self.cancel(id);
        }
    }

    /// Waits for the next outcome of an invocation by `worker`, as a message. `None`: the worker has ended.
    pub async fn next_outcome(&self, worker: u64) -> Option<Vec<u8>> {
        let outcomes = {
            let state = self.state.borrow();
            state.workers.get(&worker)?.outcomes.clone()
        };
        let (number, result) = outcomes.next().await?;
        self.state
            .borrow_mut()
            .from_workers
            .remove(&(worker, number));
        let (failure, result) = match result {
            Ok(result) => (None, result),
            Err(failure) => (Some(failure), Vec::new()),
        };
        Some(nested::message(&Outcome { number, failure }, &result))
    }

    /// Ends the invocations of a worker that has ended.
    pub fn cancel_all_for(&self, worker: u64) {
        let ids: Vec<InvocationId> = {
            let mut state = self.state.borrow_mut();
            let own = |key: &(u64, u64)| key.0 == worker;
            let ids = state.from_workers.iter().filter(|(key, _)| own(key));
            let ids = ids.map(|(_, id)| *id).collect();
            state.from_workers.retain(|key, _| !own(key));
            ids
        };
        for id in ids {
            self.cancel(id);
        }
    }
}
