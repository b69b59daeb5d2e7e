//! Why a module is refused.

/// Why a module is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The bytes do not begin as a WebAssembly module does.
    #[error(
        "invalid module: it is not a WebAssembly module, which begins with the bytes \\0asm; build it with `crucial \
         build`"
    )]
    NotWasm,
    /// The module breaks a rule of WebAssembly, or uses a feature that is not allowed.
    #[error("invalid module: {0}")]
    Invalid(String),
    /// The module imports something that no module gets.
    #[error(
        "invalid module: it imports {module}.{name}, but a module gets nothing but crucial.panic (no clock, no random \
         numbers, no files)"
    )]
    Import {
        /// The module from which it imports.
        module: String,
        /// The name of the import.
        name: String,
    },
    /// The module lacks a required export.
    #[error(
        "invalid module: it does not export {name} with the type that docs/modules.md gives; build it with `crucial \
         build`"
    )]
    Export {
        /// The export that is missing or has another type.
        name: &'static str,
    },
    /// The module was built for another version of the interface.
    #[error(
        "the module was built for version {version} of the module interface, and this server has version {ours}: \
         build it again"
    )]
    Version {
        /// The module's version.
        version: u32,
        /// The server's version.
        ours: u32,
    },
    /// The module failed before it described its types.
    #[error("the module fails when it starts: {0}")]
    Start(String),
    /// The module is larger than modules may be.
    #[error("the module has {bytes} bytes, the limit is {max} (module_bytes_max)")]
    TooLarge {
        /// The module's size, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        max: usize,
    },
}
