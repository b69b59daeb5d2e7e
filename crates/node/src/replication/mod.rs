//! How servers hold objects together, and go on when one dies: `docs/replication.md` as state machines.
//!
//! Messages, views and the time come in, and what has to be done goes out. In the order in which a decision travels:
//!
//! - [`Control`]: the control group's state machine, which makes [`View`]s.
//! - [`placement`]: which servers should hold a partition.
//! - [`Flapping`], [`Damping`]: servers that are taken for dead again and again, and when they get partitions.
//! - [`Lease`], [`FailureDetector`]: until when a node may serve, and from when another one can be certain that it does not.
//! - [`LeaderTerm`]: what the control group's leader decides in its term: whom it grants leases, and whom it expires.
//! - [`Partition`]: a server's part in one partition: primary, backup, joining.
//! - [`Replica`]: an object at one of its servers.
//! - [`message`]: what servers send to each other.

mod control;
mod damping;
mod flapping;
mod ids;
mod leader_term;
mod lease;
pub mod message;
mod mutant;
mod partition;
pub mod placement;
mod replica;
mod view;

pub use control::{Command, Control, MODULE_BYTES_MAX, MODULES_BYTES_MAX, Refusal};
pub use damping::Damping;
pub use flapping::{
    DAMPING_MS_MAX, EXPIRIES_FREE, FLAPPING_MAX, FLAPS_FORGOTTEN_MS, Flapping, Flaps,
};
pub use ids::{
    Epoch, Incarnation, NodeId, PARTITIONS, PartitionId, RoutesVersion, Version, ViewVersion,
};
pub use leader_term::{Decision, Heartbeat, HeartbeatAnswer, Instance, LeaderTerm, LeaderTiming};
pub use lease::{FailureDetector, Grant, Lease};
pub use message::{
    Entry, Form, Holding, Home, Image, ImageBody, Lacks, Lifecycle, Message, Origin,
};
pub use mutant::Mutant;
pub use partition::{Action, BATCH_BYTES_MAX, Gate, JoinSlots, Partition, StreamPlace, Timing};
pub use replica::{Body, Checksum, Replica, change_of};
pub use view::{Assignment, Configuration, KeptModule, Member, View};
