//! Shared counterparts of `std::collections`: map and list.
//!
//! Keys and elements can be of any serde type. Servers hold them as bytes, so that these collections
//! work on any server; two keys or elements are equal when their encodings are.

mod list;
mod map;

pub use list::{List, ListDeferred, ListProxy};
pub use map::{Map, MapDeferred, MapProxy};
