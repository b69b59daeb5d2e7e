//! The server without I/O: no socket, thread, clock, file, environment or random number.
//!
//! Events and the time come in ([`Node::handle`], [`Node::handle_timeout`]); frames, jobs and requests to the shell go out
//! ([`Outputs`]). A job is user code for one event of one object ([`Node::execute`]), and what follows from it comes after
//! ([`Node::complete`]). The shell (`crucial-server`) owns sockets, threads and clocks; the simulation (`crucial-sim`) steps the
//! same nodes in one thread. In the order in which a call meets them:
//!
//! - `node`: all parts, and the events from outside; `connection`: who is at the other end.
//! - `requests`: handshakes, and what each request means; `early`: those of clients that know more; `session`: who calls.
//! - `objects`: finds the object, and orders what happens to it.
//! - `admit`: decides under the partition's lock (`partitions`) what an event does; `execute`: user code; `complete`: version,
//!   replicate, reply.
//! - `cell`: one object, as a state machine; `replication`: how servers hold objects together, as state machines.
//! - `actions`: does what a partition decides; `peers`, `peering`: messages to other servers.
//! - `views`: the control group's decisions, leases and time (`membership`, `leases`, `timers`); `ending`: ends of sessions.
//! - `modules`, `types`: uploaded code; `inspect`: what the server says of itself; `rounds`: a task for each of many objects.

mod actions;
mod admit;
pub mod catalog;
pub mod cell;
mod complete;
mod connection;
pub mod control_group;
mod early;
mod ending;
mod execute;
mod hash;
mod ids;
mod inspect;
mod job;
mod leases;
mod limits;
mod membership;
mod module_state;
mod modules;
mod mutant;
mod node;
mod objects;
mod open;
mod outputs;
mod partitions;
mod peer_message;
mod peering;
mod peers;
pub mod replication;
mod requests;
mod results;
mod rounds;
mod session;
pub mod sync;
#[cfg(test)]
mod tests;
mod timers;
mod types;
mod views;
mod work;

pub use connection::{Connection, PeerConnection};
pub use ids::{ConnectionId, DialId, Millis, ModuleId, REPLICAS_MAX};
pub use job::{Done, Job};
pub use limits::Limits;
pub use node::{Config, Input, Node, Status};
pub use open::REPLICAS_OF_PERSISTENT;
pub use outputs::{ControlInfo, ControlQuery, Frames, Greeted, Output, Outputs};
pub use peer_message::PeerMessage;
pub use session::Session;
pub use types::{Module, NoModules, TypeSource};
pub use work::{ModuleStore, NoStore, Work, WorkDone, module_id};
