//! A value of 1 KB that is read and replaced as a whole, as in Redis.

use crucial::shared;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// Size of a value, in bytes.
pub const VALUE_BYTES: usize = 1024;

/// The shared object.
#[derive(Serialize, Deserialize)]
pub struct Value {
    bytes: ByteBuf,
}

#[shared]
impl Value {
    /// Returns a value whose bytes are all equal.
    pub fn new(byte: u8) -> Value {
        Value {
            bytes: ByteBuf::from(vec![byte; VALUE_BYTES]),
        }
    }

    /// The bytes.
    pub fn get(&self) -> ByteBuf {
        self.bytes.clone()
    }

    /// Replaces the bytes.
    pub fn put(&mut self, bytes: ByteBuf) {
        self.bytes = bytes;
    }
}
