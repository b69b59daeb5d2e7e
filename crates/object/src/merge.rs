//! Merges: operations on values that a server holds without knowing their type.
//!
//! The values of a [`Map`](crate::collections::Map) are opaque bytes to its server. To merge into one, a call
//! says what kind of value it is. Which Rust types are of which kind is known where the call is made.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec::{decode, encode};
use crate::float::Float;
use crate::{Element, Error, Result};

/// How a value is merged into the one that is there. Where that makes a NaN, it is always the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Merge {
    /// Numbers: their sum. It is an error if it does not fit into the type.
    Sum,
    /// Numbers: the larger one; of a number and a NaN the number. 0.0 is larger than -0.0.
    Max,
    /// Numbers: the smaller one; of a number and a NaN the number. -0.0 is smaller than 0.0.
    Min,
    /// Strings and vectors: the old one, then the new one.
    Append,
}

/// The kind of a value, as far as a merge must know.
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
    /// A sequence of bytes that is a string.
    Text,
}

/// Types that can be merged: integers and floating-point numbers (sum, max, min), `String` and `Vec<T>`
/// (append).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be merged",
    note = "numbers, `String` and `Vec<T>` can; for other merges write a #[shared] type with a method"
)]
pub trait Mergeable: Serialize + DeserializeOwned {
    /// The kind of its values, which the server must know.
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
    f32: F32 f64: F64 String: Text
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
        by.check()?;
        Ok(by)
    }

    /// Whether values of this kind have this merge.
    fn check(self) -> Result<()> {
        let appended = matches!(self.kind, Kind::Sequence | Kind::Text);
        match (self.how == Merge::Append) == appended {
            true => Ok(()),
            false => Err(self.mismatch()),
        }
    }

    /// The value of a key that has had none, if it is of this kind.
    pub(crate) fn first<V: Element>(self, value: &V) -> Result<V> {
        self.merge(value, std::iter::empty())
    }

    /// `old` and all that is `new`, merged one after the other.
    pub(crate) fn merge<'a, V: Element + 'a>(
        self,
        old: &'a V,
        new: impl Iterator<Item = &'a V>,
    ) -> Result<V> {
        self.check()?;
        let merged = match self.kind {
            Kind::I8 => self.integers::<i8, V>(old, new),
            Kind::I16 => self.integers::<i16, V>(old, new),
            Kind::I32 => self.integers::<i32, V>(old, new),
            Kind::I64 => self.integers::<i64, V>(old, new),
            Kind::U8 => self.integers::<u8, V>(old, new),
            Kind::U16 => self.integers::<u16, V>(old, new),
            Kind::U32 => self.integers::<u32, V>(old, new),
            Kind::U64 => self.integers::<u64, V>(old, new),
            Kind::F32 => self.floats::<f32, V>(old, new),
            Kind::F64 => self.floats::<f64, V>(old, new),
            Kind::Sequence => self.sequences(old, new),
            Kind::Text => self.texts(old, new),
        }?;
        V::unseal(merged.into())
    }

    fn integers<'a, N: Integer, V: Element + 'a>(
        self,
        old: &'a V,
        new: impl Iterator<Item = &'a V>,
    ) -> Result<Vec<u8>> {
        fold(old, new, |old: N, new: N| match self.how {
            Merge::Sum => old.add(new).ok_or_else(|| {
                refused("the sum does not fit into the type of the values".to_owned())
            }),
            Merge::Max => Ok(old.max(new)),
            Merge::Min => Ok(old.min(new)),
            Merge::Append => Err(self.mismatch()),
        })
    }

    fn floats<'a, N: Float + Serialize + DeserializeOwned, V: Element + 'a>(
        self,
        old: &'a V,
        new: impl Iterator<Item = &'a V>,
    ) -> Result<Vec<u8>> {
        fold(old, new, |old: N, new: N| match self.how {
            Merge::Sum => Ok(old.plus(new)),
            Merge::Max => Ok(old.larger(new)),
            Merge::Min => Ok(old.smaller(new)),
            Merge::Append => Err(self.mismatch()),
        })
    }

    /// A sequence is its length and its items, so nothing is known of the items.
    fn sequences<'a, V: Element + 'a>(
        self,
        old: &'a V,
        new: impl Iterator<Item = &'a V>,
    ) -> Result<Vec<u8>> {
        if self.how != Merge::Append {
            return Err(self.mismatch());
        }
        let (mut len, mut items) = (0u64, Vec::new());
        for sequence in std::iter::once(old).chain(new) {
            let sequence = sequence.seal()?;
            let (more, rest) = length(sequence.bytes())?;
            len = len.checked_add(more).ok_or_else(|| {
                refused("the length does not fit: do all clients use the same type?".to_owned())
            })?;
            items.extend_from_slice(rest);
        }
        let mut merged = encode(&len)?;
        merged.append(&mut items);
        Ok(merged)
    }

    fn texts<'a, V: Element + 'a>(
        self,
        old: &'a V,
        new: impl Iterator<Item = &'a V>,
    ) -> Result<Vec<u8>> {
        fold(old, new, |old: String, new: String| match self.how {
            Merge::Append => Ok(old + &new),
            _ => Err(self.mismatch()),
        })
    }

    fn mismatch(self) -> Error {
        let values = match self.kind {
            Kind::Text => "texts are merged by append",
            Kind::Sequence => "vectors are merged by append",
            _ => "numbers are merged by sum, max or min",
        };
        let how = match self.how {
            Merge::Sum => "sum",
            Merge::Max => "max",
            Merge::Min => "min",
            Merge::Append => "append",
        };
        refused(format!("{values}, and not by {how}"))
    }
}

