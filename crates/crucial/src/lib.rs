//! Threads as serverless functions, over distributed shared objects.
//!
//! Take a multi-threaded Rust program and change a handful of lines: `Arc` becomes [`Shared`],
//! `std::thread` becomes [`crucial::thread`](thread), and the body of a thread becomes a
//! [`#[cloud]`](cloud) function. Its threads then run in worker processes (on this machine by default),
//! and what they share lives on servers, where its methods run.
//!
//! ```no_run
//! use crucial::{Result, Shared, cloud, sync::AtomicI64, thread};
//!
//! #[cloud]
//! fn estimate(points: u64, inside: Shared<AtomicI64>) -> Result<()> {
//!     let hits = sample(points); // plain Rust
//!     inside.fetch_add(hits as i64)?; // runs on the server that holds the counter
//!     Ok(())
//! }
//! # fn sample(points: u64) -> u64 { points / 4 * 3 }
//!
//! #[crucial::main]
//! fn main() -> Result<()> {
//!     let inside = Shared::new(AtomicI64::new(0))?;
//!     let threads: Vec<_> = (0..100)
//!         .map(|_| thread::spawn(estimate(10_000_000, inside.clone())))
//!         .collect();
//!     for t in threads {
//!         t.join()??;
//!     }
//!     println!("pi is {}", 4.0 * inside.load()? as f64 / 1e9);
//!     Ok(())
//! }
//! ```
//!
//! - [`Shared`], [`shared`]: shared objects, of the library ([`sync`], [`collections`]) and your own.
//! - [`cloud`], [`Task`], [`thread`]: cloud threads.
//! - [`main`]: the executable's roles. [`Config`]: settings, also from the environment.
//! - [`Error`]: what can go wrong.
//!
//! Compiled for WebAssembly there are just the shared types, which a server takes in as an uploaded module:
//! `#[cloud]` functions and `#[crucial::main]` are left out.
//!
//! In tests without `#[crucial::main]`, cloud threads run inside the test's process, through the same
//! serialization.

#[cfg(not(target_family = "wasm"))]
mod config;
#[cfg(not(target_family = "wasm"))]
mod modules;
#[cfg(not(target_family = "wasm"))]
mod output;
#[cfg(not(target_family = "wasm"))]
mod progress;
#[cfg(not(target_family = "wasm"))]
mod roles;
#[cfg(not(target_family = "wasm"))]
mod runtime;
#[cfg(not(target_family = "wasm"))]
mod task;
#[cfg(not(target_family = "wasm"))]
pub mod thread;
#[cfg(not(target_family = "wasm"))]
mod worker;

#[cfg(all(feature = "cli", not(target_family = "wasm")))]
pub mod cli;

#[cfg(not(target_family = "wasm"))]
pub use config::{Config, PlatformKind};
pub use crucial_macros::{cloud, main, shared};
#[cfg(not(target_family = "wasm"))]
pub use crucial_object::Follower;
pub use crucial_object::{
    Builder, Element, Error, LogLine, Logger, LoggerDeferred, LoggerProxy, ObjectId, Opaque,
    Pending, Result, RunId, SessionId, Shared, SharedType, SortKey, Wake, collections, encode,
    sync,
};
#[cfg(not(target_family = "wasm"))]
pub use runtime::{clear_namespace, init, run_id};
#[cfg(not(target_family = "wasm"))]
pub use task::Task;

/// Puts a module into the executable, which pushes it when a server does not know one of its types.
///
/// The argument is a path, as that of [`include_bytes!`], to what `crucial build` has made. Without it a program
/// looks for a file beside its executable, of the same name with `.wasm` behind it, and for those that
/// `CRUCIAL_MODULE` names.
///
/// ```ignore
/// crucial::embed_module!("../types.wasm");
/// ```
#[macro_export]
macro_rules! embed_module {
    ($path:expr $(,)?) => {
        #[cfg(not(target_family = "wasm"))]
        $crate::__private::inventory::submit! {
            $crate::__private::EmbeddedModule(include_bytes!($path))
        }
    };
}

/// What the macros' expansions call. Not part of the API.
#[doc(hidden)]
pub mod __private {
    #[cfg(not(target_family = "wasm"))]
    pub use crate::modules::EmbeddedModule;
    #[cfg(not(target_family = "wasm"))]
    pub use crate::roles::main;
    #[cfg(not(target_family = "wasm"))]
    pub use crate::task::{CloudFunction, task};
    pub use crucial_object::__private::*;
}
