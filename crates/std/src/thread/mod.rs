//! `std::thread`, with cloud threads.
//!
//! [`spawn`] and [`scope`] take a closure that calls a `#[cloud]` function and does nothing else: it runs at once, in the
//! thread that spawns. `join` gives what the function returned, or the text of why it did not. A thread that could not be
//! started is one that failed.
//!
//! All that is not here (`sleep`, `yield_now`, `available_parallelism`, `panicking`, `LocalKey`) is std's.

pub use ::std::thread::*;

mod builder;
mod ended;
mod join;
mod parked;
mod scope;

pub use builder::{Builder, spawn};
pub use join::{JoinHandle, ScopedJoinHandle};
pub use parked::{Thread, ThreadId, current, park, park_timeout};
pub use scope::{Scope, scope};
