//! A cache of compiled modules on disk, keyed by the hash of their source bytes.
//!
//! A compiled module is machine code that runs unchecked. So it is read only from a directory that belongs to this
//! user and that no other user can write to. The WebAssembly engine itself refuses code that was compiled by another
//! version or with other settings. The cache is optional: its failures are logged, and the module is compiled again.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::module_id::ModuleId;
use crate::nan;

/// Largest total size of the cached files, in bytes. Beyond it the oldest files are removed.
pub const MODULE_CACHE_BYTES_MAX: u64 = 1 << 30;

/// Permissions for the owner only.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Write permissions of the group and of others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

pub(crate) struct Cache {
    directory: PathBuf,
}

impl Cache {
    pub fn new(directory: &Path) -> Cache {
        Cache {
            directory: directory.to_owned(),
        }
    }

    fn file(&self, id: ModuleId) -> PathBuf {
        // The engine's own version check does not cover the rewriting of NaNs, so that its version is in the name.
        self.directory.join(format!("{id}.{}.cwasm", nan::VERSION))
    }

    pub fn load(&self, wasm: &wasmtime::Engine, id: ModuleId) -> Option<wasmtime::Module> {
        let file = self.file(id);
        let loaded = self.read(&file).and_then(|bytes| {
            let bytes = bytes.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            deserialize(wasm, &bytes)
        });
        match loaded {
            Ok(module) => Some(module),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::info!(file = %file.display(), %error, "cannot use a cached module: it is compiled again");
                None
            }
        }
    }

    /// Reads a file after checking that only this user can write to it.
    fn read(&self, file: &Path) -> io::Result<Option<Vec<u8>>> {
        let user = rustix::process::getuid().as_raw();
        let is_trusted = |metadata: &fs::Metadata| {
            metadata.uid() == user && metadata.mode() & WRITABLE_BY_OTHERS == 0
        };
        let directory = fs::symlink_metadata(&self.directory)?;
        let mut file = File::open(file)?;
        if !directory.is_dir() || !is_trusted(&directory) || !is_trusted(&file.metadata()?) {
            return Err(io::Error::other(
                "other users can write to the file or its directory",
            ));
        }
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut file, &mut bytes)?;
        // The file begins with a digest of the rest, which detects damage by a disk or a crash.
        let Some((digest, compiled)) = bytes.split_first_chunk::<32>() else {
            return Ok(None);
        };
        if ModuleId::of(compiled).0 != *digest {
            return Err(io::Error::other("the file is damaged"));
        }
        Ok(Some(compiled.to_vec()))
    }

    pub fn store(&self, id: ModuleId, module: &wasmtime::Module) {
        if let Err(error) = self.write(id, module) {
            let directory = self.directory.display();
            tracing::warn!(%directory, %error, "cannot write a compiled module to the cache");
        }
    }

    fn write(&self, id: ModuleId, module: &wasmtime::Module) -> io::Result<()> {
        let bytes = module.serialize().map_err(io::Error::other)?;
        DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(&self.directory)?;
        // Written under another name and renamed, so that readers never find an incomplete file.
        let temporary = self
            .directory
            .join(format!("{id}.{}.unfinished", std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        let mut file = options.mode(FILE_MODE).open(&temporary)?;
        let written = file
            .write_all(&ModuleId::of(&bytes).0)
            .and_then(|()| file.write_all(&bytes))
            .and_then(|()| fs::rename(&temporary, self.file(id)));
        if let Err(error) = written {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        self.remove_oldest()
    }

    /// Removes the oldest files until the total size is within the limit.
    fn remove_oldest(&self) -> io::Result<()> {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            files.push((metadata.modified()?, metadata.len(), entry.path()));
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, file) in files {
            if total <= MODULE_CACHE_BYTES_MAX {
                break;
            }
            fs::remove_file(file)?;
            total -= bytes;
        }
        Ok(())
    }
}

/// Loads machine code without checking it.
#[allow(
    unsafe_code,
    reason = "the bytes must be trusted, which no type can express"
)]
fn deserialize(wasm: &wasmtime::Engine, compiled: &[u8]) -> io::Result<wasmtime::Module> {
    // SAFETY: the bytes are the output of `serialize`: only this user can write to the file, and its digest proves
    // that it is complete.
    unsafe { wasmtime::Module::deserialize(wasm, compiled) }.map_err(io::Error::other)
}
