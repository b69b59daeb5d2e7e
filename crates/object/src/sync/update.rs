//! Optimistic updates: try until nobody interfered.

use crate::{Error, Result};

/// How often an update tries before it gives up.
const UPDATE_TRIES_MAX: u32 = 10_000;

/// Tries until there is a result.
pub(crate) fn retry<R>(mut try_once: impl FnMut() -> Result<Option<R>>) -> Result<R> {
    for _ in 0..UPDATE_TRIES_MAX {
        if let Some(result) = try_once()? {
            return Ok(result);
        }
    }
    Err(Error::LimitExceeded {
        limit: "UPDATE_TRIES_MAX".to_owned(),
        max: UPDATE_TRIES_MAX.into(),
        detail: "other threads changed the value at each try; make the operation a method of a \
                 #[shared] type, which runs on the server"
            .to_owned(),
    })
}
