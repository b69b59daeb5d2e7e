//! Work that takes long or touches the world, which the shell does elsewhere.

use std::sync::Arc;

use bytes::Bytes;
use crucial_object::Result;
use sha2::{Digest, Sha256};

use crate::catalog::StoreError;
use crate::ids::ModuleId;
use crate::types::Module;

/// Work for the shell.
#[derive(Clone, Debug)]
pub enum Work {
    /// Read a module's bytes from the disk.
    Load(ModuleId),
    /// Write a module's bytes to the disk, if they are those of the module.
    Store(ModuleId, Bytes),
    /// Remove a module's bytes from the disk.
    Remove(ModuleId),
    /// Remove the bytes of all modules but these from the disk.
    Prune(Vec<ModuleId>),
    /// Compile a module.
    Compile(Bytes),
}

/// The result of a work.
pub enum WorkDone {
    /// Of [`Work::Load`]; `None`: the bytes are missing, or not the right ones.
    Loaded(Option<Bytes>),
    /// Of [`Work::Store`].
    Stored(std::result::Result<(), StoreError>),
    /// Of [`Work::Remove`].
    Removed,
    /// Of [`Work::Prune`].
    Pruned,
    /// Of [`Work::Compile`].
    Compiled(Result<Arc<dyn Module>>),
}

/// Where a server keeps the bytes of modules. Errors of removals are logged: they do no harm.
pub trait ModuleStore: Send + Sync {
    /// The bytes of a module, if they are there and right.
    fn load(&self, id: &ModuleId) -> Option<Bytes>;
    /// Keeps the bytes of a module.
    ///
    /// # Errors
    ///
    /// If they are not the module's, or the disk does not take them.
    fn store(&self, id: &ModuleId, bytes: &Bytes) -> std::result::Result<(), StoreError>;
    /// Removes the bytes of a module.
    fn remove(&self, id: &ModuleId);
    /// Removes the bytes of all modules but these.
    fn prune(&self, keep: &[ModuleId]);
}

/// The store of a server without a directory: it keeps nothing, and verifies what it is given.
pub struct NoStore;

impl ModuleStore for NoStore {
    fn load(&self, _: &ModuleId) -> Option<Bytes> {
        None
    }

    fn store(&self, id: &ModuleId, bytes: &Bytes) -> std::result::Result<(), StoreError> {
        match module_id(bytes) == *id {
            true => Ok(()),
            false => Err(StoreError::Damaged),
        }
    }

    fn remove(&self, _: &ModuleId) {}

    fn prune(&self, _: &[ModuleId]) {}
}

/// The id of a module: the SHA-256 of its bytes.
pub fn module_id(bytes: &[u8]) -> ModuleId {
    Sha256::digest(bytes).into()
}
