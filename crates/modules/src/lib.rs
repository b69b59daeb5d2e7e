//! Uploaded modules: user types as WebAssembly, in a sandbox.
//!
//! - [`Engine`]: compiles modules, and holds the limits and the cache that they share.
//! - [`Module`]: a compiled module with its types.
//! - [`Module::restore`]: makes an object of one of these types, an [`Instance`](crucial_object::Instance) like any
//!   other.
//!
//! The interface between a module and its host is [`crucial_object::guest_abi`]. A module has no clock, no random
//! numbers, no files and no sockets, and its NaNs are canonical. So the same calls give the same bytes on all machines.

mod cache;
mod engine;
mod error;
mod guest;
mod hot;
mod limits;
mod module;
mod module_id;
mod nan;
mod object;
mod source;

pub use engine::Engine;
pub use error::Refused;
pub use limits::Limits;
pub use module::Module;
pub use module_id::ModuleId;
pub use source::Source;
