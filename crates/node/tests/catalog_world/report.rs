//! What has happened in a run.

/// What has happened in a run, or in several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// A checksum of the schedule.
    pub trace: u64,
    pub pushed: u64,
    pub moved: u64,
    pub refused: u64,
    pub unavailable: u64,
    pub removed: u64,
    /// Modules that went because others had replaced them.
    pub swept: u64,
    pub evicted: u64,
    /// Commands that rested on an older view.
    pub overtaken: u64,
    /// Partitions that went to another server with their objects.
    pub handed_over: u64,
}

impl Report {
    pub fn add(&mut self, other: Report) {
        self.trace = self.trace.wrapping_mul(31) ^ other.trace;
        self.pushed += other.pushed;
        self.moved += other.moved;
        self.refused += other.refused;
        self.unavailable += other.unavailable;
        self.removed += other.removed;
        self.swept += other.swept;
        self.evicted += other.evicted;
        self.overtaken += other.overtaken;
        self.handed_over += other.handed_over;
    }
}
