//! The limits of uploaded modules.

use std::time::Duration;

/// Limits of uploaded modules.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest module, in bytes.
    pub module_bytes_max: usize,
    /// Largest memory of one object's instance, in bytes.
    pub instance_bytes_max: usize,
    /// Most objects that have an instance in memory. Other objects are kept as the bytes of their state; a call of
    /// one of them replaces the least recently called. For a moment there may be twice this number.
    pub instances_max: usize,
    /// Largest memory of all instances together, in bytes. For a moment it may be twice this amount.
    pub instances_bytes_max: usize,
    /// Largest state, result or ticket, in bytes.
    pub reply_bytes_max: usize,
    /// Time limit of one method, checked every 10 ms.
    pub method_time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            module_bytes_max: 64 << 20,
            instance_bytes_max: 256 << 20,
            instances_max: 1000,
            instances_bytes_max: 2 << 30,
            reply_bytes_max: 256 << 20,
            method_time_max: Duration::from_secs(10),
        }
    }
}
