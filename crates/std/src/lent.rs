//! Ends of channels in the value of a lock.
//!
//! Whoever takes a shared lock gets a copy of the value, and of the ends in it. They are lent: as long as the object's value
//! names them they do not go with the copy. Whoever changes the value has them for good, as the object gets other ones.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the ends in a copy of a value are lent.
#[derive(Clone)]
pub(crate) struct Lent(Arc<AtomicBool>);

thread_local! {
    static DECODED: RefCell<Option<Lent>> = const { RefCell::new(None) };
}

impl Lent {
    /// Decodes a copy of a value that stays at its object.
    pub fn decode<R>(decode: impl FnOnce() -> R) -> (R, Lent) {
        struct Restore(Option<Lent>);
        impl Drop for Restore {
            fn drop(&mut self) {
                DECODED.set(self.0.take());
            }
        }
        let lent = Lent(Arc::new(AtomicBool::new(true)));
        let _restore = Restore(DECODED.replace(Some(lent.clone())));
        (decode(), lent)
    }

    /// The one of the value that is just decoded; `None`: whoever decodes it has it for good.
    pub fn current() -> Option<Lent> {
        DECODED.with_borrow(Clone::clone)
    }

    pub fn is_lent(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub fn set(&self, is_lent: bool) {
        self.0.store(is_lent, Ordering::Relaxed);
    }
}
