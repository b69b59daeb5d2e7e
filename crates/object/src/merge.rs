//! Merges: operations on values that a server holds without knowing their type.
//!
//! The values of a [`Map`](crate::collections::Map) are opaque bytes to its server. To merge into one, a call
//! says what kind of value it is. Which Rust types are of which kind is known where the call is made.

use std::cmp::Ordering;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec::{decode, encode};
use crate::{Element, Error, Result};

/// How a value is merged into the one that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Merge {
    /// Numbers: their sum. It is an error if it does not fit into the type.
    Sum,
    /// Numbers: the larger one.
    Max,
    /// Numbers: the smaller one.
    Min,
    /// Strings and vectors: the old one, then the new one.
    Append,
}

/// What a value is, as far as a merge must know.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F32,
    F64,
    /// A length, then the items.
    Sequence,
}

/// Types that can be merged: integers and floating-point numbers (sum, max, min), `String` and `Vec<T>`
/// (append).
#[diagnostic::on_unimplemented(
    message = "`{Self}` can not be merged",
    note = "numbers, `String` and `Vec<T>` can; for other merges write a #[shared] type with a method"
)]
pub trait Mergeable: Serialize + DeserializeOwned {
    /// What the server must know.
    #[doc(hidden)]
    const KIND: Kind;
}

macro_rules! mergeable {
    ($($type:ty: $kind:ident)+) => {$(
        impl Mergeable for $type {
            const KIND: Kind = Kind::$kind;
        }
    )+};
}

mergeable! {
    i8: I8 i16: I16 i32: I32 i64: I64 isize: I64
    u8: U8 u16: U16 u32: U32 u64: U64 usize: U64
    f32: F32 f64: F64 String: Sequence
}

impl<T: Serialize + DeserializeOwned> Mergeable for Vec<T> {
    const KIND: Kind = Kind::Sequence;
}

/// A merge as it travels.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeBy {
    pub how: Merge,
    pub kind: Kind,
}

impl MergeBy {
    /// The merge of values of the type `V`, if it has this one. (Otherwise the first value of a key would be
    /// taken, and only the second one refused.)
    pub(crate) fn of<V: Mergeable>(how: Merge) -> Result<MergeBy> {
        let by = MergeBy { how, kind: V::KIND };
        if (how == Merge::Append) == (by.kind == Kind::Sequence) {
            Ok(by)
        } else {
            Err(by.mismatch())
        }
    }

    /// `old` and `new`, merged.
    pub(crate) fn merge<V: Element>(self, old: &V, new: &V) -> Result<V> {
        let (old, new) = (old.seal()?, new.seal()?);
        let merged = match self.kind {
            Kind::I8 => self.integers::<i8>(old.bytes(), new.bytes()),
            Kind::I16 => self.integers::<i16>(old.bytes(), new.bytes()),
            Kind::I32 => self.integers::<i32>(old.bytes(), new.bytes()),
            Kind::I64 => self.integers::<i64>(old.bytes(), new.bytes()),
            Kind::U8 => self.integers::<u8>(old.bytes(), new.bytes()),
            Kind::U16 => self.integers::<u16>(old.bytes(), new.bytes()),
            Kind::U32 => self.integers::<u32>(old.bytes(), new.bytes()),
            Kind::U64 => self.integers::<u64>(old.bytes(), new.bytes()),
            Kind::F32 => self.floats::<f32>(old.bytes(), new.bytes()),
            Kind::F64 => self.floats::<f64>(old.bytes(), new.bytes()),
            Kind::Sequence => self.sequences(old.bytes(), new.bytes()),
        }?;
        V::unseal(merged.into())
    }

    fn integers<N: Integer>(self, old: &[u8], new: &[u8]) -> Result<Vec<u8>> {
        let (old, new) = (number::<N>(old)?, number::<N>(new)?);
        let merged = match self.how {
            Merge::Sum => N::add(old, new).ok_or_else(|| {
                refused("the sum does not fit into the type of the values".to_owned())
            })?,
            Merge::Max => old.max(new),
            Merge::Min => old.min(new),
            Merge::Append => return Err(self.mismatch()),
        };
        encode(&merged)
    }

    fn floats<N: Float>(self, old: &[u8], new: &[u8]) -> Result<Vec<u8>> {
        let (old, new) = (number::<N>(old)?, number::<N>(new)?);
        let merged = match self.how {
            Merge::Sum => old + new,
            Merge::Max => N::max(old, new),
            Merge::Min => N::min(old, new),
            Merge::Append => return Err(self.mismatch()),
        };
        encode(&merged)
    }

    /// A sequence is its length and its items, so nothing is known of the items.
    fn sequences(self, old: &[u8], new: &[u8]) -> Result<Vec<u8>> {
        if self.how != Merge::Append {
            return Err(self.mismatch());
        }
        let ((old_len, old_items), (new_len, new_items)) = (length(old)?, length(new)?);
        let mut merged = encode(&(old_len + new_len))?;
        merged.extend_from_slice(old_items);
        merged.extend_from_slice(new_items);
        Ok(merged)
    }

