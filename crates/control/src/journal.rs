//! The durable state of a voter: a file of records, each with checksums. `docs/disk.md` documents the format.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The first bytes of a journal.
const MAGIC: [u8; 8] = *b"CRUCIALJ";

/// The version of the format that this build writes, and the only one that it reads.
const VERSION: u16 = 3;

/// The length of the file's header: magic and version.
pub(crate) const HEADER_BYTES: usize = 10;

/// The length of a record's header: length, checksum of the length, checksum of the contents.
const RECORD_HEADER_BYTES: usize = 12;

/// Longest record, in bytes: a snapshot of the control group.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The file or its directory cannot be read or written.
    #[error(
        "cannot {what} {path}: {reason}; check that the directory exists, is writable, and is not full",
        reason = crucial_local::system_reason(source)
    )]
    Io {
        /// The operation that failed.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another process uses the directory.
    #[error("{path} is in use by another process: give each server its own data directory")]
    InUse {
        /// The file that the other process has locked.
        path: PathBuf,
    },
    /// The file has another format or another version of the format.
    #[error("{path} does not have the format that this build reads (version {VERSION}): {detail}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// How the file differs.
        detail: String,
    },
    /// The file does not contain what was written.
    #[error(
        "{path} is damaged at byte {offset}: {detail}; a voter that has lost data must not vote: move the directory away \
         and let this server join again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The position of the damaged record's first byte.
        offset: u64,
        /// The kind of damage.
        detail: &'static str,
    },
    /// A record is too long.
    #[error("the record has {bytes} bytes, the limit is {RECORD_BYTES_MAX} (RECORD_BYTES_MAX)")]
    TooLong {
        /// The record's length, in bytes.
        bytes: usize,
    },
}

/// Syncs the journal's file. Tests use slow ones.
#[derive(Clone)]
pub struct FileSync(Arc<SyncFile>);

type SyncFile = dyn Fn(&File) -> io::Result<()> + Send + Sync;

impl FileSync {
    /// A sync that does this. It blocks the journal's own thread only.
    pub fn new(sync: impl Fn(&File) -> io::Result<()> + Send + Sync + 'static) -> FileSync {
        FileSync(Arc::new(sync))
    }
}

impl Default for FileSync {
    /// The operating system's.
    fn default() -> FileSync {
        FileSync::new(File::sync_data)
    }
}

impl fmt::Debug for FileSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileSync")
    }
}

/// A file of records. Records are appended; sometimes the whole file is replaced.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    path: PathBuf,
    file: File,
    /// The length of the file's valid part. Bytes after it were never acknowledged.
    bytes: u64,
    sync: FileSync,
    /// Keeps the directory locked while the journal is open.
    _lock: File,
}

