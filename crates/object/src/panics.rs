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

/// The panics of a thread that is inside [`catch`] or [`catch_said`].
struct Caught {
    panics: Vec<Panic>,
    /// Whether the hook that was there before is called as well.
    is_said: bool,
}

thread_local! {
    static CAUGHT: RefCell<Option<Caught>> = const { RefCell::new(None) };
}

/// Runs `f`; a panic comes back as an error and is not printed. Panics outside `catch` go to the
/// hook that was installed before the first call.
pub fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_as(f, false)
}

/// As [`catch`], and the hook that was installed before is called as well: mostly it prints the panic, with its frames where
/// `RUST_BACKTRACE` asks for them.
pub fn catch_said<R>(f: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_as(f, true)
}

fn catch_as<R>(f: impl FnOnce() -> R, is_said: bool) -> Result<R, Panic> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !record(info) {
                previous(info);
            }
        }));
    });
    let new = Caught {
        panics: Vec::new(),
        is_said,
    };
    let outer = CAUGHT.with(|caught| caught.replace(Some(new)));
    let result = catch_unwind(AssertUnwindSafe(f));
    let caught = CAUGHT.with(|caught| caught.replace(outer));
    result.map_err(|payload| {
        // The hook does not run for `resume_unwind`; then the payload has the message.
        caught
            .and_then(|mut caught| caught.panics.pop())
            .unwrap_or_else(|| Panic {
                message: message_of(payload.as_ref()),
                location: "an unknown place".to_owned(),
            })
    })
}

/// Whether the panic is to stay here.
fn record(info: &PanicHookInfo<'_>) -> bool {
    CAUGHT
        .try_with(|caught| match caught.borrow_mut().as_mut() {
            Some(caught) => {
                caught.panics.push(Panic {
                    message: message_of(info.payload()),
                    location: info
                        .location()
                        .map_or_else(|| "an unknown place".to_owned(), ToString::to_string),
                });
                !caught.is_said
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
    fn a_panic_that_is_said_is_caught_as_well() {
        let panic = catch_said(|| panic!("said {}", 7)).unwrap_err();
        assert_eq!(panic.message, "said 7");
        assert!(panic.location.contains("panics.rs:"), "{}", panic.location);
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
