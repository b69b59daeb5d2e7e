//! Type parameters on the server: values that it keeps and compares, and never looks into.
//!
//! A generic shared type, say `Map<K, V>`, exists on a server once, as `Map<Opaque, Opaque>`. Its
//! proxy *seals* each `K` and `V` in the arguments (encodes it into a byte string) and unseals the
//! results. So library collections work on any server, whatever the user's types.

use std::borrow::Cow;

use bytes::Bytes;
use serde::de::{self, DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec::{decode, encode};
use crate::{Error, Result, explain, sort_key};

/// A value of the user's as a server holds it: its encoding, which is compared, and can be a key.
///
/// So two values are equal if and only if their encodings are, whatever their type's `PartialEq` says. For derived
/// types of numbers, text and collections, `HashMap` and `HashSet` among them, that is the same, with these exceptions:
///
/// - floating-point numbers are equal by their bits: `-0.0` is not `0.0`, and a NaN is equal to itself;
/// - a `PartialEq` that is written by hand is not asked: fields that it leaves out count, text that it compares without
///   case differs;
/// - a `Serialize` that writes equal values differently makes them different: a heap, say, in the order of its memory.
///
/// The order of opaque values is that of the bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Opaque(Bytes);

/// A type that can stand for a type parameter of a generic shared type: every serde type, and on the
/// server [`Opaque`].
pub trait Element: Sized {
    /// Seals a borrowed value.
    #[doc(hidden)]
    fn seal(&self) -> Result<Sealed>;
    /// Unseals.
    #[doc(hidden)]
    fn unseal(sealed: Sealed) -> Result<Self>;
    /// The kind of value that it is, as it is encoded; `_` is any.
    #[doc(hidden)]
    fn kind() -> Cow<'static, str>;
}

impl<T: Serialize + DeserializeOwned> Element for T {
    fn seal(&self) -> Result<Sealed> {
        Ok(Sealed(encode(self)?.into()))
    }

    fn unseal(sealed: Sealed) -> Result<Self> {
        decode(&sealed.0)
    }

    fn kind() -> Cow<'static, str> {
        explain::kind::<T>().into()
    }
}

// No overlap with the impl above, because `Opaque` is no serde type.
impl Element for Opaque {
    fn seal(&self) -> Result<Sealed> {
        Ok(Sealed(self.0.clone()))
    }

    fn unseal(sealed: Sealed) -> Result<Self> {
        Ok(Opaque(sealed.0))
    }

    fn kind() -> Cow<'static, str> {
        explain::UNKNOWN.into()
    }
}

/// A sealed value on the wire: a byte string.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed(Bytes);

impl Sealed {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Sealed {
    fn from(bytes: Vec<u8>) -> Sealed {
        Sealed(bytes.into())
    }
}

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByteString;
        impl Visitor<'_> for ByteString {
            type Value = Sealed;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a byte string")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Sealed, E> {
                Ok(Sealed(Bytes::copy_from_slice(bytes)))
            }

            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Sealed, E> {
                Ok(Sealed(bytes.into()))
            }
        }
        deserializer.deserialize_byte_buf(ByteString)
    }
}

/// A sort key of the user's as a server holds it: an encoding whose bytes compare as the values do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OpaqueKey(Bytes);

/// A type that can be the key of an ordered collection: every serde type whose order is that of its parts,
/// one after the other, as `#[derive(Ord)]` makes it (a hand-written `Ord` is not looked at), and on the
/// server [`OpaqueKey`]. Numbers, strings, tuples, options and sequences are; maps, and enums of more than 256
/// variants, are not, nor is what its bytes alone do not tell (an untagged enum, fields that are left out): such a
/// key is refused, with [`Error::Encoding`], by the call that it is given to. Of floating-point numbers `-0.0` is `0.0`, and every NaN is the one that is larger than
/// all numbers; so they come back.
pub trait SortKey: Sized {
    /// Seals a borrowed key.
    #[doc(hidden)]
    fn seal_key(&self) -> Result<SealedKey>;
    /// Unseals.
    #[doc(hidden)]
    fn unseal_key(sealed: SealedKey) -> Result<Self>;
    /// As that of an [`Element`].
    #[doc(hidden)]
    fn key_kind() -> Cow<'static, str>;
}

impl<T: Serialize + DeserializeOwned> SortKey for T {
    fn seal_key(&self) -> Result<SealedKey> {
        Ok(SealedKey(Sealed(sort_key::write(self)?.into())))
    }

    fn unseal_key(sealed: SealedKey) -> Result<Self> {
        sort_key::read(&sealed.0.0)
    }

    fn key_kind() -> Cow<'static, str> {
        explain::kind::<T>().into()
    }
}

impl SortKey for OpaqueKey {
    fn seal_key(&self) -> Result<SealedKey> {
        Ok(SealedKey(Sealed(self.0.clone())))
    }

