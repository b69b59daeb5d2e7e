//! Paths as they travel to a thread: bytes, as a name need not be text.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A path that may be sent to a thread. (Serde's own way to send a [`PathBuf`] refuses names that are not UTF-8.)
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SentPath(pub PathBuf);

impl Serialize for SentPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_os_str().as_bytes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SentPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SentPath, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        Ok(SentPath(OsString::from_vec(bytes).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_text_arrives() {
        let path = SentPath(OsString::from_vec(b"caf\xe9.txt".to_vec()).into());
        let bytes = crucial_object::encode(&path).unwrap();
        assert_eq!(crucial_object::decode::<SentPath>(&bytes).unwrap(), path);
    }
}
