//! The user types of the conformance list.

#[path = "../../conformance/types.rs"]
pub mod types;
