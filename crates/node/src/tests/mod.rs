//! Whole nodes, stepped through their inputs and outputs.

mod catalog;
mod dials;
mod drops;
mod hello;
mod lease;
mod parked;
mod rank;
mod rest;
mod routes;
mod server;
mod sessions;
