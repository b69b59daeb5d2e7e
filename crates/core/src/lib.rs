//! The pure heart of Crucial: what arrives as bytes, and what a call does to an object.
//!
//! Nothing here has a socket, a clock or a thread; the server's and client's runtimes own those. In
//! the order in which a call meets them:
//!
//! - [`frame`]: the wire protocol's frames, to and from bytes (`docs/protocol.md`).
//! - [`Cell`]: one object: its state, its completion records, its parked calls.
//! - [`records`]: what makes a repeated call harmless.
//! - [`Endpoint`]: where a server is; [`SpinPolicy`]: whether to spin before sleeping.
//!
//! ```
//! use crucial_core::{CallId, Cell, Disposition};
//! use crucial_object::{MethodId, Sequence, SessionId, encode, registry, sync::AtomicI64};
//!
//! let info = registry::find("crucial::AtomicI64").unwrap();
//! let mut cell = Cell::new(info, &encode(&AtomicI64::new(40)).unwrap(), 10).unwrap();
//! let id = CallId { session: SessionId(1), sequence: Sequence(1) };
//! let add_two = (MethodId::of("fetch_add"), encode(&(2i64,)).unwrap());
//! let needed = |_| true;
//!
//! for _ in 0..2 {
//!     // The second time it is a repetition, and gets the first result.
//!     let mut replies = Vec::new();
//!     let done = cell.call(id, Sequence(1), add_two.0, &add_two.1, &needed, &mut replies);
//!     assert_eq!(done, Disposition::Answered);
//!     assert_eq!(replies, [(id, Ok(encode(&40i64).unwrap()))]);
//! }
//! ```

mod cell;
mod endpoint;
pub mod frame;
pub mod local;
pub mod records;
mod spin;

pub use cell::{Cell, Disposition, Replies};
pub use endpoint::Endpoint;
pub use records::CallId;
pub use spin::SpinPolicy;
