//! How servers hold objects together, and go on when one dies: `docs/replication.md` as state machines.
//!
//! Nothing here has a socket, a clock or a thread: messages, views and the time come in, and what is to be done goes
//! out. In the order in which a decision travels:
//!
//! - [`Control`]: the control group's state machine; it makes [`View`]s.
//! - [`placement`]: which servers are to hold a partition.
//! - [`Lease`], [`Roll`]: until when a node may serve, and from when it is certain that it does not.
//! - [`Partition`]: a server's part in one partition: primary, backup, joining.
//! - [`Replica`]: an object at one of its servers.
//! - [`message`]: what the servers say to each other.
//! - [`catalog`]: a server's part in what modules the cluster has.

pub mod catalog;
mod control;
mod ids;
mod lease;
pub mod message;
mod mutant;
mod partition;
pub mod placement;
mod replica;
mod view;

pub use control::{Command, Control, MODULE_BYTES_MAX, MODULES_BYTES_MAX, Refusal};
pub use ids::{Epoch, Incarnation, NodeId, PARTITIONS, PartitionId, Version, ViewVersion};
pub use lease::{Grant, Lease, Roll};
pub use message::{Entry, Form, Held, Home, Image, ImageBody, Lifecycle, Message, Origin};
#[cfg(feature = "mutants")]
pub use mutant::{Mutant, plant};
pub use partition::{Action, Gate, Partition, Timing};
pub use replica::{Body, Checksum, Replica, change_of};
pub use view::{Configuration, KeptModule, Member, Seat, View};
