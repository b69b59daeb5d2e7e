//! What the tests of several crates share.
//!
//! - [`Cluster`]: server processes on this machine that are started, killed, paused, cut off and replaced; [`Server`]:
//!   one server process. [`Executable`] is the program that they run.
//! - [`Net`]: the hosts of servers: all on loopback, or each in a network namespace of its own.
//! - [`wait_until`].

mod cluster;
mod error;
mod executable;
mod net;
mod server;
mod wait;

pub use cluster::{Cluster, Entry, Options, WHOLE_PATIENCE};
pub use error::{Error, Result};
pub use executable::Executable;
pub use net::{Net, Slow};
pub use server::Server;
pub use wait::wait_until;
