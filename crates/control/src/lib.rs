//! The control group of a cluster: a few servers that agree on its views.
//!
//! - [`journal`]: what a voter must not forget, on disk.
//! - [`store`]: the log, the vote and the view of a voter, for the consensus library.

pub mod journal;
pub mod store;
