//! Values that lead back to the primitive in which they are.

use std::cell::RefCell;

#[cfg(feature = "shuttle")]
use shuttle::thread_local;

thread_local! {
    /// The primitives whose values this thread encodes, to share them.
    static SHARED: RefCell<Vec<usize>> = RefCell::default();
}

/// Shares a primitive, and encodes its value meanwhile.
///
/// # Panics
///
/// If that shares the same primitive again.
#[track_caller]
pub(crate) fn sharing<T, R>(primitive: &T, share: impl FnOnce() -> R) -> R {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            SHARED.with(|shared| shared.borrow_mut().pop());
        }
    }
    let place = std::ptr::from_ref(primitive).addr();
    let again = SHARED.with(|shared| {
        let mut shared = shared.borrow_mut();
        let again = shared.contains(&place);
        shared.push(place);
        again
    });
    let _leave = Leave;
    if again {
        panic!(
            "a value that leads back to the lock, cell or channel in which it is cannot be sent: send the parts one by \
             one, or let them name each other by numbers"
        );
    }
    share()
}