    fn mismatch(self) -> Error {
        refused(format!(
            "{:?} of {:?}: numbers have Sum, Max and Min; strings and vectors have Append",
            self.how, self.kind
        ))
    }
}

/// Which of two values of this kind is larger: numbers by their value (`total_cmp`), others by their
/// encoding.
pub(crate) fn compare<V: Element>(kind: Kind, one: &V, other: &V) -> Result<Ordering> {
    let (one, other) = (one.seal()?, other.seal()?);
    let (one, other) = (one.bytes(), other.bytes());
    Ok(match kind {
        Kind::I8 => number::<i8>(one)?.cmp(&number(other)?),
        Kind::I16 => number::<i16>(one)?.cmp(&number(other)?),
        Kind::I32 => number::<i32>(one)?.cmp(&number(other)?),
        Kind::I64 => number::<i64>(one)?.cmp(&number(other)?),
        Kind::U8 => number::<u8>(one)?.cmp(&number(other)?),
        Kind::U16 => number::<u16>(one)?.cmp(&number(other)?),
        Kind::U32 => number::<u32>(one)?.cmp(&number(other)?),
        Kind::U64 => number::<u64>(one)?.cmp(&number(other)?),
        Kind::F32 => number::<f32>(one)?.total_cmp(&number(other)?),
        Kind::F64 => number::<f64>(one)?.total_cmp(&number(other)?),
        Kind::Sequence => one.cmp(other),
    })
}

fn number<N: DeserializeOwned>(bytes: &[u8]) -> Result<N> {
    decode(bytes).map_err(|_| {
        refused("the values are not of this type: do all clients use the same one?".to_owned())
    })
}

fn length(bytes: &[u8]) -> Result<(u64, &[u8])> {
    postcard::take_from_bytes(bytes).map_err(|_| refused("not a string or vector".to_owned()))
}

fn refused(detail: String) -> Error {
    Error::BadArguments {
        what: "a merge".to_owned(),
        detail,
    }
}

trait Integer: Serialize + DeserializeOwned + Ord + Copy {
    fn add(self, other: Self) -> Option<Self>;
}

trait Float: Serialize + DeserializeOwned + Copy + std::ops::Add<Output = Self> {
    fn max(self, other: Self) -> Self;
    fn min(self, other: Self) -> Self;
}

macro_rules! numbers {
    ($($integer:ty)+; $($float:ty)+) => {
        $(impl Integer for $integer {
            fn add(self, other: Self) -> Option<Self> {
                self.checked_add(other)
            }
        })+
        $(impl Float for $float {
            fn max(self, other: Self) -> Self {
                self.max(other)
            }

            fn min(self, other: Self) -> Self {
                self.min(other)
            }
        })+
    };
}

numbers! { i8 i16 i32 i64 u8 u16 u32 u64; f32 f64 }

/// The `count` largest of `entries` by their values, largest first; of equal ones, the first.
pub(crate) fn top<'a, K: Clone + 'a, V: Element + Clone + 'a>(
    entries: impl Iterator<Item = (&'a K, &'a V)>,
    count: u64,
    kind: Kind,
) -> Result<Vec<(K, V)>> {
    let mut failure = None;
    let mut all: Vec<(&K, &V)> = entries.collect();
    // Stable, so that of equal values the first comes first.
    all.sort_by(|(_, one), (_, other)| {
        compare(kind, *other, *one).unwrap_or_else(|error| {
            failure = Some(error);
            Ordering::Equal
        })
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(all
            .into_iter()
            .take(usize::try_from(count).unwrap_or(usize::MAX))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge<V: Mergeable + Clone>(how: Merge, old: V, new: V) -> Result<V> {
        MergeBy::of::<V>(how)?.merge(&old, &new)
    }

    #[test]
    fn numbers_strings_and_vectors() {
        assert_eq!(merge(Merge::Sum, 250u8, 5), Ok(255));
        assert!(merge(Merge::Sum, 250u8, 6).is_err());
        assert_eq!(merge(Merge::Max, -3i64, -5), Ok(-3));
        assert_eq!(merge(Merge::Min, 1.5f64, f64::NAN), Ok(1.5));
        assert_eq!(merge(Merge::Sum, 1.5f32, 2.0), Ok(3.5));
        let joined = merge(Merge::Append, "a".repeat(100), "b".repeat(100));
        assert_eq!(joined, Ok("a".repeat(100) + &"b".repeat(100)));
        let items = merge(Merge::Append, vec![(1u64, true)], vec![(300, false)]);
        assert_eq!(items, Ok(vec![(1, true), (300, false)]));
        assert!(merge(Merge::Append, 1u64, 2).is_err());
        assert!(merge(Merge::Sum, String::new(), String::new()).is_err());
    }
}
