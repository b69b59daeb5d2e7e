//! The limits of what a server accepts.

use crucial_proto::frame::FRAME_BYTES_MAX;

/// A server's limits. A request over one fails with
/// [`Error::LimitExceeded`](crucial_object::Error::LimitExceeded), which names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest frame, in bytes: bounds arguments, results and initial states. At most 4 GiB - 1.
    pub frame_bytes_max: usize,
    /// Largest frame between servers of a cluster, in bytes: bounds an object with its records. At most 4 GiB - 1.
    pub peer_frame_bytes_max: usize,
    /// Requests that wait for one partition, while it has no primary that serves it.
    pub waiting_requests_max: usize,
    /// Open connections.
    pub connections_max: usize,
    /// Objects.
    pub objects_max: usize,
    /// Calls that wait in one object.
    pub parked_calls_max: usize,
    /// Calls that queue for one object while a method of it runs.
    pub queued_calls_max: usize,
    /// Calls that a session may make behind the first one that it has not acknowledged: bounds the results that are kept
    /// for it.
    pub unacknowledged_calls_max: usize,
    /// Bytes that a connection may have waiting to be sent before the server stops reading from it.
    pub unsent_bytes_max: usize,
    /// Methods that run long at the same time, each on a thread of its own. With more, calls wait.
    pub long_methods_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            frame_bytes_max: FRAME_BYTES_MAX,
            peer_frame_bytes_max: 1 << 30,
            waiting_requests_max: 1_000_000,
            connections_max: 10_000,
            objects_max: 50_000_000,
            parked_calls_max: 1_000_000,
            queued_calls_max: 1_000_000,
            unacknowledged_calls_max: 1 << 22,
            unsent_bytes_max: 16 << 20,
            long_methods_max: 256,
        }
    }
}