impl Journal {
    /// Opens the journal in a directory and returns its records; creates both if they do not exist. An incomplete last
    /// record was never acknowledged, and is removed.
    ///
    /// # Errors
    ///
    /// [`JournalError`]; the file is not changed then.
    pub fn open(directory: &Path) -> Result<(Journal, Vec<Vec<u8>>), JournalError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| JournalError::Io { what, path, source }
        };
        std::fs::create_dir_all(directory).map_err(failed("create", directory))?;
        let lock = lock(directory)?;
        let path = directory.join("journal");
        if !path.exists() {
            write_whole(directory, &path, &[])?;
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed("open", &path))?;
        let mut contents = Vec::new();
        file.read_to_end(&mut contents)
            .map_err(failed("read", &path))?;
        let (records, bytes) = parse(&contents, &path)?;
        if bytes < contents.len() as u64 {
            tracing::warn!(
                path = %path.display(),
                bytes = contents.len() as u64 - bytes,
                "removing an incomplete record"
            );
            file.set_len(bytes).map_err(failed("truncate", &path))?;
            file.sync_all().map_err(failed("sync", &path))?;
        }
        file.seek(SeekFrom::Start(bytes))
            .map_err(failed("read", &path))?;
        let journal = Journal {
            directory: directory.to_owned(),
            path,
            file,
            bytes,
            sync: FileSync::default(),
            _lock: lock,
        };
        Ok((journal, records))
    }

    /// Appends records. When the function returns, the records are on disk.
    ///
    /// # Errors
    ///
    /// [`JournalError`]; no record was appended then.
    pub fn append<'r>(
        &mut self,
        records: impl IntoIterator<Item = &'r [u8]>,
    ) -> Result<(), JournalError> {
        let mut bytes = Vec::new();
        for record in records {
            frame(record, &mut bytes)?;
        }
        let written = self
            .file
            .write_all(&bytes)
            .and_then(|()| (self.sync.0)(&self.file));
        if let Err(source) = written {
            self.remove_unfinished();
            return Err(JournalError::Io {
                what: "write",
                path: self.path.clone(),
                source,
            });
        }
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Removes an incomplete write. If this fails, the incomplete record is removed or refused when the journal is
    /// opened.
    fn remove_unfinished(&mut self) {
        let cut = self.file.set_len(self.bytes);
        let cut = cut.and_then(|()| self.file.seek(SeekFrom::Start(self.bytes)));
        if let Err(error) = cut {
            tracing::error!(path = %self.path.display(), %error, "cannot remove an incomplete record");
        }
    }

    /// Atomically replaces all records.
    ///
    /// # Errors
    ///
    /// [`JournalError`]; the old records are kept then.
    pub fn replace(&mut self, records: &[&[u8]]) -> Result<(), JournalError> {
        (self.file, self.bytes) = write_whole(&self.directory, &self.path, records)?;
        Ok(())
    }

    /// Syncs the file in this way from now on.
    pub fn set_sync(&mut self, sync: FileSync) {
        self.sync = sync;
    }

    /// Makes all further writes fail.
    #[cfg(test)]
    pub(crate) fn break_file(&mut self) {
        self.file = File::open(&self.path).unwrap();
    }

    /// The journal's length, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Locks the directory against other processes.
pub(crate) fn lock(directory: &Path) -> Result<File, JournalError> {
    let path = directory.join("lock");
    let mut options = OpenOptions::new();
    let file = options
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| JournalError::Io {
            what: "open",
            path: path.clone(),
            source,
        })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(JournalError::InUse { path }),
        Err(std::fs::TryLockError::Error(source)) => Err(JournalError::Io {
            what: "lock",
            path,
            source,
        }),
    }
}

/// Writes a journal under a temporary name, and renames it after its contents are on disk.
fn write_whole(
    directory: &Path,
    path: &Path,
    records: &[&[u8]],
) -> Result<(File, u64), JournalError> {
    let mut bytes = Vec::new();
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    for record in records {
        frame(record, &mut bytes)?;
    }
    let new = directory.join("journal.new");
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        // Syncing the directory makes the new name durable.
        File::open(directory)?.sync_all()?;
        Ok(file)
    };
    let file = write().map_err(|source| JournalError::Io {
        what: "write",
        path: new.clone(),
        source,
    })?;
    Ok((file, bytes.len() as u64))
}

fn frame(record: &[u8], out: &mut Vec<u8>) -> Result<(), JournalError> {
    let length = u32::try_from(record.len())
        .ok()
        .filter(|_| record.len() <= RECORD_BYTES_MAX);
    let Some(length) = length else {
        return Err(JournalError::TooLong {
            bytes: record.len(),
        });
    };
    let length = length.to_le_bytes();
    out.extend(length);
    out.extend(length_checksum(length).to_le_bytes());
    out.extend(crc32fast::hash(record).to_le_bytes());
    out.extend(record);
    Ok(())
}

/// The checksum of a length. It is not zero for a length of zero, so that a run of zeroes is not a valid record.
fn length_checksum(length: [u8; 4]) -> u32 {
    crc32fast::hash(&[&MAGIC[..], &length].concat())
}

