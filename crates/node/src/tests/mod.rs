//! Whole nodes, stepped through their inputs and outputs.

mod catalog;
mod routes;
mod server;
