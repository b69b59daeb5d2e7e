//! Shared collections. Generic ones hold any serde type, on any server.
//!
//! | to keep | use |
//! |---|---|
//! | items by position | [`List`] |
//! | items to be taken in turn | [`Queue`] |
//! | items, each once | [`Set`] |
//! | values by key | [`Map`], in the order of the keys [`OrderedMap`] |
//! | numbers in rows and columns | [`Matrix`] |
//! | bytes | [`Blob`] |

use crate::{Error, Result};

mod blob;
mod list;
mod map;
mod matrix;
mod ordered_map;
mod queue;
mod set;

pub use crate::merge::{Merge, Mergeable};
pub use blob::{Blob, BlobDeferred, BlobProxy};
pub use list::{List, ListDeferred, ListProxy};
pub use map::{Map, MapDeferred, MapProxy};
pub use matrix::{Matrix, MatrixDeferred, MatrixProxy};
pub use ordered_map::{OrderedMap, OrderedMapDeferred, OrderedMapProxy};
#[doc(hidden)]
pub use queue::QUEUE_CLOSED;
pub use queue::{Queue, QueueDeferred, QueueProxy};
pub use serde_bytes::ByteBuf;
pub use set::{Set, SetDeferred, SetProxy};

/// A number of items, on a machine that may count less far.
fn page_size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// `position`, if it is below `len`.
fn index(position: u64, len: usize) -> Result<usize> {
    let within = usize::try_from(position).ok().filter(|index| *index < len);
    within.ok_or(Error::OutOfBounds {
        index: position,
        len: len as u64,
    })
}
