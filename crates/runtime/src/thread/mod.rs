//! Cloud threads: `std::thread`, on a platform.
//!
//! [`spawn`] runs a [`Task`](crate::Task) on the platform and returns a [`JoinHandle`], as [`std::thread::spawn`] does
//! with a closure. [`Builder`] sets a thread's name, retries and limits; [`scope`] waits for all threads that were
//! started in the scope; [`map`] runs a task for each input, and [`parallel_for`] for each part of a range.
//!
//! Cloud threads differ from those of `std` in three ways. A thread shares nothing with its parent but the
//! [`Shared`](crucial_object::Shared) objects among its arguments. A thread can fail for reasons of the platform, so
//! `join` returns [`crucial::Result`](crucial_object::Result). And when `main` returns, threads that still run are
//! killed (as in `std`) together with their processes.
//!
//! Lines that a thread prints appear on this process's terminal, after the thread's name.

mod builder;
mod control;
pub(crate) mod current;
mod group;
mod join;
mod launch;
mod many;
mod packet;
pub(crate) mod recorded;
mod scope;
mod settings;

pub use builder::{Builder, spawn};
pub use current::{Thread, current, now, random};
pub use group::join_all;
pub use join::JoinHandle;
pub use many::{ParallelFor, map, parallel_for};
pub use recorded::EXACTLY_ONCE_CALLS_MAX;
pub use scope::{Scope, scope};
