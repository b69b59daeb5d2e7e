//! A client and a cluster of scripted servers.

mod everywhere;
mod failures;
mod fake;
mod links;
mod moves;
