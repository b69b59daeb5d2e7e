//! The server: sockets, threads and clocks around a [`Node`](crucial_node::Node), which does everything else.
//!
//! In the order in which bytes meet them:
//!
//! - `listener`, `socket`: sockets, and what waits to be written to them.
//! - `event_loop`, `io`, `queues`: read frames and execute them, on the thread that read them; `watchdog` gives the loop to
//!   another thread when a method takes long (`tenure`).
//! - `shell`: what all threads share; carries the node's outputs out.
//! - `timers`, `mailbox`: time and views, on a thread of their own; `work`: what takes long.
//! - `dial`: connections to other servers.
//! - `start`: settings, and how a server begins and ends; `lone`: the control group of a server that is alone.
//!
//! The control group and the source of uploaded types are injected ([`Parts`]).
//!
//! ```
//! use crucial_server::{Config, Server};
//!
//! let config = Config {
//!     listen: vec!["127.0.0.1:0".parse()?],
//!     ..Config::default()
//! };
//! let server = Server::start(config)?;
//! println!("ready at {}", server.endpoints()[0]);
//! server.stop();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod dial;
mod event_loop;
mod io;
mod listener;
mod lone;
mod mailbox;
mod queues;
mod server;
mod shell;
mod socket;
mod start;
mod sync;
mod tenure;
mod timers;
mod watchdog;
mod work;

pub use crucial_node::{Limits, REPLICAS_MAX, REPLICAS_OF_PERSISTENT};
pub use lone::Lone;
pub use server::{Server, Status};
pub use start::{Config, Parts, StartError};
