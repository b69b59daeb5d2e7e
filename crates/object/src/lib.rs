//! The object model of Crucial, and the library objects written in it.
//!
//! This crate says what a shared object *is*; it neither stores nor sends one. It has no socket,
//! clock, thread or source of randomness, and compiles to WebAssembly. In the order in which a
//! call meets them:
//!
//! - [`Shared`]: the handle, small and serializable. It dereferences to the proxy that
//!   [`#[shared]`](shared) generates.
//! - [`Target`] and [`Pending`]: what a proxy calls; [`caller`]: who carries the call.
//! - [`Object`]: the dispatch that `#[shared]` generates; [`Instance`]: any object, its type erased.
//! - [`registry`]: the types linked into this executable; [`describe`]: their methods as text.
//! - [`sync`], [`collections`], [`Logger`]: the library. [`Journal`]: what an exactly-once thread did.
//!
//! ```
//! use crucial_object::shared;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! pub struct Account {
//!     cents: u64,
//! }
//!
//! #[shared(crate = crucial_object)]
//! impl Account {
//!     pub fn deposit(&mut self, cents: u64) -> u64 {
//!         self.cents += cents;
//!         self.cents
//!     }
//! }
//!
//! // The type is an ordinary one as well, and it is known to servers in this executable.
//! assert_eq!(Account { cents: 1 }.deposit(2), 3);
//! assert!(crucial_object::registry::types().any(|t| t.name.ends_with("::Account")));
//! ```

pub mod caller;
mod codec;
pub mod collections;
mod complete;
#[cfg(not(target_family = "wasm"))]
pub mod describe;
#[doc(hidden)]
pub mod drop_in;
mod error;
mod error_kind;
mod explain;
mod float;
#[cfg(target_family = "wasm")]
mod guest;
pub mod guest_abi;
mod handle;
pub mod held;
mod id;
mod journal;
mod logger;
mod merge;
mod method;
mod object;
mod opaque;
mod panics;
mod proxy;
pub mod registry;
mod signature;
mod sort_key;
pub mod sync;
mod travel;
mod valid;

pub use codec::{Ticket, decode, encode, encode_into};
pub use crucial_macros::shared;
pub use error::{Error, Result};
#[doc(hidden)]
pub use error::{exceeded_limit, system_reason};
pub use error_kind::ErrorKind;
pub use handle::{ObjectBuilder, Shared};
pub use id::{MethodId, ObjectId, RunId, Sequence, SessionId, ThreadId};
pub use journal::{Journal, JournalDeferred, JournalEntry, JournalProxy};
#[cfg(not(target_family = "wasm"))]
pub use logger::Follower;
pub use logger::{LogLine, Logger, LoggerDeferred, LoggerProxy};
pub use merge::{Merge, Mergeable};
pub use method::{Access, Method};
pub use object::{
    EncodingVersion, Instance, Invocation, Object, SharedType, State, TypeInfo, Wake,
};
pub use opaque::{Element, Opaque, OpaqueKey, SortKey};
pub use panics::{Panic, catch, catch_said};
pub use proxy::{Pending, Proxy, Target};
pub use signature::{Argument, Encoding, Signature, Supplied, TypeParameter};

/// The items that the macros' expansions call. Not part of the API.
#[doc(hidden)]
pub mod __private {
    pub use crate::codec::encode;
    pub use crate::object::{finish_poll, full_name, poll_ok, restore, restore_previous};
    pub use crate::opaque::{FromWire, Sealed, SealedKey, ToWire, open};
    pub use crate::register_type;
    pub use crate::travel::{
        Codec, Decodes, DecodesRefused, Encodes, EncodesRefused, Look, LookAtAny, is_whole, travels,
    };
    pub use crate::{
        Access, Argument, Element, Encoding, Error, Invocation, Method, Object, Opaque, OpaqueKey,
        Pending, Proxy, Result, SessionId, SharedType, Signature, SortKey, State, Supplied, Target,
        Ticket, TypeInfo, TypeParameter, Wake,
    };
    pub use inventory;
    pub use std::borrow::Cow;
    pub use std::task::Poll;
}
