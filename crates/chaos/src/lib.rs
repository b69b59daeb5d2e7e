//! Injects faults into a cluster of real servers, and checks what its clients observe.
//!
//! - [`load`]: clients that use the cluster during the faults, and record what they observe.
//!
//! The cluster itself is [`crucial_testing::Cluster`]. Its servers are this executable, which has the role `crucial
//! server` by `#[crucial::main]`.

pub mod load;