/// Returns the records and the position at which the last one ends.
fn parse(contents: &[u8], path: &Path) -> Result<(Vec<Vec<u8>>, u64), JournalError> {
    let foreign = |detail: String| JournalError::Foreign {
        path: path.to_owned(),
        detail,
    };
    let Some((header, _)) = contents.split_at_checked(HEADER_BYTES) else {
        return Err(foreign(format!(
            "the file has only {} bytes",
            contents.len()
        )));
    };
    if header[..8] != MAGIC {
        return Err(foreign("the file does not begin with CRUCIALJ".to_owned()));
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    if version != VERSION {
        return Err(foreign(format!("the file has version {version}")));
    }
    let mut records = Vec::new();
    let mut offset = HEADER_BYTES;
    loop {
        let rest = &contents[offset..];
        let damaged = |detail| JournalError::Damaged {
            path: path.to_owned(),
            offset: offset as u64,
            detail,
        };
        // An interrupted append leaves an incomplete record, or allocated space that is still zero.
        if rest.len() < RECORD_HEADER_BYTES || rest.iter().all(|byte| *byte == 0) {
            break;
        }
        let word = |at: usize| [rest[at], rest[at + 1], rest[at + 2], rest[at + 3]];
        if u32::from_le_bytes(word(4)) != length_checksum(word(0)) {
            return Err(damaged("the checksum of a record's length is wrong"));
        }
        let length = u32::from_le_bytes(word(0)) as usize;
        let Some(record) = rest.get(RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + length) else {
            break;
        };
        if crc32fast::hash(record) != u32::from_le_bytes(word(8)) {
            let is_last = rest.len() == RECORD_HEADER_BYTES + length;
            // The record's length was written, and its end was not.
            if is_last && record.last() == Some(&0) {
                break;
            }
            return Err(damaged("the checksum of a record is wrong"));
        }
        records.push(record.to_vec());
        offset += RECORD_HEADER_BYTES + length;
    }
    Ok((records, offset as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn open(directory: &Path) -> Result<Vec<Vec<u8>>, JournalError> {
        Journal::open(directory).map(|(_, records)| records)
    }

    #[test]
    fn appended_records_are_kept() {
        let directory = directory();
        let (mut journal, none) = Journal::open(directory.path()).unwrap();
        assert_eq!(none, Vec::<Vec<u8>>::new());
        journal.append([&b"one"[..], b"", b"three"]).unwrap();
        journal.append([&b"four"[..]]).unwrap();
        drop(journal);
        let all = open(directory.path()).unwrap();
        assert_eq!(all, [&b"one"[..], b"", b"three", b"four"]);
    }

    #[test]
    fn replaced_records_are_removed() {
        let directory = directory();
        let (mut journal, _) = Journal::open(directory.path()).unwrap();
        journal.append([&[7; 1000][..]]).unwrap();
        journal.replace(&[b"all"]).unwrap();
        journal.append([&b"more"[..]]).unwrap();
        assert!(journal.bytes() < 100);
        drop(journal);
        assert_eq!(open(directory.path()).unwrap(), [&b"all"[..], b"more"]);
    }

    #[test]
    fn one_process_at_a_time() {
        let directory = directory();
        let (_journal, _) = Journal::open(directory.path()).unwrap();
        let second = Journal::open(directory.path());
        assert!(matches!(second, Err(JournalError::InUse { .. })));
    }

    #[test]
    fn the_format() {
        let directory = directory();
        let (mut journal, _) = Journal::open(directory.path()).unwrap();
        journal.append([&b"hi"[..]]).unwrap();
        let bytes = std::fs::read(directory.path().join("journal")).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        // docs/disk.md
        assert_eq!(hex, "4352554349414c4a0300020000003b50a6b0ac2a93d86869");
    }

    #[test]
    fn other_versions_and_other_files_are_refused() {
        let directory = directory();
        let path = directory.path().join("journal");
        std::fs::write(&path, b"CRUCIALJ\x01\x00").unwrap();
        let error = open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("version 1"), "{error}");
        std::fs::write(&path, b"something else").unwrap();
        assert!(matches!(
            open(directory.path()),
            Err(JournalError::Foreign { .. })
        ));
    }

    #[test]
    fn an_unwritable_directory_is_reported() {
        let directory = directory();
        let file = directory.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let error = open(&file.join("inside")).unwrap_err().to_string();
        assert!(error.contains("cannot create"), "{error}");
    }

    proptest! {
        /// A journal that is cut at any position keeps its complete records.
        #[test]
        fn a_cut_leaves_a_prefix(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = [&MAGIC[..], &VERSION.to_le_bytes()].concat();
            let mut ends = vec![bytes.len()];
            for record in &records {
                frame(record, &mut bytes).unwrap();
                ends.push(bytes.len());
            }
            let end = HEADER_BYTES + cut.index(bytes.len() + 1 - HEADER_BYTES);
            let whole = ends.iter().filter(|at| **at <= end).count() - 1;
            let (read, good) = parse(&bytes[..end], Path::new("journal")).unwrap();
            prop_assert_eq!(&read[..], &records[..whole]);
            prop_assert_eq!(good as usize, ends[whole]);
        }

        /// A changed byte is detected in all but the last record.
        #[test]
        fn a_changed_byte_is_detected(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..8),
            position in any::<prop::sample::Index>(),
            change in 1u8..,
        ) {
            let mut bytes = [&MAGIC[..], &VERSION.to_le_bytes()].concat();
            for record in &records {
                frame(record, &mut bytes).unwrap();
            }
            let followed = bytes.len();
            frame(b"the last", &mut bytes).unwrap();
            bytes[position.index(followed)] ^= change;
            prop_assert!(parse(&bytes, Path::new("journal")).is_err());
        }
    }
}
