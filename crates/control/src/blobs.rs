//! The bytes of uploaded modules on disk: a directory of files that are named by their contents.
//!
//! The log and the view have the modules' hashes only. A member stores a module before the view gets it, so that a cluster
//! whose servers have all stopped has its modules again when they start.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use crucial_node::catalog::{ModuleId, StoreError};
use sha2::{Digest, Sha256};

/// Why a module was not stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The bytes are not those of the module.
    #[error("the bytes of module {module} have the SHA-256 {actual}")]
    Damaged {
        /// The module.
        module: String,
        /// What the bytes are.
        actual: String,
    },
    /// The disk did not do it.
    #[error("cannot {what} {}: {}", path.display(), crucial_local::system_reason(source))]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

impl From<BlobError> for StoreError {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::Damaged { .. } => StoreError::Damaged,
            error @ BlobError::Io { .. } => StoreError::Disk(error.to_string()),
        }
    }
}

/// The name of a module: the SHA-256 of its bytes.
pub fn module_id(bytes: &[u8]) -> ModuleId {
    Sha256::digest(bytes).into()
}

/// The modules in a server's data directory, of which the server holds the lock.
#[derive(Debug)]
pub struct Blobs {
    directory: PathBuf,
}

impl Blobs {
    /// Opens the modules of a data directory, or makes a place for them.
    ///
    /// # Errors
    ///
    /// [`BlobError::Io`].
    pub fn open(data: &Path) -> Result<Blobs, BlobError> {
        let directory = data.join("modules");
        std::fs::create_dir_all(&directory).map_err(failed("make", &directory))?;
        // The new name has to be on disk before what is in it counts.
        sync(data)?;
        Ok(Blobs { directory })
    }

    /// Stores a module. When this returns the bytes are on disk.
    ///
    /// # Errors
    ///
    /// [`BlobError`]; then the module is not there, or as it was.
    pub fn store(&self, module: &ModuleId, bytes: &[u8]) -> Result<(), BlobError> {
        let actual = module_id(bytes);
        if actual != *module {
            return Err(BlobError::Damaged {
                module: hex(module),
                actual: hex(&actual),
            });
        }
        let path = self.path(module);
        if std::fs::read(&path).is_ok_and(|stored| stored == bytes) {
            // An earlier process may have died before the name was on disk.
            return sync(&self.directory);
        }
        let new = path.with_extension("new");
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&new, &path)
        };
        let written = write().map_err(failed("write", &new));
        if written.is_err() {
            // A full disk has more room for others without it.
            let _ = std::fs::remove_file(&new);
        }
        written?;
        sync(&self.directory)
    }

    /// The bytes of a module; `None` if they are not there. A file with other contents is removed.
    ///
    /// # Errors
    ///
    /// [`BlobError::Io`].
    pub fn load(&self, module: &ModuleId) -> Result<Option<Bytes>, BlobError> {
        let path = self.path(module);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        if module_id(&bytes) != *module {
            tracing::warn!(path = %path.display(), "a module on disk is damaged, and is fetched again");
            self.remove(module)?;
            return Ok(None);
        }
        Ok(Some(bytes.into()))
    }

    /// Removes a module, if it is there.
    ///
    /// # Errors
    ///
    /// [`BlobError::Io`].
    pub fn remove(&self, module: &ModuleId) -> Result<(), BlobError> {
        remove(&self.path(module))
    }

    /// Removes everything but these modules.
    ///
    /// # Errors
    ///
    /// [`BlobError::Io`]; then some are there still.
    pub fn prune(&self, keep: &[ModuleId]) -> Result<(), BlobError> {
        let names: Vec<_> = keep.iter().map(hex).collect();
        let failed = || failed("list", &self.directory);
        for entry in std::fs::read_dir(&self.directory).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if !name.is_some_and(|name| names.iter().any(|kept| kept == name)) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn path(&self, module: &ModuleId) -> PathBuf {
        self.directory.join(hex(module))
    }
}

fn remove(path: &Path) -> Result<(), BlobError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

fn sync(directory: &Path) -> Result<(), BlobError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(failed("sync", directory))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> BlobError + use<> {
    let path = path.to_owned();
    move |source| BlobError::Io { what, path, source }
}

fn hex(module: &ModuleId) -> String {
    module.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (tempfile::TempDir, Blobs) {
        let data = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(data.path()).unwrap();
        (data, blobs)
    }

    fn names(data: &tempfile::TempDir) -> Vec<String> {
        let entries = std::fs::read_dir(data.path().join("modules")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn what_was_stored_is_there_for_the_next_process() {
        let (data, blobs) = open();
        let id = module_id(b"a module");
        assert_eq!(blobs.load(&id).unwrap(), None);
        for _ in 0..2 {
            blobs.store(&id, b"a module").unwrap();
        }
        drop(blobs);
        let blobs = Blobs::open(data.path()).unwrap();
        let bytes = blobs.load(&id).unwrap().unwrap();
        assert_eq!(&bytes[..], b"a module");
        // docs/disk.md
        let name = "f6c0d945dc8a9e01854484f4e9b123945919e553778d4386d1d939451c038a0c";
        assert_eq!(names(&data), [name]);
        blobs.remove(&id).unwrap();
        blobs.remove(&id).unwrap();
        assert_eq!(blobs.load(&id).unwrap(), None);
    }

    #[test]
    fn other_bytes_are_not_stored() {
        let (data, blobs) = open();
        let id = module_id(b"a module");
        let refused = blobs.store(&id, b"another one").unwrap_err();
        assert!(matches!(refused, BlobError::Damaged { .. }));
        assert_eq!(StoreError::from(refused), StoreError::Damaged);
        assert_eq!(names(&data), [] as [String; 0]);
    }

    #[test]
    fn a_damaged_file_is_not_used_and_can_be_stored_again() {
        let (data, blobs) = open();
        let id = module_id(b"a module");
        blobs.store(&id, b"a module").unwrap();
        let path = data.path().join("modules").join(hex(&id));
        for damaged in [&b"a modulf"[..], b"a mod", b""] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(blobs.load(&id).unwrap(), None);
            assert!(!path.exists());
            std::fs::write(&path, damaged).unwrap();
            blobs.store(&id, b"a module").unwrap();
            assert!(blobs.load(&id).unwrap().is_some());
        }
    }

    #[test]
    fn all_but_the_kept_ones_are_pruned() {
        let (data, blobs) = open();
        let ids: Vec<_> = [&b"one"[..], b"two", b"three"]
            .into_iter()
            .map(|bytes| {
                blobs.store(&module_id(bytes), bytes).unwrap();
                module_id(bytes)
            })
            .collect();
        // A process that died while it wrote has left this.
        std::fs::write(data.path().join("modules").join("half.new"), b"ha").unwrap();
        blobs.prune(&ids[1..2]).unwrap();
        assert_eq!(names(&data), [hex(&ids[1])]);
    }

    #[test]
    fn a_directory_that_cannot_be_written_says_so() {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join("modules"), b"a file").unwrap();
        let error = Blobs::open(data.path()).unwrap_err().to_string();
        assert!(error.contains("cannot make"), "{error}");
        assert!(error.contains("modules"), "{error}");
    }
}
