//! One object: a state machine that executes calls, once each.
//!
//! - `state`: the object, the calls that wait in it, and how a call is executed.
//! - `records`: completion records, which make a repeated call harmless.
//! - `guarded`: the user's value, and its end.
//! - `change`: what changes a cell, as a value; `image`: a cell as bytes.

mod change;
mod guarded;
mod image;
mod records;
mod state;

pub use change::{Admission, Change};
pub use image::CellImage;
pub use records::CallId;
pub use state::{Call, Cell, Disposition, Recording, Replies, Turn};
