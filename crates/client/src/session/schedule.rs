//! What was done when, on the client's clock.

pub(super) struct Schedule {
    /// When the present routes came.
    pub table_since_ms: u64,
    /// The version of the routes by which all calls were sent.
    pub settled: u64,
    /// When calls are looked for next that have waited for too long.
    pub overdue_look_ms: u64,
    /// When a server was last connected, or the seeds were last tried.
    pub connected_ms: u64,
}

impl Schedule {
    /// `version` is that of the first routes.
    pub fn new(version: u64) -> Schedule {
        Schedule {
            table_since_ms: 0,
            settled: version,
            overdue_look_ms: 0,
            connected_ms: 0,
        }
    }
}
