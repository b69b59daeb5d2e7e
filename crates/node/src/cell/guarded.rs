//! The instance of an object, whose end is the user's code as well.

use std::ops::{Deref, DerefMut};

use crucial_object::{Instance, caller, catch};

/// An instance. A panic of its `Drop` ends here.
pub(super) struct Guarded {
    /// `None` while it is dropped.
    instance: Option<Box<dyn Instance>>,
}

impl Guarded {
    pub fn new(instance: Box<dyn Instance>) -> Guarded {
        let instance = Some(instance);
        Guarded { instance }
    }
}

impl Deref for Guarded {
    type Target = dyn Instance;

    fn deref(&self) -> &(dyn Instance + 'static) {
        self.instance
            .as_deref()
            .expect("an instance until it is dropped")
    }
}

impl DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut (dyn Instance + 'static) {
        self.instance
            .as_deref_mut()
            .expect("an instance until it is dropped")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let instance = self.instance.take();
        if let Err(panic) = caller::in_method(|| catch(|| drop(instance))) {
            let (message, location) = (panic.message, panic.location);
            tracing::error!(message, location, "the `Drop` of an object panicked");
        }
    }
}
