//! The encoding, read slowly: why bytes are not a value, and which kind of value a type is.
//!
//! [`decode`](crate::decode) is quick and says little when it fails: the codec drops what a `Deserialize` says. So the
//! bytes that it did not take are read again here, which names the field, the value and what was expected. The same
//! reader, asked without bytes, tells what a type begins with.

use std::fmt::Display;

use serde::de::value::U32Deserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};

/// Why the bytes are not a `T`: where, and what is wrong. `None` if they are one.
pub(crate) fn explain<T: DeserializeOwned>(bytes: &[u8]) -> Option<String> {
    let mut reader = Reader::new(Some(bytes));
    let failure = T::deserialize(&mut reader).err()?;
    let at = match failure.path.is_empty() {
        true => String::new(),
        false => {
            let path: String = failure.path.into_iter().rev().collect();
            format!("at {}: ", path.trim_start_matches('.'))
        }
    };
    let expects = |number: &str| failure.message.ends_with(&format!("expected {number}"));
    let advice = match expects("usize") || expects("isize") {
        true => {
            ", which has 32 bits in an uploaded type: write u64 or i64 in the fields and signatures of a shared type"
        }
        false => "",
    };
    Some(format!("{at}{}{advice}", failure.message))
}

/// The kind of value that a `T` is, as it is encoded: `i64`, `String`, `Vec<f64>`, the name of a struct or enum. Types whose
/// values are read as each other's have the same kind. `_` is one that the type does not tell.
pub(crate) fn kind<T: DeserializeOwned>() -> String {
    match T::deserialize(&mut Reader::new(None)) {
        Err(Failure {
            kind: Some(kind), ..
        }) => kind,
        _ => UNKNOWN.to_owned(),
    }
}

/// Any kind.
pub(crate) const UNKNOWN: &str = "_";

/// A kind is not looked into deeper than this: types may contain themselves.
const KIND_DEPTH_MAX: usize = 4;

/// Bytes are not explained deeper than this: they may come from anybody, and the stack has an end.
const DEPTH_MAX: usize = 100;

/// Types that ask what comes cannot be read.
pub(crate) const ASKS: &str = "it wants to know what comes before it reads it, as types with #[serde(untagged)], \
     #[serde(tag)] or #[serde(flatten)] and serde_json::Value do: the encoding does not say; use an enum without these \
     attributes, or carry it as a String of JSON";

const TOO_SHORT: &str = "the bytes end too early: they are those of another type, or cut off";
const OTHER_TYPE: &str = "the bytes are those of another type";

#[derive(Debug)]
struct Failure {
    message: String,
    /// The way to the value, from the inside.
    path: Vec<String>,
    /// Without bytes: the kind of value that was asked for.
    kind: Option<String>,
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<T: Display>(message: T) -> Failure {
        Failure {
            message: message.to_string(),
            path: Vec::new(),
            kind: None,
        }
    }
}

type Result<T, E = Failure> = std::result::Result<T, E>;

fn wrong<T>(message: impl Display) -> Result<T> {
    Err(de::Error::custom(message))
}

/// The end of a search for the kind of a type.
fn is_a<T>(kind: impl Into<String>) -> Result<T> {
    Err(Failure {
        kind: Some(kind.into()),
        ..de::Error::custom("")
    })
}

struct Reader<'de> {
    /// What is left of the bytes. `None`: the kind is wanted.
    bytes: Option<&'de [u8]>,
    depth: usize,
}

impl<'de> Reader<'de> {
    fn new(bytes: Option<&'de [u8]>) -> Reader<'de> {
        Reader { bytes, depth: 0 }
    }

    /// The next bytes of a value of this kind.
    fn take(&mut self, kind: &str, count: usize) -> Result<&'de [u8]> {
        let Some(bytes) = self.bytes else {
            return is_a(kind);
        };
        match bytes.split_at_checked(count) {
            Some((taken, rest)) => {
                self.bytes = Some(rest);
                Ok(taken)
            }
            None => wrong(TOO_SHORT),
        }
    }

    fn array<const N: usize>(&mut self, kind: &str) -> Result<[u8; N]> {
        let taken = self.take(kind, N)?;
        taken.try_into().or_else(|_| wrong(TOO_SHORT))
    }

