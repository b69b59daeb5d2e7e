//! What a module may use.

use std::time::Duration;

/// Limits of uploaded modules.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest module, in bytes.
    pub module_bytes_max: usize,
    /// Memory of one object's instance, in bytes.
    pub instance_bytes_max: usize,
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
            reply_bytes_max: 256 << 20,
            method_time_max: Duration::from_secs(10),
        }
    }
}
