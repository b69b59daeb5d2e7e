//! The types of the shared objects: a library, so that `crucial run` can bring them to any server.

use std::task::Poll;

use crucial::shared;
use serde::{Deserialize, Serialize};

/// Points in a square, and how many of them are in the circle.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    points: u64,
    inside: u64,
}

#[shared]
impl Tally {
    /// Adds what one thread has found. Runs on the server that holds the object, once for each call.
    pub fn add(&mut self, points: u64, inside: u64) {
        self.points += points;
        self.inside += inside;
    }

    /// The estimate of pi. Its caller waits until there are this many points.
    pub fn pi(&self, points: u64) -> Poll<f64> {
        if self.points < points.max(1) {
            return Poll::Pending;
        }
        Poll::Ready(4.0 * self.inside as f64 / self.points as f64)
    }
}

// On a server it is a shared object; here it is a type like any other.
#[test]
fn the_estimate_waits_for_its_points() {
    let mut tally = Tally::default();
    tally.add(3, 3);
    assert!(tally.pi(4).is_pending());
    tally.add(1, 0);
    assert_eq!(tally.pi(4), Poll::Ready(3.0));
}
