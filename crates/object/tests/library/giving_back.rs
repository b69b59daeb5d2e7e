//! Values that cannot be sent, or waited for, hold nothing up.

use std::time::Duration;

use crucial_object::collections::Queue;
use crucial_object::sync::{Barrier, Condvar, Mutex, OnceLock, RwLock, Semaphore};
use crucial_object::{Error, Result, Shared, caller, catch};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::answer;
use crate::in_process::InProcess;

/// A value that cannot always be encoded.
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

/// The value was written by a client that has another type, and this one cannot read it; it may panic.
#[derive(Clone, Debug, Serialize)]
struct Unreadable;

impl<'de> Deserialize<'de> for Unreadable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            UNLUCKY => panic!("unlucky"),
            _ => Err(serde::de::Error::custom("unreadable")),
        }
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
            .with_timeout(Duration::from_secs(1))
            .get_or_init(|| Picky(2));
        assert_eq!(next, Ok(Picky(2)));
        Ok(())
    });
}

/// Whether locking ends with an error, of this kind or a panic.
fn is_unread<R>(locked: impl FnOnce() -> Result<R>) -> bool {
    !matches!(catch(locked), Ok(Ok(_)))
}

#[test]
fn a_value_that_can_not_be_read_keeps_no_lock() {
    in_process(|| {
        for value in [1, UNLUCKY] {
            let builder = || Shared::builder("mutex").recreate();
            let lock = builder().create(Mutex::new(value))?;
            let unread = Shared::<Mutex<Unreadable>>::open("mutex")?;
            assert!(is_unread(|| unread.lock()));
            assert!(is_unread(|| unread.try_lock()));
            assert!(is_unread(|| unread.lock_timeout(Duration::MAX)));
            let condvar = Shared::new(Condvar::new())?;
            let waiting = condvar.with_timeout(Duration::from_millis(1));
            assert!(waiting.wait(lock.lock()?).is_err());
            assert!(!lock.is_locked()?);
            assert_eq!(*lock.lock()?, value);

            let builder = || Shared::builder("read-write").recreate();
            let lock = builder().create(RwLock::new(value))?;
            let unread = Shared::<RwLock<Unreadable>>::open("read-write")?;
            assert!(is_unread(|| unread.read()));
            assert!(is_unread(|| unread.try_read()));
            assert!(is_unread(|| unread.write()));
            assert!(is_unread(|| unread.try_write()));
            assert_eq!((lock.readers()?, lock.is_writing()?), (0, false));
            assert_eq!(*lock.write()?, value);

            let builder = || Shared::builder("once").recreate();
            let once: Shared<OnceLock<u32>> = builder().create(OnceLock::new())?;
            let unread = Shared::<OnceLock<Unreadable>>::open("once")?;
            once.set(value)?;
            assert!(is_unread(|| unread.get_or_init(|| Unreadable)));
            assert_eq!(once.get_or_init(|| 0), Ok(value));
        }
        let unread = Shared::<Mutex<Unreadable>>::open("mutex")?;
        assert!(unread.delete()?);
        Ok(())
    });
}

/// As long as any clock can count is for ever.
#[test]
fn a_time_out_without_end_never_passes() {
    in_process(|| {
        let for_ever = Duration::MAX;
        let mutex = Shared::new(Mutex::new(0))?;
        let held = mutex.lock_timeout(for_ever)?.expect("it is free");
        let queue: Shared<Queue<u8>> = Shared::new(Queue::new(1))?;
        let mut pop = queue.with_timeout(for_ever).deferred().pop();
        let barrier = Shared::new(Barrier::new(2))?;
        let mut wait = barrier.with_timeout(for_ever).deferred().wait();
        let semaphore = Shared::new(Semaphore::new(0))?;
        let mut acquire = semaphore.with_timeout(for_ever).deferred().acquire();
        // (Here a time-out that can pass passes at once.)
        assert_eq!(answer(&mut pop), None);
        assert_eq!(answer(&mut wait), None);
        assert_eq!(answer(&mut acquire), None);
        assert_eq!(mutex.lock_timeout(Duration::from_secs(1))?.map(drop), None);
        drop(held);
        queue.push(7)?;
        assert_eq!(answer(&mut pop), Some(Ok(Some(7))));
        Ok(())
    });
}

#[test]
fn who_gives_up_waiting_is_not_notified() {
    in_process(|| {
        let (mutex, condvar) = (Shared::new(Mutex::new(0))?, Shared::new(Condvar::new())?);
        let waited = condvar
            .with_timeout(Duration::from_millis(1))
            .wait(mutex.lock()?);
        assert!(matches!(waited, Err(Error::TimedOut { .. })));
        assert_eq!((condvar.waiting()?, condvar.notify_one()?), (0, 0));
        Ok(())
    });
}

/// A value of which there is only one.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Single(String);

impl std::fmt::Display for Single {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<{}>", self.0)
    }
}

#[test]
fn guards_of_values_without_clone_show_them_and_hand_them_out() {
    in_process(|| {
        let single = |text: &str| Single(text.to_owned());
        let lock = Shared::new(Mutex::new(single("a")))?;
        let mut guard = lock.lock()?;
        guard.0.push('b');
        assert_eq!(format!("{guard} {guard:?}"), r#"<ab> Single("ab")"#);
        assert_eq!(guard.into_inner()?, single("ab"));
        assert!(!lock.is_locked()?);
        assert_eq!(lock.lock()?.0, "ab");

        let lock = Shared::new(RwLock::new(single("a")))?;
        let mut guard = lock.write()?;
        guard.0.push('b');
        assert_eq!(format!("{guard} {guard:?}"), r#"<ab> Single("ab")"#);
        assert_eq!(guard.into_inner()?, single("ab"));
        let guard = lock.read()?;
        assert_eq!(format!("{guard} {guard:?}"), r#"<ab> Single("ab")"#);
        assert_eq!(guard.into_inner()?, single("ab"));
        assert!(lock.try_write()?.is_some());

        let once = Shared::new(OnceLock::new())?;
        assert_eq!(once.get_or_init(|| single("a"))?, single("a"));
        assert_eq!(once.get_or_init(|| single("b"))?, single("a"));
        Ok(())
    });
}

#[test]
fn into_inner_of_a_lost_lock_says_so() {
    in_process(|| {
        let lock = Shared::new(Mutex::new(1))?;
        let mut guard = lock.lock()?;
        *guard = 2;
        assert!(lock.delete()?);
        assert!(matches!(guard.into_inner(), Err(Error::Lost { .. })));
        Ok(())
    });
}
