//! A value of 1 KB, which is got and put whole, as Redis does it.

use crucial::shared;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// How large a value is.
pub const VALUE_BYTES: usize = 1024;

/// The shared object.
#[derive(Serialize, Deserialize)]
pub struct Value {
    bytes: ByteBuf,
}

#[shared]
impl Value {
    /// A value whose bytes are all the same.
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
