//! The control group of a cluster: a few servers that agree on its views.
//!
//! - [`Group`]: a server's part in it, with threads of its own.
//! - `find`: which cluster a server is part of.
//! - `life`: what it does to be a member, and to stay one; `ask`: how it finds who leads.
//! - `leader`: what the leader does: leases, who has died; `voters`: who votes.
//! - [`Identity`]: who a server is, on disk.
//! - [`journal`]: what a voter must not forget, on disk.
//! - [`store`]: the log, the vote and the view of a voter, for the consensus library.
//! - [`blobs`]: the bytes of uploaded modules, on disk; the log has their hashes only.
//! - `network`, `link`, `question`: what servers say to each other about it.

mod ask;
pub mod blobs;
mod config;
mod find;
mod group;
mod identity;
pub mod journal;
mod leader;
mod life;
mod link;
mod network;
mod question;
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
