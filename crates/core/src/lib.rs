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
//! use crucial_core::{Call, CallId, Cell, Disposition, Recording, Turn};
//! use crucial_object::{MethodId, Sequence, SessionId, encode, registry, sync::AtomicI64};
//!
//! let info = registry::find("crucial::AtomicI64").unwrap();
//! let mut cell = Cell::new(info, &encode(&AtomicI64::new(40)).unwrap()).unwrap();
//! let id = CallId { session: SessionId(1), sequence: Sequence(1) };
//! let add_two = Call {
//!     id,
//!     acked: Sequence(1),
//!     recording: Recording::Changes,
//!     method: MethodId::of("fetch_add"),
//!     args: &encode(&(2i64,)).unwrap(),
//! };
//!
//! for _ in 0..2 {
//!     // The second time it is a repetition, and gets the first result.
//!     let (mut replies, mut out) = (Vec::new(), Vec::new());
//!     let done = cell.call(&add_two, &mut Turn::new(&mut replies, &mut out));
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

pub use cell::{Admission, Call, Cell, CellImage, Change, Disposition, Recording, Replies, Turn};
pub use endpoint::{Endpoint, Endpoints};
pub use records::CallId;
pub use spin::SpinPolicy;
