//! Whole nodes, stepped through their inputs and outputs.

mod amnesia;
mod catalog;
mod collect;
mod dials;
mod drops;
mod hello;
mod keep;
mod lease;
mod overlap;
mod parked;
mod rank;
mod rest;
mod routes;
mod seal;
mod server;
mod sessions;
