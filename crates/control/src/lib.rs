//! The control group of a cluster: a few servers that agree on its views.
//!
//! - [`Group`]: a server's part in the group, with threads of its own; `shared`: its state.
//! - `find`: finds or founds the server's cluster.
//! - `membership`: joins the cluster and sends heartbeats; `leader_client`: sends requests to the leader.
//! - `leader`: carries out what the leader decides (`crucial_node::replication::LeaderTerm`); `voters`: the choice of the voters.
//! - [`rescue`]: goes on without a majority of the voters, when an operator says that it is gone for ever.
//! - [`Identity`]: the server's identity on disk.
//! - [`journal`]: a voter's durable state on disk; `writer`: the thread that writes it.
//! - `durable`: what of it is on disk; `runtime`: the consensus library's tasks and timeouts; `elections`: when a server
//!   may begin an election.
//! - [`store`]: the log, the vote and the view of a voter, for the consensus library.
//! - [`blobs`]: the bytes of uploaded modules on disk; the log contains only their hashes.
//! - `network`, `link`, `message`: the communication between the servers of the group; `check`: what messages must satisfy.

#[cfg(test)]
mod alone;
pub mod blobs;
mod check;
mod config;
mod durable;
mod elections;
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
pub mod rescue;
mod runtime;
mod shared;
pub mod store;
mod types;
mod voter;
mod voters;
mod writer;

pub use blobs::Blobs;
pub use config::{Config, GroupError, GroupStatus, Member, Timing};
pub use group::Group;
pub use identity::Identity;
pub use voter::{Voter, VoterConfig};
