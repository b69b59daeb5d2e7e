//! Says that invocations queue behind a limit while nothing goes on: what runs may be waiting for what queues.

use std::time::{Duration, Instant};

use crate::sink::{OutputSink, Stream};

/// Nothing has begun or ended for this long. Then it is said, and once more after each pause that is twice the one before.
pub(crate) const QUIET: Duration = Duration::from_secs(5);

/// How many names of each kind are said.
const NAMES_MAX: usize = 4;

/// The state of a queue at one time.
pub(crate) struct Queue<'a> {
    /// Counts what has begun and what has ended.
    pub steps: u64,
    pub waiting: Vec<&'a str>,
    pub running: Vec<&'a str>,
    pub concurrency_max: usize,
    /// The limit that allows no more.
    pub limit: &'a str,
}

/// Looks at a queue now and then.
pub(crate) struct QueueWatch {
    steps: u64,
    since: Instant,
    pause: Duration,
}

impl QueueWatch {
    pub fn new(now: Instant) -> QueueWatch {
        QueueWatch {
            steps: 0,
            since: now,
            pause: QUIET,
        }
    }

    /// What is to be said about the queue now.
    pub fn look(&mut self, queue: &Queue<'_>, now: Instant) -> Option<String> {
        if queue.steps != self.steps || queue.waiting.is_empty() {
            *self = QueueWatch {
                steps: queue.steps,
                ..QueueWatch::new(now)
            };
            return None;
        }
        if now.saturating_duration_since(self.since) < self.pause {
            return None;
        }
        self.since = now;
        let said = format!(
            "{} wait for a place, as {} may run at once ({}) and none has ended for {} s: {}; if those that run \
             wait for those that do not, raise the limit",
            names(&queue.waiting),
            queue.concurrency_max,
            queue.limit,
            self.pause.as_secs(),
            names(&queue.running),
        );
        self.pause *= 2;
        Some(said)
    }
}

/// Says it where the threads' own lines are said.
pub(crate) fn say(sink: &dyn OutputSink, text: &str) {
    sink.line(Stream::Stderr, "crucial", text);
}

fn names(names: &[&str]) -> String {
    let some = names.iter().take(NAMES_MAX).copied();
    let some = some.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_MAX) {
        0 => some,
        more => format!("{some} and {more} others"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_stands_still_is_said_more_and_more_rarely() {
        let start = Instant::now();
        let mut watch = QueueWatch::new(start);
        let mut said = |steps, waiting: &[&str], at_s| {
            let queue = Queue {
                steps,
                waiting: waiting.to_vec(),
                running: vec!["a", "b"],
                concurrency_max: 2,
                limit: "CRUCIAL_CONCURRENCY",
            };
            watch.look(&queue, start + Duration::from_secs(at_s))
        };
        assert_eq!(said(2, &["c"], 0), None);
        assert_eq!(said(2, &["c"], 4), None);
        let first = said(2, &["c", "d", "e", "f", "g"], 5).unwrap();
        assert!(
            first.starts_with("c, d, e, f and 1 others wait for a place, as 2 may run"),
            "{first}"
        );
        assert!(first.contains("for 5 s: a, b;"), "{first}");
        assert_eq!(said(2, &["c"], 14), None);
        assert!(said(2, &["c"], 15).is_some());
        // Something goes on.
        assert_eq!(said(3, &["c"], 100), None);
        assert_eq!(said(3, &["c"], 104), None);
        assert!(said(3, &["c"], 105).is_some());
        assert_eq!(said(3, &[], 200), None);
    }
}
