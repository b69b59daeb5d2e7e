//! Identities: of objects, methods, sessions, calls and runs.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Names one object of the whole system: the first 128 bits of SHA-256 over its namespace, type
/// and key. Calls carry only this; the names travel once, when the object is created.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectId(pub [u8; 16]);

impl ObjectId {
    /// The id of the object `(namespace, type, key)`.
    pub fn of(namespace: &str, type_name: &str, key: &str) -> ObjectId {
        let mut hash = Sha256::new();
        for part in [namespace, type_name, key] {
            // The length keeps ("ab", "c") and ("a", "bc") apart.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        ObjectId(id)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectId({self})")
    }
}

/// Names a method of a type: the 32-bit FNV-1a hash of its name. The macro refuses a type with two
/// methods of the same id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct MethodId(pub u32);

impl MethodId {
    /// The id of the method called `name`.
    pub const fn of(name: &str) -> MethodId {
        let bytes = name.as_bytes();
        let mut hash: u32 = 0x811c_9dc5;
        let mut i = 0;
        while i < bytes.len() {
            hash ^= bytes[i] as u32;
            hash = hash.wrapping_mul(0x0100_0193);
            i += 1;
        }
        MethodId(hash)
    }
}

/// One client process, as servers know it; survives its connections. Chosen at random by the client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct SessionId(pub u64);

impl SessionId {
    /// The bit that the sessions of exactly-once threads have, and others have not.
    const RECORDED: u64 = 1 << 63;

    /// The session of a client that has chosen this number at random.
    pub fn of_client(random: u64) -> SessionId {
        SessionId(random & !SessionId::RECORDED)
    }

    /// Whether it is an exactly-once thread's: it has no lease.
    pub fn is_recorded(self) -> bool {
        self.0 & SessionId::RECORDED != 0
    }

    /// Whether it may be the session of an exactly-once thread of this run. Of other runs one in 65 536 may be as well.
    pub fn may_be_of(self, run: &RunId) -> bool {
        let bytes = self.0.to_le_bytes();
        self.is_recorded() && bytes[..RunId::TAG_BYTES] == *run.tag()
    }
}

/// The number of a call within its session, from 1.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize,
)]
pub struct Sequence(pub u64);

/// One run of an application: the process that started it and its workers. Ephemeral objects
/// belong to a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunId(pub [u8; 16]);

impl RunId {
    /// As many bytes of a run are in the ids of its cloud threads, and so in the sessions of its exactly-once threads: a
    /// server that has only records of such a session can tell whether its run may live.
    const TAG_BYTES: usize = 2;

    fn tag(&self) -> &[u8] {
        &self.0[..RunId::TAG_BYTES]
    }

    /// The namespace of the run's ephemeral objects.
    pub fn namespace(&self) -> String {
        format!("run/{self}")
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ObjectId(self.0).fmt(f)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunId({self})")
    }
}

impl std::str::FromStr for RunId {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || crate::Error::Config {
            detail: format!("{text:?} is not a run id: 32 hexadecimal digits are expected"),
        };
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let value = u128::from_str_radix(text, 16).map_err(|_| bad())?;
        Ok(RunId(value.to_be_bytes()))
    }
}

/// One cloud thread, whatever the number of its attempts. Chosen by who spawns it: the first two bytes are those of its
/// run, the others are random.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ThreadId(pub [u8; 16]);

impl ThreadId {
    /// A thread of a run, by 16 random bytes.
    pub fn new(run: &RunId, random: [u8; 16]) -> ThreadId {
        let mut id = random;
        id[..RunId::TAG_BYTES].copy_from_slice(run.tag());
        ThreadId(id)
    }

    /// The session of an exactly-once thread: the same in each attempt.
    pub fn session(&self) -> SessionId {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        SessionId(u64::from_le_bytes(first) | SessionId::RECORDED)
    }
}

impl fmt::Display for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ObjectId(self.0).fmt(f)
    }
}

impl fmt::Debug for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ThreadId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_ids_depend_on_each_part_and_its_length() {
        let id = ObjectId::of("ns", "type", "key");
        assert_eq!(id, ObjectId::of("ns", "type", "key"));
        assert_ne!(id, ObjectId::of("ns", "typek", "ey"));
        assert_ne!(id, ObjectId::of("nst", "ype", "key"));
        assert_ne!(id, ObjectId::of("ns", "type", "other"));
    }

    #[test]
    fn the_session_of_an_exactly_once_thread_names_its_run() {
        let (run, other) = (RunId([7; 16]), RunId([8; 16]));
        let thread = ThreadId::new(&run, [0xff; 16]);
        assert!(thread.session().may_be_of(&run));
        assert!(!thread.session().may_be_of(&other));
        let random = u64::from_le_bytes([7; 8]);
        assert!(!SessionId::of_client(random).may_be_of(&run));
    }

    #[test]
    fn the_ids_that_clients_in_other_languages_compute() {
        // Golden values: docs/protocol.md gives the algorithms.
        assert_eq!(MethodId::of("fetch_add").0, 0x6030_e38f);
        assert_eq!(
            ObjectId::of("default", "crucial::AtomicI64", "hits").to_string(),
            "b7605f6c27d98fbeb6a49148f130f339"
        );
    }

    #[test]
    fn run_ids_parse_what_they_print() {
        let run = RunId([7; 16]);
        assert_eq!(run.to_string().parse::<RunId>().unwrap(), run);
        assert!("xyz".parse::<RunId>().is_err());
        assert!("+0000000000000000000000000000001".parse::<RunId>().is_err());
    }
}
