//! A client introduces itself to a server.

use std::collections::VecDeque;

use crucial_object::{RunId, SessionId, ThreadId};
use crucial_proto::frame::{Attempt, Fence, Hello};

/// For how many threads of a run fences are remembered, for servers that join later: those that were fenced last.
const FENCES_MAX: usize = 1024;

/// The client, as servers know it.
#[derive(Clone, Debug)]
pub struct Identity {
    pub session: SessionId,
    pub run: RunId,
    pub owner: bool,
    pub namespace: String,
    /// Whether the session is an exactly-once thread's own.
    pub is_exactly_once: bool,
}

impl Identity {
    /// A hello of this client, which knows no routes.
    pub fn hello(&self, attempt: Option<Attempt>) -> Hello {
        Hello {
            session: self.session,
            run: self.run,
            owner: self.owner,
            namespace: self.namespace.clone(),
            attempt,
            routes: 0,
            fences: 0,
        }
    }
}

/// A hello, and the fences that follow it on the same connection.
#[derive(Clone, Debug)]
pub struct Introduction {
    pub hello: Hello,
    pub fences: Vec<Fence>,
}

/// Which attempts of the threads that this client has started are over.
#[derive(Default)]
pub(super) struct Fences(VecDeque<Fence>);

impl Fences {
    pub fn record(&mut self, thread: ThreadId, before: u32) -> Fence {
        let fence = Fence { thread, before };
        self.0.retain(|earlier| earlier.thread != thread);
        if self.0.len() >= FENCES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(fence);
        fence
    }

    pub fn all(&self) -> Vec<Fence> {
        self.0.iter().copied().collect()
    }
}