    fn unseal_key(sealed: SealedKey) -> Result<Self> {
        Ok(OpaqueKey(sealed.0.0))
    }

    fn key_kind() -> Cow<'static, str> {
        explain::UNKNOWN.into()
    }
}

/// A sealed sort key on the wire: a byte string.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SealedKey(Sealed);

/// From the type in a method's signature to the type on the wire, where each type parameter has
/// become [`Sealed`].
#[doc(hidden)]
pub trait ToWire<W> {
    fn to_wire(&self) -> Result<W>;
}

/// And back.
#[doc(hidden)]
pub trait FromWire<W>: Sized {
    fn from_wire(wire: W) -> Result<Self>;
}

/// Decodes a result whose type mentions type parameters.
#[doc(hidden)]
pub fn open<W: DeserializeOwned, R: FromWire<W>>(bytes: &[u8]) -> Result<R> {
    R::from_wire(decode(bytes)?)
}

impl<T: Element> ToWire<Sealed> for T {
    fn to_wire(&self) -> Result<Sealed> {
        self.seal()
    }
}

impl<T: Element> FromWire<Sealed> for T {
    fn from_wire(wire: Sealed) -> Result<T> {
        T::unseal(wire)
    }
}

impl<T: SortKey> ToWire<SealedKey> for T {
    fn to_wire(&self) -> Result<SealedKey> {
        self.seal_key()
    }
}

impl<T: SortKey> FromWire<SealedKey> for T {
    fn from_wire(wire: SealedKey) -> Result<T> {
        T::unseal_key(wire)
    }
}

impl<W, T: ToWire<W>> ToWire<Option<W>> for Option<T> {
    fn to_wire(&self) -> Result<Option<W>> {
        self.as_ref().map(T::to_wire).transpose()
    }
}

impl<W, T: FromWire<W>> FromWire<Option<W>> for Option<T> {
    fn from_wire(wire: Option<W>) -> Result<Self> {
        wire.map(T::from_wire).transpose()
    }
}

impl<W, T: ToWire<W>> ToWire<Vec<W>> for [T] {
    fn to_wire(&self) -> Result<Vec<W>> {
        self.iter().map(T::to_wire).collect()
    }
}

impl<W, T: ToWire<W>> ToWire<Vec<W>> for Vec<T> {
    fn to_wire(&self) -> Result<Vec<W>> {
        self.as_slice().to_wire()
    }
}

impl<W, T: FromWire<W>> FromWire<Vec<W>> for Vec<T> {
    fn from_wire(wire: Vec<W>) -> Result<Self> {
        wire.into_iter().map(T::from_wire).collect()
    }
}

impl<W, X, T: ToWire<W>, E: ToWire<X>> ToWire<Result<W, X>> for Result<T, E> {
    fn to_wire(&self) -> Result<Result<W, X>> {
        Ok(match self {
            Ok(value) => Ok(value.to_wire()?),
            Err(error) => Err(error.to_wire()?),
        })
    }
}

impl<W, X, T: FromWire<W>, E: FromWire<X>> FromWire<Result<W, X>> for Result<T, E> {
    fn from_wire(wire: Result<W, X>) -> Result<Self> {
        Ok(match wire {
            Ok(value) => Ok(T::from_wire(value)?),
            Err(error) => Err(E::from_wire(error)?),
        })
    }
}

macro_rules! tuples {
    ($(($($t:ident $w:ident $i:tt),+))+) => {$(
        impl<$($w, $t: ToWire<$w>),+> ToWire<($($w,)+)> for ($($t,)+) {
            fn to_wire(&self) -> Result<($($w,)+)> {
                Ok(($(self.$i.to_wire()?,)+))
            }
        }

        impl<$($w, $t: FromWire<$w>),+> FromWire<($($w,)+)> for ($($t,)+) {
            fn from_wire(wire: ($($w,)+)) -> Result<Self> {
                Ok(($($t::from_wire(wire.$i)?,)+))
            }
        }
    )+};
}

tuples! {
    (A WA 0)
    (A WA 0, B WB 1)
    (A WA 0, B WB 1, C WC 2)
    (A WA 0, B WB 1, C WC 2, D WD 3)
}

/// Types that are themselves on the wire, beside type parameters in one signature.
macro_rules! plain {
    ($($t:ty)+) => {$(
        impl ToWire<$t> for $t {
            fn to_wire(&self) -> Result<$t> {
                Ok(self.clone())
            }
        }

        impl FromWire<$t> for $t {
            fn from_wire(wire: $t) -> Result<$t> {
                Ok(wire)
            }
        }
    )+};
}

plain! { () bool u8 u16 u32 u64 usize i8 i16 i32 i64 isize f32 f64 String Error }

