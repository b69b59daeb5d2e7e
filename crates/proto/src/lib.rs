//! The wire protocol of Crucial: frames and addresses, to and from bytes.
//!
//! Nothing here has a socket, a clock or a thread; the runtimes of server and client own those.
//!
//! - [`frame`]: the wire protocol's frames, to and from bytes (`docs/protocol.md`).
//! - [`Endpoint`]: where a server is; [`SpinPolicy`]: whether to spin before sleeping.

mod endpoint;
pub mod frame;
mod spin;

pub use endpoint::{Endpoint, Endpoints, UNIX_PATH_BYTES_MAX};
pub use spin::SpinPolicy;
