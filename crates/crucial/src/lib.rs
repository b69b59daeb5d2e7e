//! Threads as serverless functions, over distributed shared objects.
//!
//! Take a multi-threaded Rust program and change a handful of lines: `Arc` becomes [`Shared`],
//! `std::thread` becomes [`crucial::thread`](thread), and the body of a thread becomes a
//! [`#[cloud]`](cloud) function. Its threads then run in worker processes (on this machine by default),
//! and the objects that they share live on servers, where their methods run.
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
//! - [`Shared`], [`shared`]: shared objects, of the library ([`sync`], [`collections`]) and [your own](own_types).
//! - [`cloud`], [`Task`], [`thread`]: cloud threads.
//! - [`main`]: the executable's roles. [`Config`]: settings, also from the environment.
//! - [`Error`]: the errors of calls and threads.
//!
//! # Values
//!
//! Arguments, results and the values in objects are of any type with serde's `Serialize` and `Deserialize`, with two
//! exceptions, which are refused where the value is sent, or else where it arrives, with the cause: a type that has to ask what
//! comes before it reads it (`#[serde(untagged)]`, `#[serde(tag = ..)]`, `#[serde(flatten)]`, `serde_json::Value`), and a
//! value that leaves a field out (`#[serde(skip_serializing_if = ..)]`).
//!
//! - Library objects keep values encoded. Two are equal if their encodings are, and their type's `PartialEq` is not asked:
//!   [`Opaque`] says where that differs.
//! - An object of a generic type is one of the kinds of values that it was made with. Who opens a `Map<String, f64>` as a
//!   `Map<String, i64>` is refused, and does not read other numbers.
//! - A `usize` has 32 bits in an uploaded type, and 64 in a program. Write `u64` in the signatures (where [`shared`] warns)
//!   and fields of shared types; what does not fit is an error, also of arithmetic.
//!
//! # Uploaded types
//!
//! Compiled for WebAssembly, a crate has just its shared types, which a server accepts as an uploaded module:
//! `#[cloud]` functions and `#[crucial::main]` are left out.
//!
//! In tests without `#[crucial::main]`, cloud threads run inside the test's process, through the same
//! serialization.

pub use crucial_macros::{cloud, main, shared};
#[cfg(not(target_family = "wasm"))]
pub use crucial_object::Follower;
pub use crucial_object::{
    Element, Error, ErrorKind, LogLine, Logger, LoggerDeferred, LoggerProxy, ObjectBuilder,
    ObjectId, Opaque, Pending, Result, RunId, SessionId, Shared, SharedType, SortKey, Wake,
    collections, sync,
};
#[cfg(not(target_family = "wasm"))]
pub use crucial_runtime::runtime::{clear_namespace, init, run_id};
#[cfg(not(target_family = "wasm"))]
pub use crucial_runtime::{Config, IntoTask, IsTask, MutTask, PlatformKind, Task, thread};
#[doc(inline)]
pub use crucial_std as std;

#[doc = include_str!("own_types.md")]
pub mod own_types {}

/// The command line, which `PROGRAM crucial ..` runs.
#[cfg(all(feature = "cli", not(target_family = "wasm")))]
pub mod cli {
    pub use crucial_cli::run;
}

/// Puts a module into the executable, which pushes it when a server does not know one of its types.
///
/// The argument is the path of a module that `crucial build` has made, relative to the source file as for
/// [`include_bytes!`]. A program also brings along the file beside its executable that has the executable's name and
/// `.wasm`, and the files that `CRUCIAL_MODULE` names.
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

/// The code of the guides, which is compiled with the examples of this documentation.
#[cfg(doctest)]
mod guides {
    #[doc = include_str!("../../../docs/guide.md")]
    struct Guide;

    #[doc = include_str!("../../../docs/porting.md")]
    struct Porting;
}

/// The functions and types that the expansions of macros use. Not part of the API.
#[doc(hidden)]
pub mod __private {
    pub use crucial_object::__private::*;
    #[cfg(not(target_family = "wasm"))]
    pub use crucial_runtime::{CloudFunction, EmbeddedModule, Returned, overwrite, task};

    /// Runs the role that this process was started for.
    #[cfg(not(target_family = "wasm"))]
    pub fn main<R>(program: fn() -> R) -> R {
        #[cfg(feature = "cli")]
        let command_line: Option<crucial_runtime::roles::CommandLine> =
            Some(|arguments| crucial_cli::run(arguments));
        #[cfg(not(feature = "cli"))]
        let command_line = None;
        crucial_runtime::roles::main(program, command_line)
    }
}