    /// A number of this kind: seven bits of each byte, the lowest first.
    fn varint(&mut self, kind: &str, max: u128) -> Result<u128> {
        let mut number = 0u128;
        for shift in (0..u128::BITS).step_by(7) {
            let [byte] = self.array(kind)?;
            let bits = u128::from(byte & 0x7f);
            if bits > max >> shift {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        wrong(format!("a number is too large for a {kind}"))
    }

    fn signed(&mut self, kind: &str, max: u128) -> Result<i128> {
        let number = self.varint(kind, max)?;
        Ok((number >> 1) as i128 ^ -((number & 1) as i128))
    }

    fn sized(&mut self, kind: &str) -> Result<&'de [u8]> {
        let length = self.varint(kind, usize::MAX as u128)?;
        self.take(kind, length as usize)
    }

    fn text(&mut self, kind: &str) -> Result<&'de str> {
        let bytes = self.sized(kind)?;
        std::str::from_utf8(bytes).or_else(|_| wrong(OTHER_TYPE))
    }

    /// What `inside` says of the part of a value of the kind `outside`.
    fn inside<T>(
        &mut self,
        outside: impl FnOnce(&str) -> String,
        inside: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        if self.bytes.is_none() && self.depth == KIND_DEPTH_MAX {
            return is_a(UNKNOWN);
        }
        let mut result = self.deeper(inside);
        if let Err(Failure {
            kind: Some(kind), ..
        }) = &mut result
        {
            *kind = outside(kind);
        }
        result
    }

    /// What `inside` says of a part, unless that is too deep.
    fn deeper<T>(&mut self, inside: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == DEPTH_MAX {
            return wrong(OTHER_TYPE);
        }
        self.depth += 1;
        let result = inside(self);
        self.depth -= 1;
        result
    }

    fn parts<'a>(&'a mut self, names: Names, left: usize) -> Parts<'a, 'de> {
        Parts {
            reader: self,
            names,
            left,
            next: 0,
        }
    }
}

/// How the parts of a value are called.
#[derive(Clone, Copy)]
enum Names {
    Fields(&'static str, &'static [&'static str]),
    Tuple,
    Items,
}

struct Parts<'a, 'de> {
    reader: &'a mut Reader<'de>,
    names: Names,
    left: usize,
    next: usize,
}

impl<'de> Parts<'_, 'de> {
    fn name(&self, index: usize) -> String {
        match self.names {
            Names::Fields(of, fields) => match fields.get(index) {
                Some(field) => format!("{of}.{field}"),
                None => of.to_owned(),
            },
            Names::Tuple => format!(".{index}"),
            Names::Items => format!("[{index}]"),
        }
    }

    fn part<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value> {
        let index = self.next;
        self.next += 1;
        let part = seed.deserialize(&mut *self.reader);
        part.map_err(|mut failure| {
            let name = self.name(index);
            match failure.path.last_mut() {
                // The part is a struct, whose name is that of the type.
                Some(inner) if !inner.starts_with(['.', '[']) => {
                    let field = inner.split_once('.').map_or("", |(_, field)| field);
                    *inner = format!("{name}.{field}");
                }
                _ => failure.path.push(name),
            }
            failure
        })
    }
}

impl<'de> SeqAccess<'de> for Parts<'_, 'de> {
    type Error = Failure;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.part(seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> MapAccess<'de> for Parts<'_, 'de> {
    type Error = Failure;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let key = seed.deserialize(&mut *self.reader);
        key.map(Some).map_err(|mut failure| {
            failure.path.push(format!("[key {}]", self.next));
            failure
        })
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value> {
        self.part(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

struct Variant<'a, 'de> {
    reader: &'a mut Reader<'de>,
    name: &'static str,
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Failure;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self)> {
        let index = self.reader.varint(self.name, u32::MAX.into())? as u32;
        let index: U32Deserializer<Failure> = index.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Failure;

    fn unit_variant(self) -> Result<()> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value> {
        seed.deserialize(self.reader)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value> {
        visitor.visit_seq(self.reader.parts(Names::Tuple, len))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        let names = Names::Fields(self.name, fields);
        visitor.visit_seq(self.reader.parts(names, fields.len()))
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $read:ident $number:ty, $max:ty;)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            let number = self.$read(stringify!($number), <$max>::MAX.into())?;
            visitor.$visit(number as $number)
        }
    )+};
}

macro_rules! fixed {
    ($($method:ident $visit:ident $number:ty;)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            let bytes = self.array(stringify!($number))?;
            visitor.$visit(<$number>::from_le_bytes(bytes))
        }
    )+};
}

/// Types that ask what comes, which the encoding does not say.
macro_rules! asks {
    ($($method:ident)+) => {$(
        fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
            match self.bytes {
                None => is_a(UNKNOWN),
                Some(_) => wrong(ASKS),
            }
        }
    )+};
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Failure;

