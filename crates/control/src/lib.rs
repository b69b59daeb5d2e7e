//! The control group of a cluster: a few servers that agree on its views.
//!
//! - [`journal`]: what a voter must not forget, on disk.

pub mod journal;
