//! Promises and `OnceLock`s against `std::sync::OnceLock`.

use std::sync::OnceLock as Model;
use std::time::Duration;

use crucial_object::sync::{OnceLock, Promise};
use crucial_object::{Error, Result, SessionId, Shared};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::in_process::InProcess;
use crate::{answer, check, check_processes, client};

#[derive(Clone, Debug)]
enum OnPromise {
    Get,
    Set(u32),
    Withdraw(usize),
}

#[test]
fn a_promise_is_set_once_and_all_get_it() {
    let operation = prop_oneof![
        12 => Just(OnPromise::Get),
        1 => any::<u32>().prop_map(OnPromise::Set),
        2 => (0..4usize).prop_map(OnPromise::Withdraw),
    ];
    check(operation, |operations| {
        let promise = Shared::new(Promise::new())?;
        let model = Model::new();
        let mut waiting = Vec::new();
        for operation in operations {
            match operation {
                OnPromise::Get => waiting.push(promise.deferred().wait()),
                OnPromise::Set(value) => assert_eq!(promise.set(value)?, model.set(value).is_ok()),
                OnPromise::Withdraw(place) if place < waiting.len() => drop(waiting.remove(place)),
                OnPromise::Withdraw(_) => {}
            }
            let value = model.get().copied();
            assert!(waiting.iter_mut().all(|call| answer(call) == value.map(Ok)));
            if value.is_some() {
                waiting.clear();
            }
            assert_eq!(
                (promise.get()?, promise.is_set()?),
                (value, value.is_some())
            );
        }
        Ok(())
    });
}

/// What happens while a client computes the value.
#[derive(Clone, Debug)]
enum Meanwhile {
    /// Another client needs the value, and does not wait for long.
    Need,
    Set(u32),
    /// The one that computes it is taken for dead.
    Die,
    /// As it is, another one computes the value, and has it at once.
    DieAndReplace(u32),
}

#[derive(Clone, Debug)]
enum OnOnce {
    Get,
    Set(u32),
    Compute(Vec<Meanwhile>, Option<u32>),
}

fn on_once() -> impl Strategy<Value = OnOnce> {
    let meanwhile = prop_oneof![
        4 => Just(Meanwhile::Need),
        1 => any::<u32>().prop_map(Meanwhile::Set),
        1 => Just(Meanwhile::Die),
        1 => any::<u32>().prop_map(Meanwhile::DieAndReplace),
    ];
    // Mostly failing, so that there is more than one round.
    let result = prop_oneof![8 => Just(None), 1 => any::<u32>().prop_map(Some)];
    prop_oneof![
        2 => Just(OnOnce::Get),
        1 => any::<u32>().prop_map(OnOnce::Set),
        6 => (vec(meanwhile, 0..3), result).prop_map(|(meanwhile, result)| OnOnce::Compute(meanwhile, result)),
    ]
}

/// Computes a value, with what happens meanwhile.
fn compute(
    process: &InProcess,
    once: &Shared<OnceLock<u32>>,
    model: &Model<u32>,
    (meanwhile, result): (Vec<Meanwhile>, Option<u32>),
) -> Result<()> {
    const ME: u64 = 2;
    let before = model.get().copied();
    let mut ran = false;
    let mut alive = true;
    let outcome = client(process, ME, || {
        // Nobody computes it now, so there is nothing to wait for.
        let hurried = once.with_timeout(Duration::from_millis(1));
        hurried.get_or_try_init(|| {
            ran = true;
            for event in meanwhile {
                match event {
                    Meanwhile::Need if alive && model.get().is_none() => {
                        // The call waits, so it gives up.
                        let hurried = once
                            .with_timeout(Duration::from_millis(1))
                            .get_or_init(|| 0);
                        assert!(matches!(hurried, Err(Error::TimedOut { .. })));
                    }
                    Meanwhile::Need => {}
                    Meanwhile::Set(value) => assert_eq!(once.set(value)?, model.set(value).is_ok()),
                    Meanwhile::Die => {
                        process.as_session(SessionId(ME)).end_session();
                        alive = false;
                    }
                    Meanwhile::DieAndReplace(value) => {
                        process.as_session(SessionId(ME)).end_session();
                        alive = false;
                        let hurried = once.with_timeout(Duration::from_millis(1));
                        let other = client(process, ME + 1, || hurried.get_or_init(|| value))?;
                        assert_eq!(other, *model.get_or_init(|| value));
                    }
                }
            }
            result.ok_or(Error::from("it failed"))
        })
    });
    assert_eq!(ran, before.is_none());
    match (before.or(model.get().copied()), result) {
        // Somebody has set it meanwhile; a failure is a failure all the same.
        (Some(value), Some(_)) => assert_eq!(outcome, Ok(value)),
        (Some(value), None) if !ran => assert_eq!(outcome, Ok(value)),
        (_, None) => assert_eq!(outcome, Err(Error::from("it failed"))),
        (None, Some(_)) if !alive => assert!(matches!(outcome, Err(Error::LockLost { .. }))),
        (None, Some(value)) => assert_eq!(outcome, Ok(*model.get_or_init(|| value))),
    }
    Ok(())
}

#[test]
fn a_once_lock_is_computed_once_by_one_that_lives() {
    check_processes(on_once(), |process, operations| {
        let once = client(&process, 1, || Shared::new(OnceLock::new()))?;
        let model = Model::new();
        for operation in operations {
            match operation {
                OnOnce::Get => {}
                OnOnce::Set(value) => {
                    let set = client(&process, 1, || once.set(value))?;
                    assert_eq!(set, model.set(value).is_ok());
                }
                OnOnce::Compute(meanwhile, result) => {
                    compute(&process, &once, &model, (meanwhile, result))?;
                }
            }
            assert_eq!(client(&process, 1, || once.get())?, model.get().copied());
        }
        Ok(())
    });
}
