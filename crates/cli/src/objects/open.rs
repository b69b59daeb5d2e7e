//! Finding or creating objects by name.

use std::time::Duration;

use crucial_object::{Error, Result, Shared, SharedType};
use serde::Serialize;

/// The object; created with `init` if it does not exist.
pub(super) fn object<T: SharedType + Serialize>(name: &str, init: T) -> Result<Shared<T>> {
    Shared::builder(name).persistent().create(init)
}

/// The object; created with `init` if it does not exist and `init` is given.
pub(super) fn object_or<T: SharedType + Serialize>(
    name: &str,
    init: Option<T>,
    option: &str,
) -> Result<Shared<T>> {
    match init {
        Some(init) => object(name, init),
        None => find(name).map_err(|error| match error {
            Error::NotFound { .. } => Error::Config {
                detail: format!("{name:?} does not exist: create it with {option}"),
            },
            error => error,
        }),
    }
}

pub(super) fn find<T: SharedType>(name: &str) -> Result<Shared<T>> {
    Shared::builder(name).persistent().open()
}

/// The object as an `Any`, whose items can be of any type; created with `init` if it does not exist.
pub(super) fn whatever<Any: SharedType, T: SharedType + Serialize>(
    name: &str,
    init: T,
) -> Result<Shared<Any>> {
    match find(name) {
        Err(Error::NotFound { .. }) => {
            object(name, init)?;
            find(name)
        }
        found => found,
    }
}

/// The object with a time-out, if one is given.
pub(super) fn patient<T: SharedType>(object: Shared<T>, timeout: Option<Duration>) -> Shared<T> {
    match timeout {
        Some(timeout) => object.with_timeout(timeout),
        None => object,
    }
}

/// Refuses an option of creation that contradicts an existing object.
pub(super) fn agree(
    name: &str,
    option: &str,
    requested: Option<u64>,
    made_with: impl FnOnce() -> Result<u64>,
) -> Result<()> {
    let Some(requested) = requested else {
        return Ok(());
    };
    let made = match made_with()? {
        made_with if made_with == requested => return Ok(()),
        u64::MAX => format!("without {option}"),
        made_with => format!("with {option} {made_with}"),
    };
    Err(contradiction(
        name,
        option,
        &format!("was created {made}, not {requested}"),
    ))
}

pub(super) fn contradiction(name: &str, option: &str, truth: &str) -> Error {
    Error::Config {
        detail: format!("{name:?} {truth}: leave {option} out, or `crucial delete` it first"),
    }
}
