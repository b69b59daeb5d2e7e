//! Checks whether a recorded history of concurrent calls is linearizable.
//!
//! A history is linearizable (Herlihy and Wing 1990) if each operation can be given one instant
//! between its call and its return such that the operations, in the order of these instants, are a
//! possible execution by a single thread. An operation without an answer (a lost connection, a crash)
//! may take effect at any time after its call, or never.
//!
//! In the order in which a test uses them:
//!
//! - [`Recorder`]: records the calls of many threads as a [`History`].
//! - [`Model`]: describes the sequential behaviour of one object. [`models`] has models of common objects.
//! - [`check()`] and [`Checker`]: decide whether the history fits the model.
//! - [`Violation`]: explains why a history does not fit.
//! - [`barrier`]: the check for barriers, which are not sequential objects.
//! - [`write_history`]: writes a history for other checkers, as `docs/history.md` describes.
//!
//! ```
//! use std::sync::atomic::{AtomicI64, Ordering};
//!
//! use crucial_linear::models::{Register, RegisterInput as Input, RegisterOutput as Output};
//! use crucial_linear::{Recorder, check};
//!
//! let number = AtomicI64::new(0);
//! let recorder = Recorder::new();
//! std::thread::scope(|scope| {
//!     for process in 0..4 {
//!         let (number, recorder) = (&number, &recorder);
//!         scope.spawn(move || {
//!             for _ in 0..10 {
//!                 let _ = recorder.record(process, "number", Input::FetchAdd(1), || {
//!                     // A call over a network; an `Err` would mean that its effect is unknown.
//!                     Ok::<_, ()>(Output::Value(number.fetch_add(1, Ordering::SeqCst)))
//!                 });
//!             }
//!         });
//!     }
//! });
//! check(&recorder.into_history(), &Register::default()).unwrap();
//! ```
//!
//! # Algorithm
//!
//! The checker searches for an order as Wing and Gong do: it repeatedly picks an operation that no other
//! remaining operation precedes, and asks the model whether the operation's output is possible now.
//! Three optimizations make the search fast:
//!
//! - *Memoization* (Lowe): two orders of the same operations that lead to the same state have the same
//!   future, so that only the first one is followed.
//! - *Partitioning* (Horn and Kroening): a history is linearizable if and only if the history of each
//!   object is, so that each object is checked separately.
//! - *Unanswered operations last*: the search places them only where no other operation fits, takes
//!   equal ones in the order of their calls, and drops an order that has used more of them than another
//!   order with the same result.
//!
//! Deciding whether a history is linearizable is NP-complete (Gibbons and Korach 1997). So the work is
//! limited by [`STEPS_MAX`]; beyond the limit the result is [`Failure::Undecided`].
//!
//! # Sources
//!
//! - J. M. Wing and C. Gong: *Testing and verifying concurrent objects.* Journal of Parallel and
//!   Distributed Computing 17, 1993.
//! - G. Lowe: *Testing for linearizability.* Concurrency and Computation: Practice and Experience
//!   29(4), 2017.
//! - A. Horn and D. Kroening: *Faster linearizability checking via P-compositionality.* FORTE 2015.

pub mod barrier;
mod check;
mod export;
mod history;
mod model;
pub mod models;
mod number_set;
mod recorder;
mod search;
mod violation;

pub use check::{Checker, STEPS_MAX, check};
pub use export::{Export, Value, write_history};
pub use history::{History, Operation};
pub use model::{Model, matching};
pub use recorder::{Recorder, Running};
pub use violation::{Failure, Violation};
