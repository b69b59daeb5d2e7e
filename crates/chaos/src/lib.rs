//! Injects faults into a cluster of real servers, one after the other or overlapping, and checks what its clients observe.
//!
//! - [`faults`]: which fault begins and ends when; each is a line of the fault log.
//! - [`load`]: clients that use the cluster during the faults, and record what they observe; [`large`], [`small`],
//!   [`long`], [`uploaded`]: more of them, each with one kind of object.
//! - [`judge`]: which objects may be lost.
//! - [`memory`]: the bound on the memory of servers.
//!
//! The cluster itself is [`crucial_testing::Cluster`]. Its servers are this executable, which has the role `crucial
//! server` by `#[crucial::main]`.

pub mod faults;
pub mod judge;
pub mod large;
pub mod load;
pub mod long;
pub mod memory;
pub mod small;
pub mod uploaded;
pub mod worker;
