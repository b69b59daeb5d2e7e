//! The switch from a local primitive to a shared object.

use std::sync::atomic::AtomicBool;

use crucial_object::SharedType;

use crate::local::{Arc, OnceLock, RwLock};
use crate::remote::Remote;

/// Excludes local operations and the switch from each other.
pub(crate) struct Switch<O: SharedType> {
    hub: RwLock<()>,
    remote: OnceLock<Arc<Remote<O>>>,
    pub seen: AtomicBool,
}

impl<O: SharedType> Switch<O> {
    pub const fn new() -> Switch<O> {
        Switch {
            hub: RwLock::new(()),
            remote: OnceLock::new(),
            seen: AtomicBool::new(false),
        }
    }

    /// One that is shared already.
    pub fn to(remote: Arc<Remote<O>>) -> Switch<O> {
        Switch {
            remote: OnceLock::from(remote),
            ..Switch::new()
        }
    }

    /// The shared object, if it is one.
    pub fn remote(&self) -> Option<&Arc<Remote<O>>> {
        self.remote.get()
    }

    /// Runs a local operation, unless the primitive is shared.
    pub fn locally<R>(&self, operation: impl FnOnce() -> R) -> Result<R, &Arc<Remote<O>>> {
        let _hub = self.hub.read().unwrap_or_else(|e| e.into_inner());
        match self.remote.get() {
            None => Ok(operation()),
            Some(remote) => Err(remote),
        }
    }

    /// Shares the primitive, if it is not shared yet.
    pub fn share(&self, make: impl FnOnce() -> Arc<Remote<O>>) -> &Arc<Remote<O>> {
        let _hub = self.hub.write().unwrap_or_else(|e| e.into_inner());
        self.remote.get_or_init(make)
    }

    /// Makes the primitive a local one again. The object goes, if no other has it.
    pub fn take(&mut self) -> Option<Arc<Remote<O>>> {
        self.remote.take()
    }
}
