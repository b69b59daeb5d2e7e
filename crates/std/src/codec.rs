//! How the values of a primitive are encoded. A primitive has no bounds on its values until it travels.

use crucial_object::held::{self, Holds};
use crucial_object::{decode, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;

use crate::remote::must;

/// Encodes and decodes a `T`.
pub(crate) struct Codec<T> {
    encode: fn(&T) -> crucial_object::Result<Vec<u8>>,
    decode: fn(&[u8]) -> crucial_object::Result<T>,
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
    /// Encodes a value for an object.
    ///
    /// # Panics
    ///
    /// If it cannot be encoded.
    #[track_caller]
    pub fn encode(&self, value: &T) -> ByteBuf {
        must(self.try_encode(value))
    }

    /// Encodes a value for an object, which may live longer than the thread whose arguments are just being encoded.
    pub fn try_encode(&self, value: &T) -> crucial_object::Result<ByteBuf> {
        held::passing_on(|| (self.encode)(value)).map(ByteBuf::from)
    }

    /// Encodes the first value of an object, and gives the holds of what is in it, which the object keeps.
    #[track_caller]
    pub fn encode_with_holds(&self, value: &T) -> (ByteBuf, Holds) {
        let (bytes, holds) = held::collect(|| (self.encode)(value));
        (ByteBuf::from(must(bytes)), holds)
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
