//! Objects by name: found, or made.

use std::time::Duration;

use crucial_object::{Error, Result, Shared, SharedType};
use serde::Serialize;

/// The object, which is made with `init` if there is none.
pub(super) fn object<T: SharedType + Serialize>(name: &str, init: T) -> Result<Shared<T>> {
    Shared::builder(name).persistent().create(init)
}

/// The object; made with `init`, if that is given.
pub(super) fn object_or<T: SharedType + Serialize>(
    name: &str,
    init: Option<T>,
    option: &str,
) -> Result<Shared<T>> {
    match init {
        Some(init) => object(name, init),
        None => find(name).map_err(|error| match error {
            Error::NotFound { .. } => Error::Config {
                detail: format!("there is no {name:?} yet: {option} says how to make it"),
            },
            error => error,
        }),
    }
}

pub(super) fn find<T: SharedType>(name: &str) -> Result<Shared<T>> {
    Shared::builder(name).persistent().open()
}

/// With its time-out, if there is one.
pub(super) fn patient<T: SharedType>(object: Shared<T>, timeout: Option<Duration>) -> Shared<T> {
    match timeout {
        Some(timeout) => object.timeout(timeout),
        None => object,
    }
}

/// An option that says how an object is made must be true of the one that is there.
pub(super) fn agree(
    name: &str,
    option: &str,
    asked: Option<u64>,
    made_with: impl FnOnce() -> Result<u64>,
) -> Result<()> {
    let Some(asked) = asked else { return Ok(()) };
    let made = match made_with()? {
        made_with if made_with == asked => return Ok(()),
        u64::MAX => format!("without {option}"),
        made_with => format!("with {option} {made_with}"),
    };
    Err(contradiction(
        name,
        option,
        &format!("was made {made}, not {asked}"),
    ))
}

pub(super) fn contradiction(name: &str, option: &str, truth: &str) -> Error {
    Error::Config {
        detail: format!("{name:?} {truth}: leave {option} out, or `crucial delete` it first"),
    }
}
