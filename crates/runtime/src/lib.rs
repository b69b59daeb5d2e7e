//! The runtime of a Crucial program.
//!
//! - [`Config`]: settings, also from the environment.
//! - [`runtime`]: what a running program has: its client, its embedded server, its platform. The runtime starts at
//!   first use.
//! - [`Task`] and [`thread`]: cloud threads, and how a platform runs them; `worker` is the other end.
//! - [`roles`]: an executable is a program, a worker or the command line.
//!
//! Users see all of this through the facade, `crucial`; the command line (`crucial-cli`) is built on it as well.

mod config;
mod environment;
mod first;
mod modules;
mod output;
mod parcel;
mod progress;
pub mod roles;
pub mod runtime;
mod server;
mod task;
pub mod thread;
mod worker;

pub use config::{Config, PlatformKind, whole_number};
pub use modules::{EmbeddedModule, MODULE_VARIABLE};
pub use task::{CloudFunction, IntoTask, IsTask, MutTask, Returned, Task, Write, overwrite, task};
