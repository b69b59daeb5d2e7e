//! Sessions and runs: who calls, and until when they are taken to live.
//!
//! - `client`: one session.
//! - `delivery`: where its replies go.
//! - `runs`: application runs, and the attempts of their cloud threads.
//! - `presence`: what this server knows of a session: whether it lives here, is expected, was silent, or has ended.
//! - `registry`: all of them.

mod client;
mod delivery;
mod presence;
mod registry;
mod runs;

pub use client::Session;
pub(crate) use delivery::Withheld;
pub(crate) use presence::WaitingCall;
pub(crate) use registry::Sessions;
pub(crate) use runs::Fenced;
