//! A client and a cluster of scripted servers.

mod fake;
mod everywhere;
mod failures;
mod links;
mod moves;
