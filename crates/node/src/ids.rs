//! Names of what only one server knows.

pub use crucial_proto::frame::REPLICAS_MAX;

/// A time, in milliseconds of this server's clock, which never goes back.
pub type Millis = u64;

/// Names a connection of this process: a slot of the shell's table, and how often the slot was used before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId {
    /// The slot. The shell keeps these small, since outputs are grouped by them.
    pub index: u32,
    /// Which use of the slot.
    pub generation: u32,
}

/// The SHA-256 of a module's bytes.
pub type ModuleId = [u8; 32];

/// An attempt to connect to another server. What becomes of an earlier one says nothing of a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialId(pub(crate) u64);