    fixed! {
        deserialize_u8 visit_u8 u8;
        deserialize_i8 visit_i8 i8;
        deserialize_f32 visit_f32 f32;
        deserialize_f64 visit_f64 f64;
    }

    numbers! {
        deserialize_u16 visit_u16 varint u16, u16;
        deserialize_u32 visit_u32 varint u32, u32;
        deserialize_u64 visit_u64 varint u64, u64;
        deserialize_u128 visit_u128 varint u128, u128;
        deserialize_i16 visit_i16 signed i16, u16;
        deserialize_i32 visit_i32 signed i32, u32;
        deserialize_i64 visit_i64 signed i64, u64;
        deserialize_i128 visit_i128 signed i128, u128;
    }

    asks! { deserialize_any deserialize_identifier deserialize_ignored_any }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.array("bool")? {
            [0] => visitor.visit_bool(false),
            [1] => visitor.visit_bool(true),
            _ => wrong(OTHER_TYPE),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let mut text = self.text("char")?.chars();
        match (text.next(), text.next()) {
            (Some(one), None) => visitor.visit_char(one),
            _ => wrong(OTHER_TYPE),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_borrowed_str(self.text("String")?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_borrowed_bytes(self.sized("Vec<u8>")?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let is_some = match self.bytes {
            None => true,
            Some(_) => match self.array("Option")? {
                [0] => false,
                [1] => true,
                _ => return wrong(OTHER_TYPE),
            },
        };
        match is_some {
            true => self.inside(
                |kind| format!("Option<{kind}>"),
                |reader| visitor.visit_some(reader),
            ),
            false => visitor.visit_none(),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.take("()", 0)?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        self.take(name, 0)?;
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        self.inside(str::to_owned, |reader| visitor.visit_newtype_struct(reader))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let length = match self.bytes {
            None => 1,
            Some(_) => self.varint("Vec", usize::MAX as u128)? as usize,
        };
        self.inside(
            |kind| format!("Vec<{kind}>"),
            |reader| visitor.visit_seq(reader.parts(Names::Items, length)),
        )
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value> {
        let outside = |first: &str| match len {
            1 => format!("({first},)"),
            2..=4 => format!("({first}{})", ", _".repeat(len - 1)),
            _ => format!("({first}, ..{len})"),
        };
        if len == 0 {
            self.take("()", 0)?;
        }
        self.inside(outside, |reader| {
            visitor.visit_seq(reader.parts(Names::Tuple, len))
        })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value> {
        self.take(name, 0)?;
        self.deeper(|reader| visitor.visit_seq(reader.parts(Names::Tuple, len)))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let length = match self.bytes {
            None => 1,
            Some(_) => self.varint("Map", usize::MAX as u128)? as usize,
        };
        self.inside(
            |kind| format!("Map<{kind}, _>"),
            |reader| visitor.visit_map(reader.parts(Names::Items, length)),
        )
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.take(name, 0)?;
        let names = Names::Fields(name, fields);
        self.deeper(|reader| visitor.visit_seq(reader.parts(names, fields.len())))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.deeper(|reader| visitor.visit_enum(Variant { reader, name }))
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap, HashSet};
    use std::net::Ipv4Addr;
    use std::num::NonZeroU8;
    use std::path::PathBuf;

    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::encode;

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Point {
        x: f64,
        name: String,
        more: Vec<Inner>,
    }

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Inner(u32, Small);

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Small {
        size: NonZeroU8,
    }

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    enum Shape {
        Nothing,
        One(u64),
        Two(i64, char),
        Named {
            flag: bool,
            list: BTreeMap<String, Option<i8>>,
        },
    }

    #[derive(Deserialize)]
    struct Wrapped(#[allow(dead_code, reason = "only its type is looked at")] i64);

    #[derive(Deserialize)]
    struct Endless(#[allow(dead_code, reason = "only its type is looked at")] Vec<Endless>);

    /// The reader takes what the codec takes.
    fn agrees<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: T) {
        let bytes = encode(&value).unwrap();
        let mut reader = Reader::new(Some(&bytes));
        assert_eq!(T::deserialize(&mut reader).unwrap(), value);
        assert_eq!(reader.bytes, Some(&[][..]));
        for end in 0..bytes.len() {
            let cut = &bytes[..end];
            assert_eq!(
                explain::<T>(cut).is_none(),
                postcard::take_from_bytes::<T>(cut).is_ok(),
                "{value:?} to {end}"
            );
        }
    }

    #[test]
    fn all_that_is_encoded_is_read() {
        agrees((1u8, -2i8, 300u16, -400i16, 70_000u32, -80_000i32));
        agrees((u64::MAX, i64::MIN, u128::MAX, i128::MIN, 0u128, -1i64));
        agrees((1.5f32, -0.0f64, true, 'é', "text".to_owned(), ()));
        agrees([Shape::Nothing, Shape::One(7), Shape::Two(-1, 'x')]);
        agrees(Shape::Named {
            flag: true,
            list: [("a".to_owned(), None), ("b".to_owned(), Some(-1))].into(),
        });
        agrees(HashMap::from([(1u64, vec![Some(2usize)])]));
        agrees(serde_bytes::ByteBuf::from(vec![1, 2, 3]));
        agrees(Point {
            x: 1.0,
            name: "p".to_owned(),
            more: vec![Inner(
                1,
                Small {
                    size: NonZeroU8::MIN,
                },
            )],
        });
    }

    #[test]
    fn what_is_wrong_is_said_and_where() {
        let point = (1.0, "p", vec![(1u32, 1u8), (2, 0)]);
        let why = explain::<(u8, Point)>(&encode(&(7u8, point)).unwrap()).unwrap();
        assert!(why.starts_with("at 1.more[1].1.size: "), "{why}");
        assert!(why.contains("nonzero"), "{why}");
        let why = explain::<Point>(&encode(&(1.0, "p", 3u8)).unwrap()).unwrap();
        assert!(why.starts_with("at Point.more[0].0: "), "{why}");
        assert!(why.contains("end too early"), "{why}");
        let why = explain::<Shape>(&[9]).unwrap();
        assert!(why.contains("variant index"), "{why}");
        let why = explain::<u16>(&encode(&70_000u32).unwrap()).unwrap();
        assert_eq!(why, "a number is too large for a u16");
    }

    #[test]
    fn the_stack_is_deeper_than_an_explanation() {
        #[derive(Deserialize, Debug)]
        enum Chain {
            #[allow(dead_code, reason = "only its type is looked at")]
            More(Box<Chain>),
            End,
        }
        // A chain that is cut off, and one that ends in what is no variant.
        for bytes in [vec![0; 10_000], [vec![0; 50], vec![9]].concat()] {
            assert!(explain::<Chain>(&bytes).is_some());
        }
        assert!(explain::<Chain>(&[0, 0, 1]).is_none());
    }

    /// As where an uploaded type runs.
    #[test]
    fn a_number_that_32_bits_do_not_hold_has_advice() {
        #[derive(Debug)]
        struct Usize32;
        impl<'de> Deserialize<'de> for Usize32 {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let number = u64::deserialize(deserializer)?;
                let unexpected = de::Unexpected::Unsigned(number);
                Err(de::Error::invalid_value(unexpected, &"usize"))
            }
        }
        #[derive(Deserialize, Debug)]
        #[allow(dead_code, reason = "no value of it is made")]
        struct Sizes {
            first: u64,
            largest: Usize32,
        }
        let why = explain::<Sizes>(&encode(&(1u64, 5_000_000_000u64)).unwrap()).unwrap();
        assert!(why.starts_with("at Sizes.largest: "), "{why}");
        assert!(
            why.contains("5000000000") && why.contains("write u64"),
            "{why}"
        );
    }

    #[test]
    fn a_kind_is_what_is_encoded() {
        assert_eq!(kind::<i64>(), "i64");
        assert_eq!(kind::<Wrapped>(), "i64");
        assert_eq!(kind::<usize>(), "u64");
        assert_eq!(kind::<PathBuf>(), "String");
        assert_eq!(kind::<()>(), "()");
        assert_eq!(kind::<Option<Vec<f64>>>(), "Option<Vec<f64>>");
        assert_eq!(kind::<HashSet<String>>(), "Vec<String>");
        assert_eq!(kind::<BTreeMap<u8, bool>>(), "Map<u8, _>");
        assert_eq!(kind::<(f64, String)>(), "(f64, _)");
        assert_eq!(kind::<[u8; 16]>(), "(u8, ..16)");
        assert_eq!(kind::<serde_bytes::ByteBuf>(), "Vec<u8>");
        assert_eq!(kind::<Point>(), "Point");
        assert_eq!(kind::<Shape>(), "Shape");
        assert_eq!(kind::<Ipv4Addr>(), "(u8, _, _, _)");
        assert_eq!(kind::<Endless>(), "Vec<Vec<_>>");
        assert_eq!(kind::<serde_json::Value>(), "_");
    }
}
