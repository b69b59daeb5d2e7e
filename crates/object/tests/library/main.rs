//! Each library object against its counterpart in `std`: random operations, through the public proxies, on
//! cells in this process. `PROPTEST_CASES=10000` makes a longer run.

#[path = "../in_process/mod.rs"]
mod in_process;

mod atomics;
mod floats;
mod giving_back;
mod keyed;
mod lock_kinds;
mod locks;
mod matrix;
mod meeting;
mod merges;
mod once;
mod ordered;
mod permits;
mod queue;
mod sequences;

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crucial_object::{Pending, Result, SessionId, caller, catch};
use in_process::InProcess;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// Sequences of operations that are tried for each type. With half of [`OPERATIONS_MAX`] operations each, on
/// average, these are 15 000 operations.
const CASES_MIN: u32 = 300;
const OPERATIONS_MAX: usize = 100;

/// Runs `test` with random sequences of operations, each in a process of its own, and finds the shortest that
/// fails.
fn check<O: Debug>(operation: impl Strategy<Value = O>, test: impl Fn(Vec<O>) -> Result<()>) {
    check_processes(operation, |process, operations| {
        caller::with(Arc::new(process), || test(operations))
    });
}

/// As [`check`], for tests with clients of their own making.
fn check_processes<O: Debug>(
    operation: impl Strategy<Value = O>,
    test: impl Fn(InProcess, Vec<O>) -> Result<()>,
) {
    let mut config = ProptestConfig::default();
    config.cases = config.cases.max(CASES_MIN);
    config.failure_persistence = None;
    let operations = vec(operation, 0..=OPERATIONS_MAX);
    let tried = TestRunner::new(config).run(&operations, |operations| {
        // Caught here, so that a panic is printed once and not for each step of the shrinking.
        match catch(|| test(InProcess::default(), operations)) {
            Ok(result) => result.map_err(|error| TestCaseError::fail(error.to_string())),
            Err(panic) => {
                let failure = format!("{} at {}", panic.message, panic.location);
                Err(TestCaseError::fail(failure))
            }
        }
    });
    if let Err(failure) = tried {
        panic!("{failure}");
    }
}

/// What this client does.
fn client<R>(process: &InProcess, who: u64, f: impl FnOnce() -> R) -> R {
    caller::with(Arc::new(process.as_session(SessionId(who))), f)
}

/// The result of a call, if it has one yet.
fn answer<R>(call: &mut Pending<R>) -> Option<Result<R>> {
    match Pin::new(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}