/// Serde forms for the fields of generic shared types: each element is sealed, so that the state of
/// a `List<i64>` on the client is the state of a `List<Opaque>` on the server.
pub(crate) mod sealed {
    use super::*;

    /// For a sequence: `#[serde(with = "sealed::seq")]`.
    pub mod seq {
        use super::*;

        pub fn serialize<'a, T, C, S>(items: &'a C, serializer: S) -> Result<S::Ok, S::Error>
        where
            T: Element + 'a,
            &'a C: IntoIterator<Item = &'a T>,
            S: Serializer,
        {
            let sealed: Result<Vec<Sealed>> = items.into_iter().map(T::seal).collect();
            sealed
                .map_err(serde::ser::Error::custom)?
                .serialize(serializer)
        }

        pub fn deserialize<'de, T, C, D>(deserializer: D) -> Result<C, D::Error>
        where
            T: Element,
            C: FromIterator<T>,
            D: Deserializer<'de>,
        {
            let sealed = Vec::<Sealed>::deserialize(deserializer)?;
            sealed
                .into_iter()
                .map(|item| T::unseal(item).map_err(de::Error::custom))
                .collect()
        }
    }

    /// For pairs of key and value: `#[serde(with = "sealed::map")]`.
    pub mod map {
        use super::*;

        pub fn serialize<'a, K, V, C, S>(entries: &'a C, serializer: S) -> Result<S::Ok, S::Error>
        where
            K: Element + 'a,
            V: Element + 'a,
            &'a C: IntoIterator<Item = (&'a K, &'a V)>,
            S: Serializer,
        {
            let sealed: Result<Vec<(Sealed, Sealed)>> = entries
                .into_iter()
                .map(|(key, value)| Ok((key.seal()?, value.seal()?)))
                .collect();
            sealed
                .map_err(serde::ser::Error::custom)?
                .serialize(serializer)
        }

        pub fn deserialize<'de, K, V, C, D>(deserializer: D) -> Result<C, D::Error>
        where
            K: Element,
            V: Element,
            C: FromIterator<(K, V)>,
            D: Deserializer<'de>,
        {
            let sealed = Vec::<(Sealed, Sealed)>::deserialize(deserializer)?;
            sealed
                .into_iter()
                .map(|(key, value)| {
                    let pair = K::unseal(key).and_then(|key| Ok((key, V::unseal(value)?)));
                    pair.map_err(de::Error::custom)
                })
                .collect()
        }
    }

    /// For pairs of sort key and value: `#[serde(with = "sealed::sorted_map")]`.
    pub mod sorted_map {
        use super::*;

        pub fn serialize<'a, K, V, C, S>(entries: &'a C, serializer: S) -> Result<S::Ok, S::Error>
        where
            K: SortKey + 'a,
            V: Element + 'a,
            &'a C: IntoIterator<Item = (&'a K, &'a V)>,
            S: Serializer,
        {
            let sealed: Result<Vec<(SealedKey, Sealed)>> = entries
                .into_iter()
                .map(|(key, value)| Ok((key.seal_key()?, value.seal()?)))
                .collect();
            sealed
                .map_err(serde::ser::Error::custom)?
                .serialize(serializer)
        }

        pub fn deserialize<'de, K, V, C, D>(deserializer: D) -> Result<C, D::Error>
        where
            K: SortKey,
            V: Element,
            C: FromIterator<(K, V)>,
            D: Deserializer<'de>,
        {
            let sealed = Vec::<(SealedKey, Sealed)>::deserialize(deserializer)?;
            sealed
                .into_iter()
                .map(|(key, value)| {
                    let pair = K::unseal_key(key).and_then(|key| Ok((key, V::unseal(value)?)));
                    pair.map_err(de::Error::custom)
                })
                .collect()
        }
    }

    /// For one value: `#[serde(with = "sealed::one")]`.
    pub mod one {
        use super::*;

        pub fn serialize<T: Element, S: Serializer>(
            value: &T,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            value
                .seal()
                .map_err(serde::ser::Error::custom)?
                .serialize(serializer)
        }

        pub fn deserialize<'de, T: Element, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<T, D::Error> {
            T::unseal(Sealed::deserialize(deserializer)?).map_err(de::Error::custom)
        }
    }

    /// For a value that may be missing: `#[serde(with = "sealed::optional")]`.
    pub mod optional {
        use super::*;

        pub fn serialize<T: Element, S: Serializer>(
            value: &Option<T>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            let sealed: Result<Option<Sealed>> = value.as_ref().map(T::seal).transpose();
            sealed
                .map_err(serde::ser::Error::custom)?
                .serialize(serializer)
        }

        pub fn deserialize<'de, T: Element, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<T>, D::Error> {
            let sealed = Option::<Sealed>::deserialize(deserializer)?;
            sealed.map(T::unseal).transpose().map_err(de::Error::custom)
        }
    }
}
