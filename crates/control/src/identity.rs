//! Who a server is: kept in its data directory. `docs/disk.md` is the format.

use std::io::Write;
use std::path::{Path, PathBuf};

use crucial_cluster::{Incarnation, NodeId};

use crate::journal::{HEADER_BYTES, JournalError, lock};

/// What the file begins with.
const MAGIC: [u8; 8] = *b"CRUCIALI";

/// The version of the format that this build writes, and the only one that it reads.
const VERSION: u16 = 1;

/// Magic, version, cluster, node, incarnation, checksum.
const BYTES: usize = 8 + 2 + 8 + 8 + 8 + 4;

/// A server, in one of its lives.
#[derive(Debug)]
pub struct Identity {
    path: PathBuf,
    cluster: u64,
    node: NodeId,
    incarnation: Incarnation,
}

impl Identity {
    /// Reads the identity in a directory, or makes one; each time it is a new life.
    ///
    /// A server whose journal is gone is another one from here on: as a voter it has forgotten what it has promised.
    ///
    /// # Errors
    ///
    /// [`JournalError`], if the file is damaged or can not be written.
    pub fn open(directory: &Path) -> Result<Identity, JournalError> {
        std::fs::create_dir_all(directory).map_err(failed("make", directory))?;
        // Whoever runs with it must not find another life in it.
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
            tracing::warn!(%old, %node, "there is no journal of this server: it is another one from now on");
        }
        let mut identity = Identity {
            path,
            cluster,
            node,
            incarnation: Incarnation(incarnation),
        };
        identity.begin_life()?;
        Ok(identity)
    }

    /// The cluster that it belongs to; 0: none yet.
    pub fn cluster(&self) -> u64 {
        self.cluster
    }

    /// Which server.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// In which life.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Begins the next life. When this returns, no later one has its number.
    ///
    /// # Errors
    ///
    /// [`JournalError`], if it can not be written.
    pub fn begin_life(&mut self) -> Result<Incarnation, JournalError> {
        self.incarnation.0 += 1;
        self.write()?;
        Ok(self.incarnation)
    }

    /// It belongs to this cluster from now on.
    ///
    /// # Errors
    ///
    /// [`JournalError`], if it can not be written.
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

/// Whether the journal in a directory has any.
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
        return Err(foreign("it is something else".to_owned()));
    }
    let version = bytes
        .get(8..10)
        .map(|two| u16::from_le_bytes([two[0], two[1]]));
    if version != Some(VERSION) {
        return Err(foreign(format!("its version is {version:?}")));
    }
    let damaged = |detail| JournalError::Damaged {
        path: path.to_owned(),
        offset: 0,
        detail,
    };
    if bytes.len() != BYTES {
        return Err(damaged("it has another length"));
    }
    let (contents, checksum) = bytes.split_at(BYTES - 4);
    if crc32fast::hash(contents).to_le_bytes() != checksum {
        return Err(damaged("its checksum is another one"));
    }
    let number = |at: usize| {
        let mut eight = [0; 8];
        eight.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(eight)
    };
    Ok((number(10), NodeId(number(18)), number(26)))
}

/// A number that nobody else chooses, and not 0.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    u64::from_le_bytes(bytes).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_is_a_new_life_of_the_same_server() {
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
    fn who_has_lost_its_journal_is_another_server() {
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
    fn a_directory_in_use_is_left_alone() {
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
    fn damage_is_told() {
        let directory = tempfile::tempdir().unwrap();
        drop(Identity::open(directory.path()).unwrap());
        let path = directory.path().join("identity");
        let good = std::fs::read(&path).unwrap();
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            let error = Identity::open(directory.path()).unwrap_err().to_string();
            assert!(error.contains("identity"), "{error}");
        }
        std::fs::write(&path, &good[..10]).unwrap();
        assert!(Identity::open(directory.path()).is_err());
    }
}
