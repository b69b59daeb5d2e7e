//! The control group of a cluster: a few servers that agree on its views.
//!
//! - [`Group`]: a server's part in the group, with threads of its own; `shared`: its state.
//! - `find`: finds or founds the server's cluster.
//! - `membership`: joins the cluster and sends heartbeats; `leader_client`: sends requests to the leader.
//! - `leader`, `term`: the leader's leases and failure detector; `voters`: the choice of the voters.
//! - [`Identity`]: the server's identity on disk.
//! - [`journal`]: a voter's durable state on disk.
//! - [`store`]: the log, the vote and the view of a voter, for the consensus library.
//! - [`blobs`]: the bytes of uploaded modules on disk; the log contains only their hashes.
//! - `network`, `link`, `message`: the communication between the servers of the group.

pub mod blobs;
mod config;
mod find;
mod group;
mod identity;
pub mod journal;
mod leader;
mod leader_client;
mod link;
mod membership;
mod message;
mod network;
mod shared;
pub mod store;
mod term;
mod voter;
mod voters;

pub use blobs::Blobs;
pub use config::{Config, GroupError, GroupStatus, Member, Timing};
pub use group::Group;
pub use identity::Identity;
pub use voter::{Voter, VoterConfig};
