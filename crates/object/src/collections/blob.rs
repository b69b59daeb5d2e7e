//! Bytes.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::page_size;
use crate::{Error, Result, shared};

/// A shared byte array.
///
/// A call carries at most a frame (256 MiB by default): read and write larger ones in parts.
///
/// ```
/// use crucial::Shared;
/// use crucial::collections::Blob;
///
/// let page = Shared::new(Blob::new("hello"))?;
/// assert_eq!(page.append(b" world".to_vec().into())?, 5); // where it begins
/// assert_eq!(page.read_at(6, 100)?.as_slice(), b"world");
/// page.truncate(5)?;
/// assert_eq!(page.get()?.as_slice(), b"hello");
/// # Ok::<(), crucial::Error>(())
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[doc(alias("SharedBytes", "ByteArray"))]
pub struct Blob {
    bytes: ByteBuf,
}

impl Blob {
    /// A blob with these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Blob {
        Blob {
            bytes: ByteBuf::from(bytes.into()),
        }
    }
}

#[shared(name = "crucial::Blob", crate = crate)]
impl Blob {
    /// All bytes.
    pub fn get(&self) -> ByteBuf {
        self.bytes.clone()
    }

    /// Replaces all bytes.
    #[doc(alias = "put")]
    pub fn set(&mut self, bytes: ByteBuf) {
        self.bytes = bytes;
    }

    /// Up to `count` bytes from `offset` on.
    pub fn read_at(&self, offset: u64, count: u64) -> ByteBuf {
        let start = page_size(offset).min(self.bytes.len());
        let end = start.saturating_add(page_size(count)).min(self.bytes.len());
        ByteBuf::from(&self.bytes[start..end])
    }

    /// Overwrites the bytes from `offset` on, and appends those that go beyond the end.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] if the offset is beyond the end.
    #[fallible]
    pub fn write_at(&mut self, offset: u64, bytes: ByteBuf) -> Result<()> {
        let len = self.bytes.len();
        let start = usize::try_from(offset).ok().filter(|start| *start <= len);
        let Some(start) = start else {
            return Err(Error::OutOfBounds {
                index: offset,
                len: len as u64,
            });
        };
        let over = bytes.len().min(len - start);
        self.bytes[start..start + over].copy_from_slice(&bytes[..over]);
        self.bytes.extend_from_slice(&bytes[over..]);
        Ok(())
    }

    /// Appends bytes, and returns where they begin.
    pub fn append(&mut self, bytes: ByteBuf) -> u64 {
        let start = self.bytes.len() as u64;
        self.bytes.extend_from_slice(&bytes);
        start
    }

    /// Keeps the first `len` bytes.
    pub fn truncate(&mut self, len: u64) {
        self.bytes.truncate(page_size(len));
    }

    /// The number of bytes.
    #[doc(alias = "size")]
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}
