//! What can not be sent, or waited for, holds nothing up.

use std::time::Duration;

use crucial_object::sync::{Condvar, Mutex, OnceLock, RwLock};
use crucial_object::{Error, Result, Shared, caller};
use serde::{Deserialize, Serialize, Serializer};

use crate::in_process::InProcess;

/// A value that can not always be encoded.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Picky(u32);

const UNLUCKY: u32 = 13;

impl Serialize for Picky {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if self.0 == UNLUCKY {
            return Err(serde::ser::Error::custom("unlucky"));
        }
        serializer.serialize_newtype_struct("Picky", &self.0)
    }
}

fn in_process(test: impl FnOnce() -> Result<()>) {
    caller::with(std::sync::Arc::new(InProcess::default()), test).unwrap();
}

#[test]
fn a_value_that_can_not_be_sent_keeps_no_lock() {
    in_process(|| {
        let lock = Shared::new(Mutex::new(Picky(1)))?;
        let mut guard = lock.lock()?;
        guard.0 = UNLUCKY;
        assert!(matches!(guard.unlock(), Err(Error::Encoding { .. })));
        assert_eq!(*lock.try_lock()?.expect("it is free"), Picky(1));
        lock.lock()?.0 = UNLUCKY;
        assert!(!lock.is_locked()?);

        let lock = Shared::new(RwLock::new(Picky(1)))?;
        let mut guard = lock.write()?;
        guard.0 = UNLUCKY;
        assert!(matches!(guard.unlock(), Err(Error::Encoding { .. })));
        assert_eq!(*lock.try_write()?.expect("it is free"), Picky(1));
        Ok(())
    });
}

#[test]
fn a_value_that_can_not_be_sent_is_computed_by_the_next() {
    in_process(|| {
        let once = Shared::new(OnceLock::new())?;
        let failed = once.get_or_init(|| Picky(UNLUCKY));
        assert!(matches!(failed, Err(Error::Encoding { .. })));
        let next = once
            .timeout(Duration::from_secs(1))
            .get_or_init(|| Picky(2));
        assert_eq!(next, Ok(Picky(2)));
        Ok(())
    });
}

#[test]
fn who_gives_up_waiting_is_not_notified() {
    in_process(|| {
        let (mutex, condvar) = (Shared::new(Mutex::new(0))?, Shared::new(Condvar::new())?);
        let waited = condvar
            .timeout(Duration::from_millis(1))
            .wait(mutex.lock()?);
        assert!(matches!(waited, Err(Error::TimedOut { .. })));
        assert_eq!((condvar.waiting()?, condvar.notify_one()?), (0, 0));
        Ok(())
    });
}
