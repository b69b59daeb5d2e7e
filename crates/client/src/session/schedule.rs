//! Times of the last and the next upkeep, on the client's clock.

#[derive(Default)]
pub(super) struct Schedule {
    /// When calls are looked for next that have waited for too long.
    pub overdue_look_ms: u64,
    /// When a server was last connected, or the seeds were last tried.
    pub connected_ms: u64,
}
