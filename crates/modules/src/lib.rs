//! Uploaded modules: user types as WebAssembly, in a sandbox.
//!
//! - [`Engine`]: compiles modules, and keeps their time.
//! - [`Module`]: a compiled module, with its types.
//! - [`Module::restore`]: an object of one of its types, an [`Instance`](crucial_object::Instance) as any other.
//!
//! What a module and its host say to each other is [`crucial_object::guest_abi`]. A module has no clock, no
//! random numbers, no files and no sockets; NaNs are canonical. So the same calls give the same bytes
//! everywhere.

mod cache;
mod engine;
mod hot;
mod instance;
mod limits;
mod module;
mod nan;

pub use engine::{Engine, ModuleId};
pub use limits::Limits;
pub use module::Module;

/// Why a module is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// It is no WebAssembly, or uses what is not allowed.
    #[error("not a module that can run here: {0}")]
    Invalid(String),
    /// It asks for something that no module gets.
    #[error(
        "it imports {module}.{name}: a module gets nothing but crucial.panic (no clock, no random numbers, no files)"
    )]
    Import {
        /// From where.
        module: String,
        /// What.
        name: String,
    },
    /// It does not export what a module must.
    #[error(
        "it does not export {name}, or not as docs/modules.md says: build it with `crucial build`"
    )]
    Export {
        /// What is missing, or has another type.
        name: &'static str,
    },
    /// It was built for another version of the interface.
    #[error(
        "it was built for version {version} of the module interface, and this server has version {ours}: build it again"
    )]
    Version {
        /// Its version.
        version: u32,
        /// The server's.
        ours: u32,
    },
    /// It failed before it said which types it has.
    #[error("it fails when it starts: {0}")]
    Start(String),
    /// It is larger than modules may be.
    #[error("{bytes} bytes, where {max} (module_bytes_max) are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
}
