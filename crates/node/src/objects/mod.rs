//! Objects by their ids, and what happens to each, in order.
//!
//! - `table`: finds an object's entry.
//! - `entry`: the object, unless it is checked out, and the events that queue for it.
//! - `event`: what can happen to an object.
//! - `homes`: which objects belong to a run or a namespace.

mod entry;
mod event;
mod homes;
mod table;

pub(crate) use entry::{ObjectEntry, ObjectState, Offer};
pub(crate) use event::{CallEnd, Event, ObjectRequest, RequestContext, RoundId, SessionEnd, Task};
pub(crate) use homes::Homes;
pub(crate) use table::ObjectTable;
