//! Waiting for a condition of another process, which nothing announces to the test.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// How often a condition is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Waits until a condition is true, and checks it every 20 ms.
///
/// # Errors
///
/// [`Error::Late`], with `what`, if the condition does not become true within `patience`.
pub fn wait_until(
    what: &str,
    patience: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let started = Instant::now();
    while !condition()? {
        if started.elapsed() > patience {
            return Err(Error::Late(patience, what.to_owned()));
        }
        std::thread::sleep(CHECK_INTERVAL);
    }
    Ok(())
}
