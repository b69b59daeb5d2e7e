//! What the encoding needs beside serde's own serializers: equal values have equal encodings, also where a collection has no order;
//! values that leave fields out are refused, and so are locks and cells in a value.
//!
//! Of values that leave fields out: the encoding has no names: whoever decodes a value takes the next field for the one that was
//! left out, and gets other values, silently. `#[serde(skip_serializing_if)]` does that. (A field that is always left out is
//! left out at both ends, and does no harm.)

use std::any::type_name;
use std::cell::Cell;
use std::fmt::{Debug, Display};

use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// Why a value is not encoded, although serde could.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Flaw {
    /// A field was left out: that of this type, and its name.
    LeftOut(&'static str, &'static str),
    /// A lock or cell of the standard library, this type, is in the value.
    Cell(&'static str),
}

pub(crate) type Flaws = Cell<Option<Flaw>>;

/// A value that notes a flaw, and fails then.
pub(crate) struct Complete<'a, T: ?Sized>(pub &'a T, pub &'a Flaws);

impl<T: Serialize + ?Sized> Serialize for Complete<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if is_cell::<T>() {
            self.1.set(Some(Flaw::Cell(type_name::<T>())));
            return Err(S::Error::custom("a lock or cell"));
        }
        let serialized = self.0.serialize(Checked(serializer, self.1));
        serialized.map_err(|Noted(error)| error)
    }
}

thread_local! {
    static REFUSAL: Cell<Option<String>> = const { Cell::new(None) };
}

/// The words of the last `Serialize` of this thread that refused its value: the codec drops them.
pub(crate) fn take_refusal() -> Option<String> {
    REFUSAL.take()
}

/// An error of a serializer. One that a `Serialize` makes leaves its words behind.
#[derive(Debug)]
struct Noted<E>(E);

impl<E: Display> Display for Noted<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<E: Debug + Display> std::error::Error for Noted<E> {}

impl<E: serde::ser::Error> serde::ser::Error for Noted<E> {
    fn custom<T: Display>(message: T) -> Self {
        let message = message.to_string();
        let error = E::custom(&message);
        REFUSAL.set(Some(message));
        Noted(error)
    }
}

/// A serializer that wraps all values inside.
struct Checked<'a, S>(S, &'a Flaws);

/// A part of a value: of this type, if that has a name.
struct Part<'a, S> {
    inner: S,
    flaws: &'a Flaws,
    name: &'static str,
}

macro_rules! forward {
    ($($method:ident($kind:ty)),+ $(,)?) => {
        $(#[inline]
        fn $method(self, value: $kind) -> Result<S::Ok, Self::Error> {
            self.0.$method(value).map_err(Noted)
        })+
    };
}

impl<'a, S> Checked<'a, S> {
    fn part<P>(flaws: &'a Flaws, name: &'static str) -> impl FnOnce(P) -> Part<'a, P> {
        move |inner| Part { inner, flaws, name }
    }
}

impl<'a, S: Serializer> Serializer for Checked<'a, S> {
    type Ok = S::Ok;
    type Error = Noted<S::Error>;
    type SerializeSeq = Part<'a, S::SerializeSeq>;
    type SerializeTuple = Part<'a, S::SerializeTuple>;
    type SerializeTupleStruct = Part<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Part<'a, S::SerializeTupleVariant>;
    type SerializeMap = Part<'a, S::SerializeMap>;
    type SerializeStruct = Part<'a, S::SerializeStruct>;
    type SerializeStructVariant = Part<'a, S::SerializeStructVariant>;

    forward!(
        serialize_bool(bool),
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_i64(i64),
        serialize_i128(i128),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64),
        serialize_u128(u128),
        serialize_f32(f32),
        serialize_f64(f64),
        serialize_char(char),
        serialize_str(&str),
        serialize_bytes(&[u8]),
        serialize_unit_struct(&'static str),
    );

