//! Checks whether a recorded history of concurrent calls is linearizable.
//!
//! A history is linearizable (Herlihy and Wing 1990) if each operation can be given one instant
//! between its call and its return such that the operations, in the order of these instants, are
//! what one thread alone could have seen. An operation whose answer never came (a lost connection, a
//! crash) may have its instant at any time after its call, or none.
//!
//! In the order in which a test meets them:
//!
//! - [`Recorder`]: many threads make their calls through it; it gives the [`History`].
//! - [`Model`]: what one object does when it is used by one thread. [`models`] has ready ones.
//! - [`check()`] and [`Checker`]: whether the history fits the model.
//! - [`Violation`]: where it does not, in words.
//! - [`barrier`]: barriers are no sequential objects, and have their own check.
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
//!                     // A call over a network; an `Err` would mean "nobody knows".
//!                     Ok::<_, ()>(Output::Value(number.fetch_add(1, Ordering::SeqCst)))
//!                 });
//!             }
//!         });
//!     }
//! });
//! check(&recorder.into_history(), &Register::default()).unwrap();
//! ```
//!
//! # How
//!
//! The checker looks for an order as Wing and Gong do: again and again it takes an operation that no
//! other one, still to be placed, wholly precedes, and asks the model whether its output is possible
//! now. Three things keep this from taking forever:
//!
//! - *Memory* (Lowe): two ways to place the same operations that end in the same state have the same
//!   future, so only the first is followed.
//! - *Parts* (Horn and Kroening): a history is linearizable if and only if the history of each object
//!   is, so each object is checked by itself.
//! - *Unanswered operations last*: the search places them only where it can not go on without, takes
//!   equal ones in the order of their calls, and drops a way that has used up more of them than
//!   another one to the same place.
//!
//! Whether a history is linearizable is an NP-complete question (Gibbons and Korach 1997), so there
//! is a limit to the work, [`STEPS_MAX`]; beyond it the answer is [`Failure::Undecided`].
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
mod history;
mod model;
pub mod models;
mod number_set;
mod recorder;
mod search;
mod violation;

pub use check::{Checker, STEPS_MAX, check};
pub use history::{History, Operation};
pub use model::{Model, matching};
pub use recorder::{Recorder, Running};
pub use violation::{Failure, Violation};
