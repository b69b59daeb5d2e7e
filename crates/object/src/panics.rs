//! Catching a panic together with its message and place.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

/// The message of a panic, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panic {
    /// The message, or a note that the panic had no text.
    pub message: String,
    /// `file:line:column`.
    pub location: String,
}

thread_local! {
    /// `Some` while this thread is inside [`catch`].
    static CAUGHT: RefCell<Option<Vec<Panic>>> = const { RefCell::new(None) };
}

/// Runs `f`; a panic comes back as an error and is not printed. Panics outside `catch` go to the
/// hook that was installed before the first call.
pub fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Panic> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !record(info) {
                previous(info);
            }
        }));
    });
    let outer = CAUGHT.with(|caught| caught.replace(Some(Vec::new())));
    let result = catch_unwind(AssertUnwindSafe(f));
    let caught = CAUGHT.with(|caught| caught.replace(outer));
    result.map_err(|payload| {
        // The hook does not run for `resume_unwind`; then the payload has the message.
        caught
            .and_then(|mut panics| panics.pop())
            .unwrap_or_else(|| Panic {
                message: message_of(payload.as_ref()),
                location: "an unknown place".to_owned(),
            })
    })
}

fn record(info: &PanicHookInfo<'_>) -> bool {
    CAUGHT
        .try_with(|caught| match caught.borrow_mut().as_mut() {
            Some(panics) => {
                panics.push(Panic {
                    message: message_of(info.payload()),
                    location: info
                        .location()
                        .map_or_else(|| "an unknown place".to_owned(), ToString::to_string),
                });
                true
            }
            None => false,
        })
        .unwrap_or(false)
}

fn message_of(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "(no message)".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_and_place_come_back() {
        let panic = catch(|| panic!("no {}", 7)).unwrap_err();
        assert_eq!(panic.message, "no 7");
        assert!(panic.location.contains("panics.rs:"), "{}", panic.location);
        assert_eq!(catch(|| 3), Ok(3));
    }

    #[test]
    fn catches_nest() {
        let panic = catch(|| {
            assert!(catch(|| panic!("inner")).is_err());
            panic!("outer")
        });
        assert_eq!(panic.unwrap_err().message, "outer");
    }
}
