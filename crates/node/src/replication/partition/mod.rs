//! A server's part in one partition.
//!
//! [`Partition`] decides, and says in [`Action`]s what has to be done with objects, messages and replies. Views, messages and
//! the time come in. Objects are outside, since their methods run outside of any lock. In the order of a partition's life:
//!
//! - `state`: the types, and what a partition answers about itself.
//! - `assignment`: what a view does to this server's part; `reconcile`: a new primary brings the others to its state.
//! - `change`: what the primary did to objects, and when replies go out; `stream`: entries on their way to one other node;
//!   `lacking`: what that one does not have though it should.
//! - `receive`: messages; `requests`: creations and deletions that were executed.
//! - `plan`: time, and the way to the wanted placement; `join`, `joining`: a node on its way to an assignment.
//! - `check`: what must hold after each step.

mod assignment;
mod change;
mod check;
mod join;
mod joining;
mod lacking;
mod plan;
mod receive;
mod reconcile;
mod requests;
mod state;
mod stream;

pub use join::JoinSlots;
pub use state::{Action, Gate, Partition, Timing};
pub use stream::{BATCH_BYTES_MAX, StreamPlace};
