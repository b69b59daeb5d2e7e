//! Whole nodes, stepped through their inputs and outputs.

mod catalog;
mod drops;
mod parked;
mod routes;
mod server;
mod sessions;
