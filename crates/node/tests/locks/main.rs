//! The locks of a node, under a scheduler that tries many interleavings of a few threads.
//!
//! Each test drives real nodes as the server's shell does: several threads take in events, execute jobs and complete them,
//! each with outputs of its own, and another one has the timeouts. A schedule fails when threads wait for each other for
//! ever, a request has no reply or two, the replies are those of no order, or an invariant of the node is broken.
//! `planted` shows for bugs which only an interleaving brings out that some schedule finds them.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::disallowed_macros,
    reason = "a test has the world that the node has not"
)]

mod client;
mod cluster;
mod objects;
mod peers;
mod planted;
mod schedules;
mod sessions;
mod shell;
mod sync;
#[expect(dead_code, reason = "how a server stops is not tested here")]
#[path = "../../../server/src/tenure.rs"]
mod tenure;
mod waiting;
mod watchdog;
