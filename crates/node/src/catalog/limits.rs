//! Times and bounds of the catalog.

/// Times, in milliseconds, and bounds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A message or a proposal without an answer is sent again after this time.
    pub repeat_ms: u64,
    /// A client is told that a phase did not end, if it has made no progress for this time. Members that have died are
    /// gone from the view earlier; this is for those that are cut off, and for a compiler that needs a while.
    pub patience_ms: u64,
    /// After a push, time for the last replicas to move, so that the replaced modules can be dropped.
    pub sweep_ms: u64,
    /// Pause between two tries to drop a replaced module.
    pub sweep_pause_ms: u64,
    /// A server that sends no piece for this time is left, and another one is asked.
    pub silence_ms: u64,
    /// First pause after all servers were asked in vain; each later one is twice as long.
    pub pause_min_ms: u64,
    /// Longest such pause.
    pub pause_max_ms: u64,
    /// Bytes of one piece.
    pub piece_bytes: usize,
    /// Pieces of a module that are on their way at a time.
    pub pieces: u64,
    /// Modules that are fetched at a time.
    pub fetches: usize,
    /// Clients' requests that wait for their turn at a server.
    pub requests: usize,
    /// Bytes of the modules in these requests.
    pub request_bytes: u64,
    /// Bytes of modules that servers try to push and that are in no view yet.
    pub staged_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            repeat_ms: 500,
            patience_ms: 60_000,
            sweep_ms: 2_000,
            sweep_pause_ms: 20,
            silence_ms: 1_000,
            pause_min_ms: 100,
            pause_max_ms: 5_000,
            piece_bytes: 256 << 10,
            pieces: 4,
            fetches: 2,
            requests: 64,
            request_bytes: 256 << 20,
            staged_bytes: 256 << 20,
        }
    }
}
