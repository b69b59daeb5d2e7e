//! The requests that wait for an object, in the order in which they came.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Requests that wait, oldest first. The place of a request is its ticket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Line<R> {
    waiting: VecDeque<(u64, R)>,
    next: u64,
}

impl<R> Line<R> {
    pub const fn new() -> Line<R> {
        Line {
            waiting: VecDeque::new(),
            next: 0,
        }
    }

    /// Whether the request with this place, or a new one, is the next to be served.
    pub fn is_first(&self, place: Option<u64>) -> bool {
        let first = self.waiting.front().map(|(number, _)| *number);
        match place {
            None => first.is_none(),
            Some(_) => first == place,
        }
    }

    /// Gives a new request the last place.
    pub fn join(&mut self, place: &mut Option<u64>, request: R) {
        if place.is_none() {
            self.waiting.push_back((self.next, request));
            *place = Some(self.next);
            self.next += 1;
        }
    }

    /// The request is served, or gives up.
    pub fn leave(&mut self, place: u64) {
        // A request that is served was the first.
        if self.is_first(Some(place)) {
            self.waiting.pop_front();
        } else {
            self.waiting.retain(|(number, _)| *number != place);
        }
    }

    /// The oldest request.
    pub fn first(&self) -> Option<&R> {
        self.waiting.front().map(|(_, request)| request)
    }

    /// Whether nobody has ever waited.
    pub fn is_new(&self) -> bool {
        self.is_empty() && self.next == 0
    }

    pub fn len(&self) -> u64 {
        self.waiting.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