/// Decodes values, and encodes what they are together.
fn fold<'a, N: Serialize + DeserializeOwned, V: Element + 'a>(
    old: &V,
    mut new: impl Iterator<Item = &'a V>,
    merge: impl Fn(N, N) -> Result<N>,
) -> Result<Vec<u8>> {
    let number = |sealed: &V| value::<N>(sealed.seal()?.bytes());
    let merged = new.try_fold(number(old)?, |old, new| merge(old, number(new)?))?;
    encode(&merged)
}

fn value<V: DeserializeOwned>(bytes: &[u8]) -> Result<V> {
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

macro_rules! integers {
    ($($integer:ty)+) => {
        $(impl Integer for $integer {
            fn add(self, other: Self) -> Option<Self> {
                self.checked_add(other)
            }
        })+
    };
}

integers! { i8 i16 i32 i64 u8 u16 u32 u64 }

/// The quantity by which values are ordered. All values of one map are of one variant.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Integer(i128),
    Real(Real),
    Text(String),
}

/// Ordered by [`Float::rank`].
struct Real(f64);

impl Ord for Real {
    fn cmp(&self, other: &Real) -> Ordering {
        self.0.rank(other.0)
    }
}

impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Real) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Real {
    fn eq(&self, other: &Real) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Real {}

impl Rank {
    fn of(kind: Kind, bytes: &[u8]) -> Result<Rank> {
        Ok(match kind {
            Kind::I8 => Rank::Integer(value::<i8>(bytes)?.into()),
            Kind::I16 => Rank::Integer(value::<i16>(bytes)?.into()),
            Kind::I32 => Rank::Integer(value::<i32>(bytes)?.into()),
            Kind::I64 => Rank::Integer(value::<i64>(bytes)?.into()),
            Kind::U8 => Rank::Integer(value::<u8>(bytes)?.into()),
            Kind::U16 => Rank::Integer(value::<u16>(bytes)?.into()),
            Kind::U32 => Rank::Integer(value::<u32>(bytes)?.into()),
            Kind::U64 => Rank::Integer(value::<u64>(bytes)?.into()),
            Kind::F32 => Rank::Real(Real(value::<f32>(bytes)?.into())),
            Kind::F64 => Rank::Real(Real(value(bytes)?)),
            Kind::Text => Rank::Text(value(bytes)?),
            Kind::Sequence => return Err(unordered()),
        })
    }
}

fn unordered() -> Error {
    Error::BadArguments {
        what: "the search for the largest values".to_owned(),
        detail: "the values are vectors, of whose items the server knows no order; numbers and strings have one"
            .to_owned(),
    }
}

/// Merges each of `entries` into the value of its key, or inserts it if the key is new; all or, with an error,
/// none. Values of one key are merged in their order, all at once: a value to which much is appended is not
/// copied each time.
pub(crate) fn merge_into<K: Clone + Ord, V: Clone + Element>(
    there: &mut BTreeMap<K, V>,
    mut entries: Vec<(K, V)>,
    by: MergeBy,
) -> Result<()> {
    // Stable.
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    let same_key = entries.chunk_by(|(one, _), (other, _)| one == other);
    let merged = same_key.map(|entries| {
        let key = &entries[0].0;
        let given = entries.iter().map(|(_, value)| value);
        let mut values = there.get(key).into_iter().chain(given);
        let old = values.next().expect("a chunk is not empty");
        Ok((key.clone(), by.merge(old, values)?))
    });
    let merged = merged.collect::<Result<Vec<_>>>()?;
    there.extend(merged);
    Ok(())
}

/// The `count` largest of `entries` by their values, largest first; of equal ones, the first. An error if any
/// value is of another kind.
pub(crate) fn top<'a, K: Clone + 'a, V: Element + Clone + 'a>(
    entries: impl Iterator<Item = (&'a K, &'a V)>,
    count: u64,
    kind: Kind,
) -> Result<Vec<(K, V)>> {
    if kind == Kind::Sequence {
        return Err(unordered());
    }
    let ranked = entries.map(|(key, value)| {
        let rank = Rank::of(kind, value.seal()?.bytes())?;
        Ok((Reverse(rank), key, value))
    });
    let mut ranked = ranked.collect::<Result<Vec<_>>>()?;
    // Stable, so that of equal values the first comes first.
    ranked.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    Ok(ranked
        .into_iter()
        .take(usize::try_from(count).unwrap_or(usize::MAX))
        .map(|(_, key, value)| (key.clone(), value.clone()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Opaque;

    fn merge<V: Mergeable + Clone>(how: Merge, old: V, new: V) -> Result<V> {
        MergeBy::of::<V>(how)?.merge(&old, std::iter::once(&new))
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

    #[test]
    fn lengths_that_are_lies_are_refused() {
        let sealed = |bytes: Vec<u8>| Opaque::unseal(bytes.into()).unwrap();
        let long = sealed(encode(&u64::MAX).unwrap());
        let one = sealed(encode(&vec![1u8]).unwrap());
        for kind in [Kind::Sequence, Kind::Text] {
            let by = MergeBy {
                how: Merge::Append,
                kind,
            };
            for (old, new) in [(&long, &one), (&one, &long), (&long, &long)] {
                let merged = by.merge(old, std::iter::once(new));
                assert!(matches!(merged, Err(Error::BadArguments { .. })));
            }
        }
    }
}
