//! A server's identity, stored in its data directory. `docs/disk.md` documents the format.

use std::io::Write;
use std::path::{Path, PathBuf};

use crucial_node::replication::{Incarnation, NodeId};

use crate::journal::{HEADER_BYTES, JournalError, lock};

/// The first bytes of the file.
const MAGIC: [u8; 8] = *b"CRUCIALI";

/// The format's version: the only one that this build writes and reads.
const VERSION: u16 = 1;

/// The length of the file: magic, version, cluster, node, incarnation, checksum.
const BYTES: usize = 8 + 2 + 8 + 8 + 8 + 4;

/// The identity of a server: its cluster, its node id, and its incarnation.
#[derive(Debug)]
pub struct Identity {
    path: PathBuf,
    cluster: u64,
    node: NodeId,
    incarnation: Incarnation,
}

impl Identity {
    /// Reads the identity in a directory, or creates one, and begins a new incarnation.
    ///
    /// A server whose journal is missing gets a new node id: as a voter it has lost its promises.
    ///
    /// # Errors
    ///
    /// [`JournalError`], if the file is damaged or cannot be written.
    pub fn open(directory: &Path) -> Result<Identity, JournalError> {
        std::fs::create_dir_all(directory).map_err(failed("create", directory))?;
        // The lock keeps two processes from using the same incarnation.
        let _lock = lock(directory)?;
        let path = directory.join("identity");
        let (cluster, mut node, incarnation) = match std::fs::read(&path) {
            Ok(bytes) => parse(&bytes, &path)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (0, NodeId(random()), 0),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        if cluster != 0 && !has_records(directory) {
            let old = node;
            node = NodeId(random());
            tracing::warn!(%old, %node, "the journal of this server is missing: the server gets a new node id");
        }
        let mut identity = Identity {
            path,
            cluster,
            node,
            incarnation: Incarnation(incarnation),
        };
        identity.begin_incarnation()?;
        Ok(identity)
    }

    /// The server's cluster; 0 before it has joined one.
    pub fn cluster(&self) -> u64 {
        self.cluster
    }

    /// The server's node id.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The server's incarnation.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Begins the next incarnation. When the function returns, the number is on disk and will not be used again.
    ///
    /// # Errors
    ///
    /// [`JournalError`], if the file cannot be written.
    pub fn begin_incarnation(&mut self) -> Result<Incarnation, JournalError> {
        self.incarnation.0 += 1;
        self.write()?;
        Ok(self.incarnation)
    }

    /// Records that the server belongs to a cluster.
    ///
    /// # Errors
    ///
    /// [`JournalError`], if the file cannot be written.
    pub fn belong_to(&mut self, cluster: u64) -> Result<(), JournalError> {
        self.cluster = cluster;
        self.write()
    }

    fn write(&self) -> Result<(), JournalError> {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        for number in [self.cluster, self.node.0, self.incarnation.0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        let new = self.path.with_extension("new");
        let written = std::fs::File::create(&new).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        written.map_err(failed("write", &new))?;
        std::fs::rename(&new, &self.path).map_err(failed("write", &self.path))?;
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let directory = std::fs::File::open(directory).and_then(|directory| directory.sync_all());
        directory.map_err(failed("sync", &self.path))
    }
}

/// Whether the journal in a directory has any record.
fn has_records(directory: &Path) -> bool {
    let journal = std::fs::metadata(directory.join("journal"));
    journal.is_ok_and(|journal| journal.len() > HEADER_BYTES as u64)
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io { what, path, source }
}

fn parse(bytes: &[u8], path: &Path) -> Result<(u64, NodeId, u64), JournalError> {
    let foreign = |detail: String| JournalError::Foreign {
        path: path.to_owned(),
        detail,
    };
    if !bytes.starts_with(&MAGIC) {
        return Err(foreign("the file does not begin with CRUCIALI".to_owned()));
    }
    let version = bytes
        .get(8..10)
        .map(|two| u16::from_le_bytes([two[0], two[1]]));
    if version != Some(VERSION) {
        return Err(match version {
            Some(version) => foreign(format!("the file has version {version}")),
            None => foreign("the file has no version".to_owned()),
        });
    }
    let damaged = |detail| JournalError::Damaged {
        path: path.to_owned(),
        offset: 0,
        detail,
    };
    if bytes.len() != BYTES {
        return Err(damaged("the file's length is wrong"));
    }
    let (contents, checksum) = bytes.split_at(BYTES - 4);
    if crc32fast::hash(contents).to_le_bytes() != checksum {
        return Err(damaged("the file's checksum is wrong"));
    }
    let number = |at: usize| {
        let mut eight = [0; 8];
        eight.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(eight)
    };
    Ok((number(10), NodeId(number(18)), number(26)))
}

/// A random number that is not 0, for ids that must not collide.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    u64::from_le_bytes(bytes).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_is_a_new_incarnation_of_the_same_server() {
        let directory = tempfile::tempdir().unwrap();
        let mut first = Identity::open(directory.path()).unwrap();
        first.belong_to(7).unwrap();
        write_journal(directory.path());
        let second = Identity::open(directory.path()).unwrap();
        assert_eq!((second.node(), second.cluster()), (first.node(), 7));
        assert!(second.incarnation() > first.incarnation());
    }

    fn write_journal(directory: &Path) {
        let (mut journal, _) = crate::journal::Journal::open(directory).unwrap();
        journal.append([&b"a vote"[..]]).unwrap();
    }

    #[test]
    fn a_server_without_its_journal_gets_a_new_node_id() {
        let directory = tempfile::tempdir().unwrap();
        let mut first = Identity::open(directory.path()).unwrap();
        first.belong_to(7).unwrap();
        write_journal(directory.path());
        std::fs::remove_file(directory.path().join("journal")).unwrap();
        let second = Identity::open(directory.path()).unwrap();
        assert_ne!(second.node(), first.node());
        assert_eq!(second.cluster(), 7);
    }

    #[test]
    fn a_directory_in_use_is_not_changed() {
        let directory = tempfile::tempdir().unwrap();
        drop(Identity::open(directory.path()).unwrap());
        let path = directory.path().join("identity");
        let before = std::fs::read(&path).unwrap();
        let running = crate::journal::Journal::open(directory.path()).unwrap();
        let error = Identity::open(directory.path()).unwrap_err();
        assert!(matches!(error, JournalError::InUse { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        drop(running);
    }

    #[test]
    fn damage_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        drop(Identity::open(directory.path()).unwrap());
        let path = directory.path().join("identity");
        let good = std::fs::read(&path).unwrap();
        for position in 0..good.len() {
            let mut bad = good.clone();
            bad[position] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            let error = Identity::open(directory.path()).unwrap_err().to_string();
            assert!(error.contains("identity"), "{error}");
        }
        std::fs::write(&path, &good[..10]).unwrap();
        assert!(Identity::open(directory.path()).is_err());
    }
}
