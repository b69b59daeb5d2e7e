//! Compiled modules on disk, by the hash of what was compiled.
//!
//! A compiled module is machine code, which is run as it is; so it is read only from a directory that belongs to
//! this user and that nobody else can write to. The engine itself refuses what another version of it has
//! compiled, or what was compiled with other settings. The cache is an aid: what goes wrong with it is told in the
//! log, and the module is compiled.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::{Engine, ModuleId, nan};

/// When the files take more than this, in bytes, the oldest go.
pub const MODULE_CACHE_BYTES_MAX: u64 = 1 << 30;

/// Owner only.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Written by the group, or by others.
const WRITABLE: u32 = 0o022;

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
        // The engine does not know of what was done to the module before.
        self.directory.join(format!("{id}.{}.cwasm", nan::VERSION))
    }

    pub fn load(&self, engine: &Engine, id: ModuleId) -> Option<wasmtime::Module> {
        let file = self.file(id);
        let loaded = self.read(&file).and_then(|bytes| {
            let bytes = bytes.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            deserialize(engine, &bytes)
        });
        match loaded {
            Ok(module) => Some(module),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::info!(file = %file.display(), %error, "a cached module is compiled again");
                None
            }
        }
    }

    /// What is in the file, if it is ours.
    fn read(&self, file: &Path) -> io::Result<Option<Vec<u8>>> {
        let user = rustix::process::getuid().as_raw();
        let is_ours =
            |metadata: &fs::Metadata| metadata.uid() == user && metadata.mode() & WRITABLE == 0;
        let directory = fs::symlink_metadata(&self.directory)?;
        let mut file = File::open(file)?;
        if !directory.is_dir() || !is_ours(&directory) || !is_ours(&file.metadata()?) {
            return Err(io::Error::other("others can write there"));
        }
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut file, &mut bytes)?;
        // The digest of the rest, against what a disk or a crash has changed.
        let Some((digest, compiled)) = bytes.split_first_chunk::<32>() else {
            return Ok(None);
        };
        if ModuleId::of(compiled).0 != *digest {
            return Err(io::Error::other("its contents have changed"));
        }
        Ok(Some(compiled.to_vec()))
    }

    pub fn store(&self, id: ModuleId, module: &wasmtime::Module) {
        if let Err(error) = self.write(id, module) {
            let directory = self.directory.display();
            tracing::warn!(%directory, %error, "a compiled module is not kept");
        }
    }

    fn write(&self, id: ModuleId, module: &wasmtime::Module) -> io::Result<()> {
        let bytes = module.serialize().map_err(io::Error::other)?;
        DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(&self.directory)?;
        // Whoever reads it finds the whole file or none.
        let unfinished = self
            .directory
            .join(format!("{id}.{}.unfinished", std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        let mut file = options.mode(FILE_MODE).open(&unfinished)?;
        let written = file
            .write_all(&ModuleId::of(&bytes).0)
            .and_then(|()| file.write_all(&bytes))
            .and_then(|()| fs::rename(&unfinished, self.file(id)));
        if let Err(error) = written {
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        self.shrink()
    }

    /// Removes the oldest files while all take too much.
    fn shrink(&self) -> io::Result<()> {
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

/// Takes machine code as it is.
#[allow(
    unsafe_code,
    reason = "what it takes is trusted, which no type can say"
)]
fn deserialize(engine: &Engine, compiled: &[u8]) -> io::Result<wasmtime::Module> {
    // SAFETY: the bytes are what `serialize` gave: they come from a file that only this user can write, and
    // are whole by their digest.
    unsafe { wasmtime::Module::deserialize(&engine.wasm, compiled) }.map_err(io::Error::other)
}
