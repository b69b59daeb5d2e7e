//! What a module may use.

use std::time::Duration;

/// Limits of uploaded modules.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest module, in bytes.
    pub module_bytes_max: usize,
    /// Memory of one object's instance, in bytes.
    pub instance_bytes_max: usize,
    /// Objects that have an instance in memory. Others are kept as the bytes of their state, and take the place of
    /// those that were not called for longest when they are called. For a moment there may be twice as many.
    pub instances_max: usize,
    /// Memory of all instances, in bytes.
    pub instances_bytes_max: usize,
    /// Largest state, result or ticket, in bytes.
    pub reply_bytes_max: usize,
    /// How long one method may take. It is looked at every 10 ms.
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
