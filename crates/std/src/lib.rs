//! The drop-in module: `std`, with [`sync`] and [`thread`] of Crucial.
//!
//! Users see it as `crucial::std`. The line `use crucial::std;` shadows the crate `std` in a module, so that a program
//! of std threads runs its threads as cloud threads. `docs/drop-in.md` says why that is exact, and where it is not.
//!
//! - [`sync`]: primitives that are local until they travel. `remote` is a shared object that one of them has become,
//!   `codec` knows how its values are encoded, `statics` finds those that stand in a `static`, `local` has the locks of the
//!   process on which they stand, `lent` knows which ends of channels go with a copy, `cycle`
//!   refuses values that lead back to where they are.
//! - [`thread`]: std's signatures on top of the threads of `crucial_runtime`.

pub use ::std::*;

mod codec;
mod cycle;
mod lent;
mod local;
mod remote;
mod statics;
pub mod sync;
#[cfg(not(target_family = "wasm"))]
pub mod thread;