    fn serialize_none(self) -> Result<S::Ok, Self::Error> {
        self.0.serialize_none().map_err(Noted)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, Self::Error> {
        let value = &Complete(value, self.1);
        self.0.serialize_some(value).map_err(Noted)
    }

    fn serialize_unit(self) -> Result<S::Ok, Self::Error> {
        self.0.serialize_unit().map_err(Noted)
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, Self::Error> {
        let inner = self.0.serialize_unit_variant(name, index, variant);
        inner.map_err(Noted)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, Self::Error> {
        let value = &Complete(value, self.1);
        let inner = self.0.serialize_newtype_struct(name, value);
        inner.map_err(Noted)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, Self::Error> {
        let value = &Complete(value, self.1);
        self.0
            .serialize_newtype_variant(name, index, variant, value)
            .map_err(Noted)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, Self::Error> {
        let inner = self.0.serialize_seq(len).map_err(Noted)?;
        Ok(Self::part(self.1, "")(inner))
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, Self::Error> {
        let inner = self.0.serialize_tuple(len).map_err(Noted)?;
        Ok(Self::part(self.1, "")(inner))
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, Self::Error> {
        let inner = self.0.serialize_tuple_struct(name, len).map_err(Noted)?;
        Ok(Self::part(self.1, name)(inner))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, Self::Error> {
        let part = Self::part(self.1, variant);
        self.0
            .serialize_tuple_variant(name, index, variant, len)
            .map(part)
            .map_err(Noted)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, Self::Error> {
        let inner = self.0.serialize_map(len).map_err(Noted)?;
        Ok(Self::part(self.1, "")(inner))
    }

    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStruct, Self::Error> {
        let inner = self.0.serialize_struct(name, len).map_err(Noted)?;
        Ok(Self::part(self.1, name)(inner))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, Self::Error> {
        let part = Self::part(self.1, variant);
        self.0
            .serialize_struct_variant(name, index, variant, len)
            .map(part)
            .map_err(Noted)
    }

    fn collect_seq<I>(self, items: I) -> Result<S::Ok, Self::Error>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        let is_unordered = is_unordered::<I>();
        let items = items.into_iter();
        if !is_unordered {
            let mut seq = self.serialize_seq(exact(items.size_hint()))?;
            for item in items {
                seq.serialize_element(&item)?;
            }
            return seq.end();
        }
        let items = sorted(items, |item| postcard::to_allocvec(&Complete(item, self.1)))?;
        let mut seq = self.serialize_seq(Some(items.len()))?;
        for item in items {
            seq.serialize_element(&item)?;
        }
        seq.end()
    }

    fn collect_map<K, V, I>(self, entries: I) -> Result<S::Ok, Self::Error>
    where
        K: Serialize,
        V: Serialize,
        I: IntoIterator<Item = (K, V)>,
    {
        let is_unordered = is_unordered::<I>();
        let entries = entries.into_iter();
        if !is_unordered {
            let mut map = self.serialize_map(exact(entries.size_hint()))?;
            for (key, value) in entries {
                map.serialize_entry(&key, &value)?;
            }
            return map.end();
        }
        let entries = sorted(entries, |(key, _)| {
            postcard::to_allocvec(&Complete(key, self.1))
        })?;
        let mut map = self.serialize_map(Some(entries.len()))?;
        for (key, value) in entries {
            map.serialize_entry(&key, &value)?;
        }
        map.end()
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, Self::Error> {
        self.0.collect_str(value).map_err(Noted)
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

/// Whether a type is a lock, an atomic number or a cell of the standard library, perhaps behind a pointer. It would be encoded as
/// the value in it, and each end would have one of its own. (What the macros see of a signature they refuse themselves.)
#[inline(always)]
fn is_cell<T: ?Sized>() -> bool {
    // The only way to look at a field's type; the compiler knows the name, and so the answer, for each type.
    const POINTERS: [&str; 4] = [
        "&",
        "alloc::boxed::Box<",
        "alloc::rc::Rc<",
        "alloc::sync::Arc<",
    ];
    const CELLS: [&str; 3] = ["core::cell::", "core::sync::atomic::", "std::sync::"];
    let mut name = type_name::<T>();
    while let Some(inner) = POINTERS
        .iter()
        .find_map(|pointer| name.strip_prefix(pointer))
    {
        name = inner;
    }
    CELLS.iter().any(|cell| name.starts_with(cell))
}

/// Whether a collection has its items in an order that says nothing: a `HashMap` or `HashSet`, of the standard library or of
/// `hashbrown`. Its items are sorted, so that equal collections have equal encodings, on all machines and in all attempts of
/// a thread.
fn is_unordered<I>() -> bool {
    // The only way to tell a set from a vector, which is serialized by the same call; a test holds on to it.
    let name = type_name::<I>();
    name.starts_with("&std::collections::hash::") || name.starts_with("&hashbrown::")
}

/// The number of items, if it is known.
fn exact(size: (usize, Option<usize>)) -> Option<usize> {
    let (at_least, at_most) = size;
    at_most.filter(|at_most| *at_most == at_least)
}

/// The items in the order of their keys' encodings.
fn sorted<T, E: serde::ser::Error>(
    items: impl Iterator<Item = T>,
    key: impl Fn(&T) -> postcard::Result<Vec<u8>>,
) -> Result<Vec<T>, Noted<E>> {
    // The error of the inner encoding has left its words behind.
    let keyed = items.map(|item| Ok((key(&item).map_err(|error| Noted(E::custom(error)))?, item)));
    let mut keyed = keyed.collect::<Result<Vec<_>, Noted<E>>>()?;
    keyed.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(keyed.into_iter().map(|(_, item)| item).collect())
}

macro_rules! elements {
    ($($kind:ident :: $method:ident),+ $(,)?) => {
        $(impl<S: $kind> $kind for Part<'_, S> {
            type Ok = S::Ok;
            type Error = Noted<S::Error>;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Self::Error> {
                let value = &Complete(value, self.flaws);
                self.inner.$method(value).map_err(Noted)
            }

            fn end(self) -> Result<S::Ok, Self::Error> {
                self.inner.end().map_err(Noted)
            }
        })+
    };
}

elements!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field,
);

impl<S: SerializeMap> SerializeMap for Part<'_, S> {
    type Ok = S::Ok;
    type Error = Noted<S::Error>;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Self::Error> {
        let key = &Complete(key, self.flaws);
        self.inner.serialize_key(key).map_err(Noted)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Self::Error> {
        let value = &Complete(value, self.flaws);
        self.inner.serialize_value(value).map_err(Noted)
    }

    fn end(self) -> Result<S::Ok, Self::Error> {
        self.inner.end().map_err(Noted)
    }
}

macro_rules! fields {
    ($($kind:ident),+) => {
        $(impl<S: $kind> $kind for Part<'_, S> {
            type Ok = S::Ok;
            type Error = Noted<S::Error>;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), Self::Error> {
                let value = &Complete(value, self.flaws);
                self.inner.serialize_field(key, value).map_err(Noted)
            }

            fn skip_field(&mut self, key: &'static str) -> Result<(), Self::Error> {
                self.flaws.set(Some(Flaw::LeftOut(self.name, key)));
                Err(Noted(S::Error::custom("a field is left out")))
            }

            fn end(self) -> Result<S::Ok, Self::Error> {
                self.inner.end().map_err(Noted)
            }
        })+
    };
}

fields!(SerializeStruct, SerializeStructVariant);
