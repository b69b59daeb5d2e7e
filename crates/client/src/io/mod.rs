//! The I/O around a session. In the order in which a call meets it:
//!
//! - `net`: what all threads share: the session, the links, and which of them a request goes to.
//! - `send`: has requests numbered and writes them.
//! - `link`, `socket`: the way to a server; bytes out and in.
//! - `reader`: one thread at a time reads for all whose answers come from a server (leader), the others wait (followers).
//! - `waiter`: wakes the thread or task that waits for a call.
//! - `routes`: takes newer routes, and other clusters, up.
//! - `handshake`: connects, says hello, reads the welcome.
//! - `dialer`: a thread for each link that is needed and down.
//! - `outage`: tells the user of a server that does not answer.
//! - `heartbeat`, `waker`: the client's own thread. It gives signs of life, and reads where no other thread does.

mod dialer;
mod handshake;
mod heartbeat;
mod link;
mod net;
mod outage;
mod reader;
mod routes;
mod send;
mod socket;
mod waiter;
mod waker;

pub(crate) use handshake::dial_first;
pub(crate) use heartbeat::start as start_heartbeat;
pub(crate) use net::{Net, Pending};
pub(crate) use send::{Sent, encode, no_servers};
