//! How the values of a primitive are encoded. A primitive has no bounds on its values until it travels.

use crucial_object::held::{self, Holds};
use crucial_object::{Result, decode, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;

use crate::remote::must;

/// Encodes and decodes a `T`.
pub(crate) struct Codec<T> {
    encode: fn(&T) -> Result<Vec<u8>>,
    decode: fn(&[u8]) -> Result<T>,
}

impl<T> Clone for Codec<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Codec<T> {}

impl<T: Serialize + DeserializeOwned> Codec<T> {
    pub fn new() -> Codec<T> {
        Codec { encode, decode }
    }
}

impl<T> Codec<T> {
    /// Encodes a value for an object. What is in it lives as long as the run, since others may take it out of there.
    ///
    /// # Errors
    ///
    /// If it cannot be encoded.
    pub fn encode(&self, value: &T) -> Result<ByteBuf> {
        let (bytes, holds) = self.encode_with_holds(value);
        holds.pass_on();
        bytes
    }

    /// Encodes the first value of an object, and gives the holds of what is in it, which the object keeps.
    pub fn encode_with_holds(&self, value: &T) -> (Result<ByteBuf>, Holds) {
        let (bytes, holds) = held::collect(|| (self.encode)(value));
        (bytes.map(ByteBuf::from), holds)
    }

    /// Decodes a value of an object.
    ///
    /// # Panics
    ///
    /// If it is not a `T`.
    #[track_caller]
    pub fn decode(&self, bytes: &[u8]) -> T {
        must((self.decode)(bytes))
    }
}
