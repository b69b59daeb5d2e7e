//! What a process needs of its machine: its clock, its limits, its surroundings, and the Unix sockets of the servers
//! there: where they are, and who is at the other end.
//!
//! Two kinds of sockets are for the processes of one user only ([`is_own`]). An embedded server has one, at which it is
//! reached; a server on TCP has one for each loopback address at which it answers, since a Unix socket is faster. They
//! are in a directory that only the user can enter ([`directory`]), and both ends look at the credentials of the other
//! ([`check_peer`]).
//!
//! - [`Clock`]: the machine's clock.
//! - [`directory`]: private directories, and the places where one may be.
//! - [`embedded`]: the socket of an embedded server; [`tcp`]: those of a server on TCP.
//! - [`files`]: how many files a process may have open, and what to say if these are too few.
//! - [`signals`]: those that a process was started to ignore.
//! - [`thread`]: starting one, and saying why not.
//! - [`socket`]: binding, connecting, credentials.
//! - [`surroundings`]: a cloud thread's working directory, environment and umask.

mod clock;
pub mod directory;
pub mod embedded;
pub mod files;
mod names;
pub mod signals;
pub mod socket;
pub mod surroundings;
pub mod tcp;
pub mod thread;

pub use clock::Clock;
pub use crucial_object::{exceeded_limit, system_reason};
pub use embedded::Place;
pub use names::is_own;
pub use socket::{Listener, SocketFile, bind, check_peer, connect, never_a_server};
pub use surroundings::Surroundings;
