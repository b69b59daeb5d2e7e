//! What takes long or touches the world, so that the shell does it elsewhere.

use std::sync::Arc;

use bytes::Bytes;
use crucial_object::Result;

use crate::ids::ModuleId;
use crate::types::Module;

/// Work for the shell.
#[derive(Clone, Debug)]
pub enum Work {
    /// Compile a module.
    Compile {
        /// Its id.
        id: ModuleId,
        /// WebAssembly.
        bytes: Bytes,
    },
}

/// How it went.
pub enum WorkDone {
    /// Of [`Work::Compile`].
    Compiled {
        /// The module.
        id: ModuleId,
        /// Its code.
        result: Result<Arc<dyn Module>>,
    },
}
