//! The session as a state machine: no socket, thread, clock or lock. Frames and times come in; frames, written into
//! buffers, and decisions go out. In the order in which a call meets them:
//!
//! - `pending`: a call in flight, and what it is for.
//! - `calls`: numbers requests, and keeps them until they are answered.
//! - `holds`: objects whose calls wait to be sent again, because a server did not execute one.
//! - `member`, `routes`: which server answers for what.
//! - `links`: which servers are connected.
//! - `introduction`: what a hello says, and the requests that follow it.
//! - `state`: all of these together: requests, responses.
//! - `connect`: connections begin and end.
//! - `reroute`: newer routes come, or another cluster.
//! - `upkeep`, `schedule`: what happens as time passes.
//!
//! A session is generic over `W`, with which whoever waits for a call is told of its result.

mod calls;
mod connect;
mod holds;
mod introduction;
mod links;
mod member;
mod pending;
mod reroute;
mod routes;
mod schedule;
mod state;
#[cfg(test)]
mod tests;
mod upkeep;

pub use calls::CALLS_IN_FLIGHT_MAX;
pub use introduction::{Identity, Introduction};
pub use member::Member;
pub use pending::{Failed, PendingCall, Target};
pub use reroute::{Fit, Rerouted};
pub use routes::Table;
pub use state::{Request, Session, Withdrawal};
pub use upkeep::TICK_MS;
