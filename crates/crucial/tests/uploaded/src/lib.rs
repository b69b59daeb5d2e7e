//! The user types of the conformance list.

pub mod types;
