//! The outcomes of a worker's invocations, until the worker fetches them.

use std::rc::Rc;

use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::platform::{Completion, Failure};

/// The worker's number of an invocation, and how it ended.
type Ended = (u64, Result<Vec<u8>, Failure>);

/// The outcomes that a worker has not fetched yet.
#[derive(Clone)]
pub(super) struct Outcomes {
    sender: UnboundedSender<Ended>,
    receiver: Rc<Mutex<UnboundedReceiver<Ended>>>,
}

impl Outcomes {
    pub fn new() -> Outcomes {
        let (sender, receiver) = unbounded_channel();
        Outcomes {
            sender,
            receiver: Rc::new(Mutex::new(receiver)),
        }
    }

    /// Adds the outcome of the invocation with this number when it is called.
    pub fn completion(&self, number: u64) -> Completion {
        let sender = self.sender.clone();
        // Sending fails if the worker has ended, which needs no outcome.
        Box::new(move |result| drop(sender.send((number, result))))
    }

    /// Waits for the next outcome.
    pub async fn next(&self) -> Option<Ended> {
        self.receiver.lock().await.recv().await
    }
}
